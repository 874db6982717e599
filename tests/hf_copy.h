// tests/hf_copy.h -- copies of golden folders, to be changed.
#ifndef TESTS_HF_COPY_H
#define TESTS_HF_COPY_H

#include <dirent.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "tests/temp_folder.h"

#define GOLDEN "tests/golden/hf/"

static inline void write_file(const char *path, const char *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(data, 1, size, f), size);
    ck_assert(!fclose(f));
}

// A copy of GOLDEN/name as a folder of its own.
static inline struct temp_folder copy_folder(const char *name)
{
    struct temp_folder f = temp_folder_open();
    char from[256];
    snprintf(from, sizeof from, GOLDEN "%s", name);
    DIR *dir = opendir(from);
    ck_assert_ptr_nonnull(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        char path[512], *data;
        size_t size;
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", from, e->d_name);
        ck_assert_int_eq(file_read(path, &data, &size, NULL), TLM_OK);
        write_file(temp_path(&f, e->d_name).text, data, size);
        free(data);
    }
    closedir(dir);
    return f;
}

// Sets config[key] to JSON text; NULL removes it.
static inline void edit_config(const struct temp_folder *f, const char *key, const char *text)
{
    json_t *config;
    struct temp_path path = temp_path(f, "config.json");
    ck_assert_int_eq(json_read_file(&config, path.text, NULL), TLM_OK);
    if (text)
        ck_assert(!json_object_set_new(config, key, json_loads(text, JSON_DECODE_ANY, NULL)));
    else
        json_object_del(config, key);
    ck_assert(!json_dump_file(config, path.text, 0));
    json_decref(config);
}

#endif

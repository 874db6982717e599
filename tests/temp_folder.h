// tests/temp_folder.h -- a folder for the files of one test, made before it and removed after it.
#ifndef TESTS_TEMP_FOLDER_H
#define TESTS_TEMP_FOLDER_H

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct temp_folder {
    char path[256];
};

// A path inside the folder.
struct temp_path {
    char text[512];
};

static inline struct temp_path temp_path(const struct temp_folder *f, const char *name)
{
    struct temp_path p;
    snprintf(p.text, sizeof p.text, "%s/%s", f->path, name);
    return p;
}

static inline struct temp_folder temp_folder_open(void)
{
    struct temp_folder f;
    const char *base = getenv("TMPDIR");
    snprintf(f.path, sizeof f.path, "%.200s/tinylm-test-XXXXXX", base && *base ? base : "/tmp");
    ck_assert_msg(mkdtemp(f.path) != NULL, "cannot make a folder like %s", f.path);
    return f;
}

// Removes the folder and the files in it, and returns how many files there were.
static inline int temp_folder_close(const struct temp_folder *f)
{
    int count = 0;
    DIR *dir = opendir(f->path);
    ck_assert_ptr_nonnull(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        if (e->d_name[0] == '.') continue;
        struct temp_path p = temp_path(f, e->d_name);
        ck_assert_int_eq(remove(p.text), 0);
        count++;
    }
    closedir(dir);
    ck_assert_int_eq(rmdir(f->path), 0);
    return count;
}

#endif

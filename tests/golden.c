#include "tests/golden.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "tests/tests.h"

static int32_t *read_line(FILE *f, int32_t *count)
{
    char *line = NULL;
    size_t size = 0;
    ck_assert_int_gt(getline(&line, &size, f), 0);
    int32_t *ids = malloc((strlen(line) + 1) * sizeof *ids);
    *count = 0;
    for (char *p = line, *end;; p = end) {
        long id = strtol(p, &end, 10);
        if (end == p) break;
        ids[(*count)++] = (int32_t)id;
    }
    free(line);
    return ids;
}

struct golden golden_read(const char *name)
{
    struct golden g = {0};
    char path[256];
    snprintf(path, sizeof path, "tests/golden/%s.ids", name);
    FILE *f = fopen(path, "r");
    ck_assert_msg(f != NULL, "%s is missing: run from the root of the repository", path);
    int32_t one;
    g.ids = read_line(f, &g.count);
    g.rows = read_line(f, &g.row_count);
    int32_t *context = read_line(f, &one);
    g.context = context[0];
    free(context);
    fclose(f);
    snprintf(path, sizeof path, "tests/golden/%s.logits", name);
    char *data;
    size_t size;
    ck_assert_int_eq(file_read(path, &data, &size, NULL), TLM_OK);
    int rows;
    const char *shape = size > 128 ? strstr(data + 10, "'shape': (") : NULL;
    ck_assert_ptr_nonnull(shape);
    ck_assert_int_eq(sscanf(shape, "'shape': (%d, %d)", &rows, &g.vocab), 2);
    size_t bytes = (size_t)rows * (size_t)g.vocab * 4;
    ck_assert_int_eq(rows, g.row_count);
    ck_assert_uint_eq(size, 128 + bytes);
    g.logits = malloc(bytes);
    memcpy(g.logits, data + 128, bytes);
    free(data);
    return g;
}

void golden_free(struct golden *g)
{
    free(g->ids), free(g->rows), free(g->logits);
    *g = (struct golden){0};
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char **golden_names(int *count)
{
    DIR *d = opendir("tests/golden");
    ck_assert_msg(d != NULL, "tests/golden is missing: run from the root of the repository");
    char **names = NULL;
    *count = 0;
    for (struct dirent *e; (e = readdir(d));) {
        const char *dot = strrchr(e->d_name, '.');
        if (!dot || strcmp(dot, ".logits")) continue;
        names = realloc(names, (size_t)(*count + 1) * sizeof *names);
        names[(*count)++] = strndup(e->d_name, (size_t)(dot - e->d_name));
    }
    closedir(d);
    qsort(names, (size_t)*count, sizeof *names, by_name);
    return names;
}

void golden_model_path(const char *name, char *path)
{
    const char *dash = strrchr(name, '-');
    snprintf(path, 256, "tests/golden/%.*s.gguf", (int)(dash - name), name);
}

struct tlm_model *open_model(const char *path, const char *isa)
{
    struct tlm_model *m;
    struct tlm_error err = {0};
    enum tlm_status s = tlm_model_open(&m, path, &(struct tlm_model_options){.isa = isa}, &err);
    ck_assert_msg(s == TLM_OK, "%s", err.text);
    return m;
}

struct tlm_session *open_session(const struct tlm_model *m, struct tlm_session_options options)
{
    struct tlm_session *s;
    struct tlm_error err = {0};
    enum tlm_status status = tlm_session_open(&s, m, &options, &err);
    ck_assert_msg(status == TLM_OK, "%s", err.text);
    return s;
}

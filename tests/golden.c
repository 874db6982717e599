#include "tests/golden.h"

#include <dirent.h>
#include <math.h>
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

char **golden_names(const char *folder, int *count)
{
    char path[256];
    snprintf(path, sizeof path, "tests/golden/%s", folder);
    DIR *d = opendir(path);
    ck_assert_msg(d != NULL, "%s is missing: run from the root of the repository", path);
    char **names = NULL;
    *count = 0;
    for (struct dirent *e; (e = readdir(d));) {
        const char *dot = strrchr(e->d_name, '.');
        if (!dot || strcmp(dot, ".logits")) continue;
        names = realloc(names, (size_t)(*count + 1) * sizeof *names);
        snprintf(path, sizeof path, "%s%s%.*s", folder, *folder ? "/" : "", (int)(dot - e->d_name),
                 e->d_name);
        names[(*count)++] = strdup(path);
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

// ---- agreement ----------------------------------------------------------------------------------------

struct compare {
    const struct golden *golden;
    int32_t next; // index into golden->rows
    double difference, norm, largest_difference, largest;
};

static int compare_row(void *user, size_t index, const float *logits)
{
    struct compare *c = user;
    const struct golden *g = c->golden;
    if (c->next == g->row_count || (size_t)g->rows[c->next] != index) return 0;
    const float *want = g->logits + (size_t)c->next++ * (size_t)g->vocab;
    for (int32_t i = 0; i < g->vocab; i++) {
        double d = (double)logits[i] - want[i];
        c->difference += d * d;
        c->norm += (double)want[i] * want[i];
        c->largest_difference = fmax(c->largest_difference, fabs(d));
        c->largest = fmax(c->largest, fabs(want[i]));
        if (isnan(d)) c->difference = NAN;
    }
    return 0;
}

void golden_check(const struct golden *g, const struct tlm_model *m, const char *what, int32_t batch,
                  double tolerance)
{
    ck_assert_int_eq(tlm_model_vocab_size(m), g->vocab);
    struct tlm_session *s = open_session(
        m, (struct tlm_session_options){
               .context = g->context, .threads = 2, .batch = batch, .kv_type_k = "f32", .kv_type_v = "f32"});
    struct compare c = {.golden = g};
    struct tlm_error err = {0};
    enum tlm_status status =
        tlm_session_logits_each(s, g->ids, (size_t)g->count, (size_t)g->rows[0], compare_row, &c, &err);
    ck_assert_msg(status == TLM_OK, "%s", err.text);
    ck_assert_int_eq(c.next, g->row_count);
    double off = sqrt(c.difference / c.norm);
    ck_assert_msg(off <= tolerance && c.largest_difference <= 10 * tolerance * c.largest,
                  "%s, isa %s, chunks of %d: off by %g of the norm, at most %g of %g", what, tlm_model_isa(m),
                  batch, off, c.largest_difference, c.largest);
    tlm_session_close(s);
}

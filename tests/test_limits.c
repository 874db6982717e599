// tests/test_limits.c -- static activations: limits from histograms, from the rows of a model, in its file, and in the products.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quant/methods/limits.h"
#include "quant/requantize.h"
#include "tests/golden.h"
#include "tests/kernels.h"
#include "tests/temp_folder.h"
#include "tests/tests.h"
#include "tests/tiny_model.h"

static struct temp_folder folder;
static struct tlm_error err;

#define OK(call) ck_assert_msg(!(call), "%s", err.text)

static void open_folder(void)
{
    folder = temp_folder_open();
}

static void close_folder(void)
{
    temp_folder_close(&folder);
}

// ---- histograms ---------------------------------------------------------------------------------------

enum { NUMBERS = 20000 };

// The error that codes within `limit` really have.
static double error_of(const float *x, double limit)
{
    double step = limit / 127, sum = 0;
    for (int i = 0; i < NUMBERS; i++) {
        double y = step * rint(fmax(-127, fmin(127, x[i] / step)));
        sum += (x[i] - y) * (x[i] - y);
    }
    return sum;
}

// Sums of draws, of which a few are large; kind 0: evenly spread.
START_TEST(limits_of_numbers)
{
    float *x = malloc(NUMBERS * sizeof *x);
    struct histogram *h = calloc(1, sizeof *h);
    double within = 0, least = INFINITY;
    for (int i = 0; i < NUMBERS; i++) {
        x[i] = random_signed(1, (uint64_t)i);
        for (int j = 2; j < 6 && _i; j++) x[i] += random_signed((uint64_t)j, (uint64_t)i);
        if (_i == 2 && i % 100 == 0) x[i] *= 20;
    }
    ck_assert(histogram_add(h, x, DTYPE_F32, NUMBERS / 2));
    ck_assert(histogram_add(h, x + NUMBERS / 2, DTYPE_F32, NUMBERS - NUMBERS / 2));
    for (int i = 0; i < NUMBERS; i++) within += fabsf(x[i]) <= histogram_share(h, 0.9);
    ck_assert(within / NUMBERS >= 0.9 && within / NUMBERS < 0.94);
    ck_assert(histogram_share(h, 1) == h->most);
    for (double limit = h->most; limit > h->most / 128; limit *= 0.97)
        least = fmin(least, error_of(x, limit));
    float found = histogram_least_error(h);
    ck_assert_msg(error_of(x, found) <= 1.05 * least, "limit %g of %g has an error of %g, another %g", found,
                  h->most, error_of(x, found), least);
    ck_assert(_i < 2 || found < h->most);
    x[7] = _i ? NAN : -INFINITY;
    ck_assert(!histogram_add(h, x, DTYPE_F32, NUMBERS));
    free(h);
    free(x);
}
END_TEST

// ---- models -------------------------------------------------------------------------------------------

enum { TOKENS = 60 };

static void collect(struct tlm_model *m, const int32_t *tokens, int32_t count, double percent,
                    struct limits *l, struct imatrix *im)
{
    struct threads *threads;
    struct layers layers;
    OK(threads_open(&threads, 2, &err));
    struct layers_config config = {tokens, 1, count, threads};
    OK(layers_open(&layers, m, &config, &err));
    OK(limits_collect(l, &layers, percent, NULL, NULL, &err));
    layers_close(&layers);
    OK(layers_open(&layers, m, &config, &err));
    OK(imatrix_collect(im, &layers, NULL, NULL, &err));
    layers_close(&layers);
    threads_close(threads);
}

// The largest number of all lies between the root of the largest mean square of a column and that of the largest sum of one.
static void check_golden(const char *path, const struct golden *g)
{
    struct tlm_model *m = open_model(path, "auto");
    struct limits all = {0}, least = {0};
    struct imatrix im = {0};
    collect(m, g->ids, g->count, 100, &all, &im);
    collect(m, g->ids, g->count, 0, &least, &im); // and the sums twice
    ck_assert_int_eq(all.count, least.count);
    ck_assert_int_gt(all.count, 0);
    for (int64_t i = 0; i < all.count; i++) {
        const char *name = all.items[i].name;
        const struct imatrix_entry *e = imatrix_find(&im, (struct gguf_string){name, strlen(name)});
        double mean = 0, sum = 0, square = (double)all.items[i].limit * all.items[i].limit;
        ck_assert_ptr_nonnull(e);
        for (int64_t k = 0; k < e->mats * e->cols; k++) {
            double rows = e->count[k / e->cols];
            if (rows > 0) mean = fmax(mean, e->sums[k] / rows);
            sum = fmax(sum, e->sums[k] / 2);
        }
        ck_assert_msg(square >= mean * (1 - 1e-5) && square <= sum * (1 + 1e-5),
                      "%s: %s: limit %g, roots %g and %g", path, name, all.items[i].limit, sqrt(mean),
                      sqrt(sum));
        ck_assert_str_eq(least.items[i].name, name);
        ck_assert(least.items[i].limit > 0 && least.items[i].limit <= all.items[i].limit);
    }
    limits_free(&all);
    limits_free(&least);
    imatrix_free(&im);
    tlm_model_close(m);
}

START_TEST(every_architecture_has_limits)
{
    static const char *const goldens[] = {"", "models"};
    int count;
    char **names = golden_names(goldens[_i], &count), last[256] = "";
    for (int i = 0; i < count; i++) {
        char path[256];
        golden_model_path(names[i], path);
        if (access(path, F_OK)) *strrchr(path, '.') = 0;
        struct golden g = golden_read(names[i]);
        if (strcmp(path, last)) check_golden(path, &g);
        golden_free(&g);
        snprintf(last, sizeof last, "%s", path);
        free(names[i]);
    }
    free(names);
}
END_TEST

// The file again, with these limits times `factor`.
static void write_limited(const char *from, const char *to, struct limits *l, float factor)
{
    struct gguf *in;
    struct gguf_writer *w;
    struct threads *threads;
    OK(gguf_open(&in, from, &err));
    enum dtype *types = calloc(in->tensor_count, sizeof *types);
    for (uint64_t i = 0; i < in->tensor_count; i++) types[i] = in->tensors[i].tensor.type;
    for (int64_t i = 0; i < l->count; i++) l->items[i].limit *= factor;
    OK(threads_open(&threads, 1, &err));
    OK(gguf_writer_open(&w, to, &err));
    gguf_copy_metadata(w, in);
    OK(limits_write(l, in, types, w, &err));
    struct requantize r = {.in = in, .types = types, .threads = threads};
    OK(requantize_run(&r, w, &err));
    OK(gguf_writer_finish(w, &err));
    gguf_writer_close(w);
    threads_close(threads);
    free(types);
    gguf_close(in);
}

static int keep_row(void *user, size_t index, const float *logits)
{
    memcpy((float *)user + index * TINY_VOCAB, logits, TINY_VOCAB * sizeof *logits);
    return 0;
}

static float *logits_of(const char *path, const char *isa, const int32_t *tokens, int32_t batch)
{
    struct tlm_model *m = open_model(path, isa);
    struct tlm_session *s;
    struct tlm_session_options o = {.context = TOKENS, .batch = batch, .threads = 2};
    float *logits = malloc(sizeof *logits * TOKENS * TINY_VOCAB);
    OK(tlm_session_open(&s, m, &o, &err));
    OK(tlm_session_logits_each(s, tokens, TOKENS, 0, keep_row, logits, &err));
    tlm_session_close(s);
    tlm_model_close(m);
    return logits;
}

static double apart(const float *a, const float *b)
{
    double sum = 0, all = 0;
    for (int i = 0; i < TOKENS * TINY_VOCAB; i++) {
        sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        all += (double)b[i] * b[i];
    }
    return sqrt(sum / all);
}

// Near the model without them, on every tier; the same bits for any number of columns; and really used: limits that are far too small are seen,
// but not where products are made of floats.
START_TEST(products_go_by_limits)
{
    static const enum dtype types[] = {DTYPE_Q8_0, DTYPE_Q4_K};
    static const int32_t batches[] = {1, 7, 33};
    struct temp_path plain = temp_path(&folder, "plain.gguf"), within = temp_path(&folder, "within.gguf"),
                     small = temp_path(&folder, "small.gguf");
    struct limits l = {0};
    struct imatrix im = {0};
    int32_t tokens[TOKENS];
    for (int i = 0; i < TOKENS; i++) tokens[i] = (i * 7919 + 13) % TINY_VOCAB;
    tiny_model_write(plain.text, &(struct tiny_model){.type = types[_i], .seed = 5});
    struct tlm_model *m = open_model(plain.text, NULL);
    collect(m, tokens, TOKENS, 0, &l, &im);
    tlm_model_close(m);
    write_limited(plain.text, within.text, &l, 1);
    write_limited(plain.text, small.text, &l, 0.01f);
    EACH_ISA (isa, ISA_REF) {
        const char *name = isa_name(isa);
        float *floats = logits_of(plain.text, "ref", tokens, TOKENS);
        float *a = logits_of(plain.text, name, tokens, TOKENS),
              *b = logits_of(within.text, name, tokens, TOKENS),
              *c = logits_of(small.text, name, tokens, TOKENS);
        bool whole = isa > ISA_REF; // products in whole numbers
        ck_assert_msg(apart(b, floats) <= 2 * apart(a, floats), "%s: %g apart, %g without limits", name,
                      apart(b, floats), apart(a, floats));
        ck_assert(whole ? apart(b, a) > 0 && apart(c, a) > 0.2 : apart(c, a) == 0);
        for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
            float *again = logits_of(within.text, name, tokens, batches[i]);
            ck_assert_mem_eq(again, b, sizeof *b * TOKENS * TINY_VOCAB);
            free(again);
        }
        free(floats), free(a), free(b), free(c);
    }
    limits_free(&l);
    imatrix_free(&im);
}
END_TEST

// ---- files that cannot be -----------------------------------------------------------------------------

static void expect_refused(const char *path, const struct gguf_string *names, uint64_t name_count,
                           const float *limits, uint64_t count, const char *message)
{
    struct gguf *in;
    struct gguf_writer *w;
    struct tlm_model *m;
    OK(gguf_open(&in, "tests/golden/llama-plain.gguf", &err));
    OK(gguf_writer_open(&w, path, &err));
    gguf_copy_metadata(w, in);
    if (names) gguf_set_string_array(w, MODEL_KEY_LIMITED, names, name_count);
    if (limits) gguf_set_array(w, MODEL_KEY_LIMITS, GGUF_F32, limits, count);
    for (uint64_t i = 0; i < in->tensor_count; i++) {
        char name[WEIGHT_NAME];
        snprintf(name, sizeof name, "%.*s", (int)in->tensors[i].name.length, in->tensors[i].name.data);
        gguf_add_tensor(w, name, &in->tensors[i].tensor);
    }
    for (uint64_t i = 0; i < in->tensor_count; i++)
        OK(gguf_write_data(w, in->tensors[i].tensor.data, tensor_bytes(&in->tensors[i].tensor), &err));
    OK(gguf_writer_finish(w, &err));
    gguf_writer_close(w);
    gguf_close(in);
    ck_assert_int_eq(tlm_model_open(&m, path, NULL, &err), TLM_ERR_FORMAT);
    ck_assert_msg(strstr(err.text, message) != NULL, "%s", err.text);
}

START_TEST(limits_that_cannot_be_are_refused)
{
    static const struct gguf_string names[] = {{"blk.0.attn_q.weight", 19}, {"blk.0.attn_k.weight", 19}};
    static const struct gguf_string strangers[] = {{"blk.0.attn_q.weight", 19},
                                                   {"blk.7.attn_k\n.weight", 20}},
                                    zero[] = {{"blk.0.attn_q.weight\0x", 21}, {"", 0}};
    const float good[] = {1, 2}, bad[][2] = {{1, 0}, {1, -1}, {NAN, 1}, {1, INFINITY}, {1, 1e30f}};
    struct temp_path path = temp_path(&folder, "model.gguf");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        expect_refused(path.text, names, 2, bad[i], 2, "expected a number from 1e-15 to 1e+15, found ");
    expect_refused(path.text, names, 2, good, 1, "expected names of tensors and as many F32");
    expect_refused(path.text, names, 2, NULL, 0, "expected names of tensors and as many F32");
    expect_refused(path.text, NULL, 0, good, 2, "expected names of tensors and as many F32");
    expect_refused(path.text, strangers, 2, good, 2, "found 'blk.7.attn_k\\x0a.weight'");
    expect_refused(path.text, zero, 2, good, 2, "expected names of the file's tensors");
}
END_TEST

Suite *suite_limits(void)
{
    Suite *s = suite_create("limits");
    TCase *t = tcase_create("limits");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, open_folder, close_folder);
    tcase_add_loop_test(t, limits_of_numbers, 0, 3);
    tcase_add_loop_test(t, every_architecture_has_limits, 0, 2);
    tcase_add_loop_test(t, products_go_by_limits, 0, 2);
    tcase_add_test(t, limits_that_cannot_be_are_refused);
    suite_add_tcase(s, t);
    return s;
}

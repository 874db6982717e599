// tests/test_calibration.c -- models run layer by layer against whole passes, and files of sums of squares.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "generate/forward.h"
#include "quant/methods/method.h"
#include "quant/mix.h"
#include "quant/quant.h"
#include "quant/requantize.h"
#include "tests/golden.h"
#include "tests/temp_folder.h"
#include "tests/tests.h"

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

// ---- layers -------------------------------------------------------------------------------------------

// Sums of squares of what goes into each matrix, as a whole pass has them.
struct seen {
    const void *matrix;
    double sum;
};

struct watcher {
    struct seen items[512];
    int count;
};

static double squares(const struct tensor *t, int64_t rows)
{
    double sum = 0;
    for (int64_t i = 0; i < rows * t->ne[0]; i++) {
        double x = t->type == DTYPE_F64 ? ((const double *)t->data)[i] : (double)((const float *)t->data)[i];
        sum += x * x;
    }
    return sum;
}

static void watch(void *user, const struct graph *g, const struct node *n, int thread, double begin,
                  double end)
{
    struct watcher *w = user;
    (void)thread, (void)begin, (void)end;
    if (n->op != OP_matmul && n->op != OP_matmul_experts && n->op != OP_matmul_heads) return;
    if (n->in[0]->out.type != g->real) return; // converted for the kernel
    ck_assert_int_lt(w->count, 512);
    w->items[w->count++] =
        (struct seen){n->in[1]->out.data, squares(&n->in[0]->out, graph_rows(g, n->in[0]))};
}

static void run_whole(struct tlm_model *m, const int32_t *ids, int32_t count, struct watcher *w)
{
    enum dtype kv = m->real;
    struct forward_config config = {.context = count,
                                    .sequences = 1,
                                    .max_rows = count,
                                    .max_outputs = count,
                                    .threads = 1,
                                    .type_k = kv,
                                    .type_v = kv};
    struct forward f;
    struct forward_row *rows = calloc((size_t)count, sizeof *rows);
    for (int32_t i = 0; i < count; i++) rows[i] = (struct forward_row){ids[i], i, 0, true};
    OK(forward_open(&f, m, &config, &err));
    const struct graph_watch watch_all = {watch, w};
    forward_watch(&f, &watch_all);
    OK(forward_run(&f, rows, count, &err));
    forward_close(&f);
    free(rows);
}

struct matching {
    const struct imatrix *im;
    const struct watcher *whole;
    const struct tlm_model *model;
    int compared;
};

static void compare(void *user, const struct weight_spec *spec, const char *name, const struct tensor **slot)
{
    struct matching *c = user;
    struct gguf_string key = {name, strlen(name)};
    const struct imatrix_entry *e = imatrix_find(c->im, key);
    double sum = 0, want = 0;
    bool found = false;
    (void)spec;
    const void *data = (*slot)->data;
    if (slot == &c->model->weights.embed && !c->model->weights.out) data = c->model->head.weight->data;
    for (int i = 0; i < c->whole->count; i++)
        if (c->whole->items[i].matrix == data) want += c->whole->items[i].sum, found = true;
    if (!found) return;
    ck_assert_msg(e != NULL, "%s: no sums", name);
    for (int64_t i = 0; i < e->mats * e->cols; i++) sum += e->sums[i];
    ck_assert_msg(fabs(sum - want) <= 1e-5 * want, "%s: %g, in a whole pass %g", name, sum, want);
    c->compared++;
}

// The same text twice: what stands between layers belongs to each text alone.
static void check_layers(const char *path, const struct golden *g)
{
    const int32_t *ids = g->ids, count = g->count;
    struct tlm_model *m = open_model(path, "auto");
    struct watcher *whole = calloc(1, sizeof *whole);
    struct threads *threads;
    struct layers layers;
    struct imatrix im = {0};
    int32_t *twice = malloc(2 * (size_t)count * sizeof *twice);
    memcpy(twice, ids, (size_t)count * sizeof *ids);
    memcpy(twice + count, ids, (size_t)count * sizeof *ids);
    run_whole(m, ids, count, whole);
    for (int i = 0; i < whole->count; i++) whole->items[i].sum *= 2;
    OK(threads_open(&threads, 2, &err));
    struct layers_config config = {twice, 2, count, threads};
    OK(layers_open(&layers, m, &config, &err));
    OK(imatrix_collect(&im, &layers, NULL, NULL, &err));
    struct matching c = {&im, whole, m, 0};
    model_each_weight(m, compare, &c);
    ck_assert_msg(whole->count == 0 || c.compared > 0, "%s: nothing was compared", path);
    layers_close(&layers);
    threads_close(threads);
    imatrix_free(&im);
    tlm_model_close(m);
    free(whole);
    free(twice);
}

// ---- rounding a whole model -----------------------------------------------------------------------------

// Numbers of a tensor as it was and as it became; the share of the squares that was lost.
static double lost(const struct tensor *from, enum dtype type, const char *data)
{
    int64_t k = from->ne[0], rows = from->ne[1] * from->ne[2];
    float *x = malloc(2 * (size_t)k * sizeof *x), *y = x + k;
    double error = 0, all = 0;
    for (int64_t r = 0; r < rows; r++) {
        quant_types[from->type].dequantize(x, (const char *)from->data + (size_t)r * from->nb[1], k);
        quant_types[type].dequantize(y, data + (size_t)r * dtype_row_bytes(type, k), k);
        for (int64_t c = 0; c < k; c++)
            error += ((double)x[c] - y[c]) * ((double)x[c] - y[c]), all += (double)x[c] * x[c];
    }
    free(x);
    return error / all;
}

// `type` for what has rows of whole blocks. Returns how many matrices of layers that are.
static int choose(const struct gguf *in, enum dtype type, enum dtype *types)
{
    int count = 0;
    for (uint64_t i = 0; i < in->tensor_count; i++) {
        const struct tensor *t = &in->tensors[i].tensor;
        bool fits =
            mix_applies(&in->tensors[i]) && t->ne[0] % 32 == 0 && dtype_traits[t->type].block_size == 1;
        types[i] = fits ? type : t->type;
        count += fits && !memcmp(in->tensors[i].name.data, "blk.", 4);
    }
    return count;
}

// Every matrix that the graph multiplies by becomes something near.
static void check_gptq(const char *path, const struct golden *g)
{
    struct tlm_model *m = open_model(path, "auto");
    const struct gguf *in = m->gguf;
    enum dtype *types = calloc(in->tensor_count, sizeof *types);
    struct threads *threads;
    struct temp_path out = temp_path(&folder, "out.gguf");
    int rounded = 0, possible = choose(in, DTYPE_Q5_0, types);
    OK(threads_open(&threads, 2, &err));
    struct quant_work w = {
        .in = in, .types = types, .model = m, .texts = {g->ids, 1, g->count, threads}, .path = out.text};
    OK(quant_work_open(&w, &err));
    OK(gptq_run(&w, &err));
    for (uint64_t i = 0; i < in->tensor_count; i++) {
        if (!w.ready[i]) continue;
        double share = lost(&in->tensors[i].tensor, types[i], w.ready[i]);
        ck_assert_msg(share < 0.05, "%s: %.*s: lost %g", path, (int)in->tensors[i].name.length,
                      in->tensors[i].name.data, share);
        rounded++;
    }
    ck_assert_msg(rounded > 0 || possible == 0, "%s: nothing was rounded", path);
    ck_assert_int_le(rounded, possible);
    quant_work_close(&w);
    threads_close(threads);
    tlm_model_close(m);
    free(types);
}

static int scaled; // tensors, of all models

// Factors that are found for rounding, put into a model that is not rounded, leave it what it is.
static void check_awq(const char *path, const struct golden *g)
{
    struct tlm_model *m = open_model(path, "auto");
    const struct gguf *in = m->gguf;
    enum dtype *types = calloc(in->tensor_count, sizeof *types);
    struct threads *threads;
    struct gguf_writer *writer;
    struct temp_path out = temp_path(&folder, "out.gguf");
    bool plain = choose(in, DTYPE_Q4_0, types) > 0;
    OK(threads_open(&threads, 2, &err));
    struct quant_work w = {
        .in = in, .types = types, .model = m, .texts = {g->ids, 1, g->count, threads}, .path = out.text};
    OK(quant_work_open(&w, &err));
    OK(awq_run(&w, &err));
    for (uint64_t i = 0; i < in->tensor_count; i++) {
        plain &= dtype_traits[in->tensors[i].tensor.type].block_size == 1;
        scaled += w.columns[i] || w.rows[i];
        types[i] = DTYPE_F32;
    }
    if (plain) {
        OK(gguf_writer_open(&writer, out.text, &err));
        gguf_copy_metadata(writer, in);
        struct requantize r = {.in = in,
                               .types = types,
                               .columns = (const float *const *)w.columns,
                               .rows = (const float *const *)w.rows,
                               .threads = threads};
        OK(requantize_run(&r, writer, &err));
        OK(gguf_writer_finish(writer, &err));
        gguf_writer_close(writer);
        struct tlm_model *same = open_model(out.text, "auto");
        golden_check(g, same, path, 512, 1e-4);
        tlm_model_close(same);
    }
    quant_work_close(&w);
    threads_close(threads);
    tlm_model_close(m);
    free(types);
}

// A model of tests/golden is a file, or a folder.
static void each_model(const char *golden, void (*check)(const char *path, const struct golden *g))
{
    int count;
    char **names = golden_names(golden, &count), last[256] = "";
    for (int i = 0; i < count; i++) {
        char path[256];
        golden_model_path(names[i], path);
        if (access(path, F_OK)) *strrchr(path, '.') = 0;
        if (strcmp(path, last)) {
            struct golden g = golden_read(names[i]);
            check(path, &g);
            golden_free(&g);
        }
        snprintf(last, sizeof last, "%s", path);
        free(names[i]);
    }
    free(names);
}

START_TEST(layers_give_what_a_whole_pass_gives)
{
    each_model("", check_layers);
    each_model("models", check_layers);
}
END_TEST

START_TEST(every_architecture_is_rounded)
{
    each_model("", check_gptq);
    each_model("models", check_gptq);
}
END_TEST

START_TEST(factors_leave_a_model_what_it_is)
{
    each_model("", check_awq);
    each_model("models", check_awq);
    ck_assert_int_gt(scaled, 100);
}
END_TEST

// ---- files --------------------------------------------------------------------------------------------

static void fill(struct imatrix *im)
{
    static const char *const names[] = {"blk.0.ffn_down_exps.weight", "blk.0.attn_q.weight", "output.weight"};
    *im = (struct imatrix){.dataset = strdup("text.txt"), .chunks = 3, .chunk_size = 512};
    for (int n = 0; n < 3; n++) {
        struct imatrix_entry *e = imatrix_add(im, names[n], 5, n ? 1 : 2);
        ck_assert_ptr_nonnull(e);
        for (int i = 0; i < 5; i++) e->sums[i] = n + i;
        e->count[0] = 2;
    }
    ck_assert_ptr_null(imatrix_add(im, names[1], 6, 1));
}

START_TEST(sums_are_written_and_read)
{
    struct imatrix im, back;
    struct temp_path path = temp_path(&folder, "sums.gguf");
    fill(&im);
    OK(imatrix_write(&im, path.text, &err));
    OK(imatrix_read(&back, path.text, &err));
    ck_assert_int_eq(back.count, 3);
    ck_assert_uint_eq(back.chunks, 3);
    ck_assert_uint_eq(back.chunk_size, 512);
    ck_assert_str_eq(back.dataset, "text.txt");
    for (int64_t i = 0; i < 3; i++) {
        ck_assert_str_eq(back.entries[i].name, im.entries[i].name);
        ck_assert_int_eq(back.entries[i].mats, im.entries[i].mats);
        for (int64_t k = 0; k < 6 * im.entries[i].mats; k++)
            ck_assert_double_eq(back.entries[i].sums[k], im.entries[i].sums[k]);
    }
    const struct imatrix_entry *e =
        imatrix_find(&back, (struct gguf_string){"blk.0.ffn_down_exps.weight", 26});
    ck_assert_ptr_nonnull(e);
    float *w = imatrix_weights(e);
    ck_assert_float_eq(w[4], 2); // 4 / 2 rows
    ck_assert_float_eq(w[5], 1); // the second expert had none
    free(w);
    imatrix_free(&im);
    imatrix_free(&back);
}
END_TEST

static char old_form[256];
static size_t old_size;

static void put(const void *data, size_t size)
{
    memcpy(old_form + old_size, data, size);
    old_size += size;
}

static void put_number(int32_t x)
{
    put(&x, sizeof x);
}

START_TEST(the_older_form_is_read_whole_or_not_at_all)
{
    struct temp_path path = temp_path(&folder, "sums.dat");
    const float numbers[] = {8, 4, 2};
    old_size = 0;
    put_number(1);
    put_number(11);
    put("blk.0.weigh", 11);
    put_number(4);
    put_number(3);
    put(numbers, sizeof numbers);
    size_t least = old_size;
    put_number(7);
    put_number(2);
    put("ab", 2);
    for (size_t size = 0; size <= old_size; size++) {
        FILE *f = fopen(path.text, "wb");
        fwrite(old_form, 1, size, f);
        fclose(f);
        struct imatrix im;
        enum tlm_status s = imatrix_read(&im, path.text, &err);
        ck_assert_msg(s == (size < least ? TLM_ERR_FORMAT : TLM_OK), "%zu bytes: %s", size, err.text);
        if (s) continue;
        float *w = imatrix_weights(&im.entries[0]);
        ck_assert_float_eq(w[0], 2);
        ck_assert_uint_eq(im.chunks, size >= least + 4 ? 7 : 0);
        free(w);
        imatrix_free(&im);
    }
}
END_TEST

START_TEST(files_of_something_else_are_refused)
{
    struct imatrix im;
    struct temp_path path = temp_path(&folder, "sums.gguf");
    ck_assert_int_eq(imatrix_read(&im, "tests/golden/llama-plain.gguf", &err), TLM_ERR_FORMAT);
    ck_assert_int_eq(imatrix_read(&im, "tests/golden/train.txt", &err), TLM_ERR_FORMAT);
    ck_assert_int_eq(imatrix_read(&im, path.text, &err), TLM_ERR_IO);
    fill(&im);
    im.entries[1].sums[2] = -1;
    OK(imatrix_write(&im, path.text, &err));
    imatrix_free(&im);
    ck_assert_int_eq(imatrix_read(&im, path.text, &err), TLM_ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "blk.0.ffn_down_exps.weight"));
}
END_TEST

Suite *suite_calibration(void)
{
    Suite *s = suite_create("calibration");
    TCase *t = tcase_create("layers");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, open_folder, close_folder);
    tcase_add_test(t, layers_give_what_a_whole_pass_gives);
    tcase_add_test(t, every_architecture_is_rounded);
    tcase_add_test(t, factors_leave_a_model_what_it_is);
    suite_add_tcase(s, t);
    t = tcase_create("files");
    tcase_add_checked_fixture(t, open_folder, close_folder);
    tcase_add_test(t, sums_are_written_and_read);
    tcase_add_test(t, the_older_form_is_read_whole_or_not_at_all);
    tcase_add_test(t, files_of_something_else_are_refused);
    suite_add_tcase(s, t);
    return s;
}

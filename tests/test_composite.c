// tests/test_composite.c -- types that GGUF lacks: files that hold them in parts, models that run on them, files that are wrong.
#include <math.h>
#include <string.h>

#include "core/cpu.h"
#include "core/file.h"
#include "core/rng.h"
#include "generate/session.h"
#include "models/hf.h"
#include "quant/composite.h"
#include "quant/mix.h"
#include "quant/requantize.h"
#include "tests/golden.h"
#include "tests/kernels.h"
#include "tests/temp_folder.h"
#include "tests/tests.h"
#include "tests/tiny_model.h"

static const enum dtype types[] = {DTYPE_NF4, DTYPE_FP4, DTYPE_INT8, DTYPE_INT8_ASYM};
enum { TYPES = sizeof types / sizeof *types, TOKENS = 40 };

static struct tlm_error err;
static struct temp_folder folder;

#define OK(call) ck_assert_msg(!(call), "%s", err.text)

static void open_folder(void)
{
    folder = temp_folder_open();
}

static void close_folder(void)
{
    temp_folder_close(&folder);
}

// Writes the tensors of a file by a mix, NULL: what GGUF lacks as F32; `weights` as in struct requantize.
static void rewrite(const struct gguf *in, const char *out, const char *mix, const float *const *weights)
{
    struct gguf_writer *w;
    struct threads *pool;
    struct mix_model m;
    enum dtype to[64];
    OK(mix_model_read(&m, in, false, &err));
    for (uint64_t i = 0; i < in->tensor_count; i++) {
        const struct gguf_tensor *t = &in->tensors[i];
        to[i] = !mix && composite_is(t->tensor.type) ? DTYPE_F32 : t->tensor.type;
        if (mix && mix_applies(t)) to[i] = mix_type(mix_find(mix), &m, t);
    }
    OK(threads_open(&pool, 2, &err));
    OK(gguf_writer_open(&w, out, &err));
    gguf_copy_metadata(w, in);
    struct requantize r = {.in = in, .types = to, .threads = pool, .weights = weights};
    OK(requantize_run(&r, w, &err));
    OK(gguf_writer_finish(w, &err));
    gguf_writer_close(w);
    threads_close(pool);
}

static struct temp_path tiny_file(void)
{
    struct temp_path path = temp_path(&folder, "tiny.gguf");
    tiny_model_write(path.text, &(struct tiny_model){.type = DTYPE_F32, .width = 128, .seed = 5});
    return path;
}

// ---- files --------------------------------------------------------------------------------------------

// Blocks of the whole tensor of `from` at once.
static void check_tensor(const struct tensor *from, const struct tensor *have)
{
    uint8_t *want = malloc(tensor_bytes(have));
    quant_quantize_rows(have->type, want, from->data, from->ne[1], from->ne[0], NULL);
    const struct block_nf4 *a = (const void *)want, *b = have->data;
    float most = 0;
    ck_assert_mem_eq(from->ne, have->ne, sizeof from->ne);
    if (!composite_is_4bit(have->type)) ck_assert_mem_eq(want, have->data, tensor_bytes(have));
    for (int64_t i = 0; i < composite_blocks(have) && composite_is_4bit(have->type); i++)
        most = fmaxf(most, a[i].absmax);
    for (int64_t i = 0; i < composite_blocks(have) && composite_is_4bit(have->type); i++) {
        ck_assert_mem_eq(a[i].qs, b[i].qs, sizeof a[i].qs);
        ck_assert_msg(fabsf(a[i].absmax - b[i].absmax) < 0.01f * most, "%g became %g", a[i].absmax,
                      b[i].absmax);
    }
    free(want);
}

START_TEST(files_hold_the_blocks_in_parts)
{
    enum dtype type = types[_i];
    struct temp_path path = temp_path(&folder, "out.gguf");
    struct gguf *in, *raw, *out;
    int found = 0;
    size_t bytes = 0, expected = 0;
    OK(gguf_open(&in, tiny_file().text, &err));
    rewrite(in, path.text, dtype_traits[type].name, NULL);
    OK(gguf_open(&raw, path.text, &err));
    ck_assert(gguf_find(raw, COMPOSITE_TENSORS) && gguf_find(raw, COMPOSITE_TYPES));
    ck_assert_uint_gt(raw->tensor_count, in->tensor_count);
    for (uint64_t i = 0; i < raw->tensor_count; i++) bytes += tensor_bytes(&raw->tensors[i].tensor);
    OK(model_file_open(&out, path.text, MODEL_ALL, &err));
    ck_assert(!gguf_find(out, COMPOSITE_TENSORS) && !gguf_find(out, COMPOSITE_TYPES));
    ck_assert_uint_eq(out->tensor_count, in->tensor_count);
    for (uint64_t i = 0; i < in->tensor_count; i++) {
        char name[96];
        snprintf(name, sizeof name, "%.*s", (int)in->tensors[i].name.length, in->tensors[i].name.data);
        const struct gguf_tensor *t = gguf_find_tensor(out, name);
        ck_assert_msg(t != NULL, "%s is gone", name);
        expected += composite_file_bytes(t->tensor.type, &t->tensor);
        if (t->tensor.type == type) check_tensor(&in->tensors[i].tensor, &t->tensor), found++;
    }
    ck_assert_int_eq(found, 14); // seven matrices in each of two layers
    ck_assert_uint_eq(bytes, expected);
    gguf_close(out), gguf_close(raw), gguf_close(in);
}
END_TEST

enum { K = 128, N = 5, E = 3 };
static const int columns[E][3] = {{3, 66, 127}, {64, -1, -1}, {-1, -1, -1}};

// Writes a stack of matrices x (E, N, K), each with other columns that stand apart.
static void write_stack(const char *path, const char *mix, float *x)
{
    struct gguf_writer *w;
    struct gguf *in;
    void *data;
    size_t size;
    float weights[K * E];
    const float *const all[] = {weights};
    struct tensor shape = tensor_shape(DTYPE_F32, K, N, E, 1);
    for (int i = 0; i < K * N * E; i++) x[i] = (float)(i * 37 % 101 - 50) * 0.013f;
    for (int i = 0; i < K * E; i++) weights[i] = 1 + (float)(i % 3);
    for (int e = 0; e < E; e++)
        for (int j = 0; j < 3 && columns[e][j] >= 0; j++) weights[e * K + columns[e][j]] = 1000;
    OK(gguf_writer_open_memory(&w, "stack", &err));
    gguf_set_string(w, "general.architecture", "llama", 5);
    gguf_add_tensor(w, "blk.0.ffn_up_exps.weight", &shape);
    OK(gguf_write_data(w, x, K * N * E * sizeof *x, &err));
    OK(gguf_writer_take(w, &data, &size, &err));
    gguf_writer_close(w);
    OK(gguf_open_memory(&in, data, size, "stack", &err));
    rewrite(in, path, mix, all);
    gguf_close(in);
    free(data);
}

START_TEST(columns_with_large_rows_stand_apart)
{
    struct gguf *out;
    float x[K * N * E], y[K * N * E];
    struct temp_path path = temp_path(&folder, "stack.gguf");
    write_stack(path.text, "INT8", x);
    OK(model_file_open(&out, path.text, MODEL_ALL, &err));
    const struct tensor *t = &out->tensors[0].tensor;
    ck_assert(t->type == DTYPE_INT8 && t->ne[2] == E);
    quant_types[DTYPE_INT8].dequantize(y, t->data, K * N * E);
    for (int e = 0; e < E; e++)
        for (int r = 0; r < N; r++)
            for (int c = 0; c < K; c++) {
                int at = (e * N + r) * K + c;
                bool apart = c == columns[e][0] || c == columns[e][1] || c == columns[e][2];
                ck_assert_float_le(fabsf(x[at] - y[at]),
                                   apart ? 0.0005f * fabsf(x[at]) : 0.65f / 127 / 2 * 1.01f);
                if (apart) ck_assert(y[at] == f32_from_f16(f16_from_f32(x[at])));
            }
    // And a copy of it is the same.
    struct temp_path again = temp_path(&folder, "again.gguf");
    struct gguf *copy;
    rewrite(out, again.text, "INT8", NULL);
    OK(model_file_open(&copy, again.text, MODEL_ALL, &err));
    ck_assert_mem_eq(t->data, copy->tensors[0].tensor.data, tensor_bytes(t));
    gguf_close(copy), gguf_close(out);
}
END_TEST

// ---- running ------------------------------------------------------------------------------------------

struct rows {
    float *logits; // (TOKENS, V)
    size_t count;
};

static int keep_row(void *user, size_t index, const float *logits)
{
    struct rows *r = user;
    ck_assert_uint_eq(index, r->count);
    memcpy(r->logits + r->count++ * TINY_VOCAB, logits, TINY_VOCAB * sizeof *logits);
    return 0;
}

static float *all_logits(const struct tlm_model *m, int32_t batch)
{
    int32_t tokens[TOKENS];
    for (int i = 0; i < TOKENS; i++) tokens[i] = (int32_t)((i * 7919 + 13) % TINY_VOCAB);
    struct rows r = {.logits = malloc(sizeof(float) * TOKENS * TINY_VOCAB)};
    struct tlm_session *s =
        open_session(m, (struct tlm_session_options){.context = TOKENS, .batch = batch, .threads = 2});
    OK(tlm_session_logits_each(s, tokens, TOKENS, 0, keep_row, &r, &err));
    tlm_session_close(s);
    return r.logits;
}

// A token at a time, and more.
START_TEST(models_run_on_a_device)
{
    struct temp_path path = temp_path(&folder, "out.gguf");
    struct gguf *in;
    struct tlm_model *m, *oracle;
    OK(gguf_open(&in, tiny_file().text, &err));
    rewrite(in, path.text, dtype_traits[types[_i]].name, NULL);
    gguf_close(in);
    OK(tlm_model_open(&m, path.text, &(struct tlm_model_options){.backend = "cuda"}, &err));
    oracle = open_model(path.text, "f64");
    float *want = all_logits(oracle, TOKENS);
    double *expected = malloc(sizeof(double) * TOKENS * TINY_VOCAB);
    for (int i = 0; i < TOKENS * TINY_VOCAB; i++) expected[i] = (double)want[i];
    for (int32_t chunk = 1; chunk < TOKENS; chunk += 16) {
        float *got = all_logits(m, chunk);
        ck_assert_msg(agrees(got, expected, TOKENS * TINY_VOCAB, 2e-3), "%s, chunks of %d: error %g",
                      dtype_traits[types[_i]].name, (int)chunk,
                      rel_error(got, expected, TOKENS * TINY_VOCAB));
        free(got);
    }
    free(want), free(expected);
    tlm_model_close(m), tlm_model_close(oracle);
}
END_TEST

// The very bits of the same numbers in F32, for any chunks, on every tier.
START_TEST(models_run_as_if_their_numbers_were_floats)
{
    static const int32_t chunks[] = {1, 2, 7, TOKENS};
    struct temp_path path = temp_path(&folder, "out.gguf"), plain = temp_path(&folder, "plain.gguf");
    struct gguf *in;
    OK(gguf_open(&in, tiny_file().text, &err));
    rewrite(in, path.text, dtype_traits[types[_i]].name, NULL);
    gguf_close(in);
    OK(model_file_open(&in, path.text, MODEL_ALL, &err));
    rewrite(in, plain.text, NULL, NULL);
    gguf_close(in);
    for (enum isa isa = ISA_REF; isa < ISA_F64; isa++) {
        if (!isa_supported(isa)) continue;
        struct tlm_model *a = open_model(path.text, isa_name(isa)),
                         *b = open_model(plain.text, isa_name(isa));
        float *want = all_logits(b, TOKENS);
        for (size_t c = 0; c < sizeof chunks / sizeof *chunks; c++) {
            float *got = all_logits(a, chunks[c]);
            ck_assert_msg(!memcmp(got, want, sizeof(float) * TOKENS * TINY_VOCAB),
                          "%s, isa %s: chunks of %d give other bits", dtype_traits[types[_i]].name,
                          isa_name(isa), chunks[c]);
            free(got);
        }
        free(want);
        tlm_model_close(a), tlm_model_close(b);
    }
}
END_TEST

// ---- files that are wrong -----------------------------------------------------------------------------

struct wrong {
    const char *type;
    int64_t columns;  // of the whole
    const char *part; // that differs from what it ought to be: has so many numbers of that type, or none
    int64_t count;
    enum dtype part_type;
    const char *text; // of the message
    int32_t apart[6]; // what .columns holds
    int32_t apart_count;
};

static size_t add(struct gguf_writer *w, const struct wrong *c, const char *part, enum dtype type, int64_t n,
                  int64_t rows)
{
    char name[64];
    bool other = c->part && !strcmp(part, c->part);
    snprintf(name, sizeof name, "x.weight%s", part);
    struct tensor t = tensor_shape(other ? c->part_type : type, other ? c->count : n, rows, 1, 1);
    if (t.ne[0]) gguf_add_tensor(w, name, &t);
    return t.ne[0] ? tensor_bytes(&t) : 0;
}

// Two rows of x.weight, in parts as they ought to be but for what the case changes.
static enum tlm_status assemble(const struct wrong *c)
{
    static const uint8_t zeros[64];
    struct gguf_string name = {"x.weight", 8}, type = {c->type, strlen(c->type)};
    bool four = !strcmp(c->type, "NF4");
    struct gguf_writer *w;
    struct gguf *g;
    void *data;
    size_t size, bytes;
    OK(gguf_writer_open_memory(&w, "wrong", &err));
    gguf_set_string_array(w, COMPOSITE_TENSORS, &name, 1);
    gguf_set_string_array(w, COMPOSITE_TYPES, &type, 1);
    bytes = add(w, c, "", DTYPE_I8, four ? c->columns / 2 : c->columns, 2);
    bytes += add(w, c, ".absmax", four ? DTYPE_I8 : DTYPE_F32, four ? c->columns / 64 : 2, four ? 2 : 1);
    if (four) bytes += add(w, c, ".absmax_scale", DTYPE_F32, 1, 1);
    if (four) bytes += add(w, c, ".absmax_offset", DTYPE_F32, 1, 1);
    if (c->apart_count) bytes += add(w, c, ".outliers", DTYPE_F16, c->apart_count, 2);
    if (c->apart_count) add(w, c, ".columns", DTYPE_I32, c->apart_count, 1);
    for (size_t n; bytes; bytes -= n) {
        n = bytes < sizeof zeros ? bytes : sizeof zeros;
        OK(gguf_write_data(w, zeros, n, &err));
    }
    if (c->apart_count) OK(gguf_write_data(w, c->apart, (size_t)c->apart_count * 4, &err));
    OK(gguf_writer_take(w, &data, &size, &err));
    gguf_writer_close(w);
    OK(gguf_open_memory(&g, data, size, "wrong", &err));
    enum tlm_status s = composite_assemble(g, &err);
    gguf_close(g);
    free(data);
    return s;
}

START_TEST(wrong_parts_are_refused)
{
    static const struct wrong right[] = {
        {.type = "NF4", .columns = 128},
        {.type = "INT8", .columns = 64},
        {.type = "INT8", .columns = 64, .apart = {0, 1, 2, 63}, .apart_count = 4}};
    static const struct wrong wrong[] = {
        {"Q4_0", 128, NULL, 0, 0, "expected NF4, FP4, INT8 or INT8_ASYM, found 'Q4_0'", {0}, 0},
        {"INT9", 128, NULL, 0, 0, "expected NF4, FP4, INT8 or INT8_ASYM, found 'INT9'", {0}, 0},
        {"NF4", 128, "", 64, DTYPE_F32, "expected codes of type I8, found F32", {0}, 0},
        {"NF4", 128, "", 0, DTYPE_I8, "expected codes of type I8, found no such tensor", {0}, 0},
        {"NF4", 96, NULL, 0, 0, "expected rows of a multiple of 64 numbers, found 96", {0}, 0},
        {"NF4", 128, ".absmax", 0, DTYPE_I8, "x.weight.absmax': the file lacks it", {0}, 0},
        {"NF4", 128, ".absmax", 3, DTYPE_I8, "expected 4 numbers of I8, found 6 of I8", {0}, 0},
        {"NF4", 128, ".absmax_scale", 1, DTYPE_F16, "expected 1 numbers of F32, found 1 of F16", {0}, 0},
        {"NF4", 128, ".absmax_offset", 0, DTYPE_F32, "x.weight.absmax_offset': the file lacks it", {0}, 0},
        {"INT8_ASYM", 64, NULL, 0, 0, "x.weight.middle': the file lacks it", {0}, 0},
        {"INT8", 64, ".outliers", 0, DTYPE_F16, "x.weight.outliers': the file lacks it", {1}, 1},
        {"INT8", 64, NULL, 0, 0, "expected at most 4 columns, found 5", {1, 2, 3, 4, 5}, 5},
        {"INT8", 128, NULL, 0, 0, "at most 4 of each 64, found 5", {1, 2, 3, 4, 5}, 5},
        {"INT8", 64, NULL, 0, 0, "expected columns in order, at most 4 of each 64, found 2", {2, 2}, 2},
        {"INT8", 64, NULL, 0, 0, "found 64", {64}, 1},
        {"INT8", 64, NULL, 0, 0, "found -2", {-2}, 1},
    };
    for (size_t i = 0; i < sizeof right / sizeof *right; i++) OK(assemble(&right[i]));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        enum tlm_status s = assemble(&wrong[i]);
        ck_assert_msg(s == TLM_ERR_FORMAT || s == TLM_ERR_UNSUPPORTED, "case %zu: %d", i, s);
        ck_assert_msg(strstr(err.text, wrong[i].text) != NULL, "case %zu: %s", i, err.text);
    }
}
END_TEST

// Files with a flipped bit are put together, or refused by one line.
START_TEST(flipped_files)
{
    struct temp_path path = temp_path(&folder, "stack.gguf");
    float x[K * N * E];
    char *data;
    size_t size;
    write_stack(path.text, dtype_traits[types[_i]].name, x);
    OK(file_read(path.text, &data, &size, &err));
    for (uint64_t i = 0; i < 2000; i++) {
        uint64_t bit = (uint64_t)(rng_uniform(6, (uint64_t)_i, i) * 8 * (double)size);
        struct gguf *g;
        data[bit / 8] ^= (char)(1 << bit % 8);
        err.text[0] = '\0';
        enum tlm_status s = gguf_open_memory(&g, data, size, "flipped", &err);
        if (!s) s = composite_assemble(g, &err);
        ck_assert(!s || (err.text[0] && !strchr(err.text, '\n')));
        gguf_close(g);
        data[bit / 8] ^= (char)(1 << bit % 8);
    }
    free(data);
}
END_TEST

Suite *suite_composite(void)
{
    Suite *s = suite_create("composite");
    TCase *t = tcase_create("composite");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, open_folder, close_folder);
    tcase_add_loop_test(t, files_hold_the_blocks_in_parts, 0, TYPES);
    tcase_add_test(t, columns_with_large_rows_stand_apart);
    tcase_add_loop_test(t, models_run_as_if_their_numbers_were_floats, 0, TYPES);
    tcase_add_loop_test(t, models_run_on_a_device, 0, TYPES);
    tcase_add_test(t, wrong_parts_are_refused);
    tcase_add_loop_test(t, flipped_files, 0, TYPES);
    suite_add_tcase(s, t);
    return s;
}

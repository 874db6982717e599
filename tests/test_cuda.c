// tests/test_cuda.c -- the GPU's kernels, on the emulation, against the references in double; in every order of threads, over odd shapes,
// into outputs full of NaNs, with fewer rows than the launch is for.
#include "cuda/bnb.h"
#include "ops/paged.h"
#include "tests/cuda_weights.h"
#include "tests/tests.h"

// ---- number by number ---------------------------------------------------------------------------------

START_TEST(test_elementwise)
{
    const struct kernels k = kernels_for_f64();
    static double a[MOST * WIDEST + 1], b[MOST * WIDEST + 1], y[MOST * WIDEST];
    for (int i = 0; i < ODD; i++) {
        const int64_t cols = odd[i], count = USED * cols;
        orders(i);
        for (int shift = 0; shift < 2; shift++) { // pointers off boundaries of 16
            const struct cuda_rows rows = some_rows(USED, MOST);
            float *x = random_device(a, MOST * cols + shift, 1, 4) + shift;
            float *z = random_device(b, MOST * cols + shift, 2, 9) + shift, *out;
            const double *da = a + shift, *db = b + shift;
            ((void (*)(double *, const double *, const double *, int64_t))k.add_fwd)(y, da, db, count);
            cuda_add(NULL, out = empty_device(MOST * cols), x, z, rows, cols);
            expect("add", out, y, USED, MOST, cols, 1e-6);
            ((void (*)(double *, const double *, const double *, int64_t, int64_t))k.bias_fwd)(y, da, db,
                                                                                               USED, cols);
            cuda_bias(NULL, out = empty_device(MOST * cols), x, z, rows, cols);
            expect("bias", out, y, USED, MOST, cols, 1e-6);
            ((void (*)(double *, const double *, int64_t, double))k.softcap_fwd)(y, da, count, 3.5);
            cuda_softcap(NULL, out = empty_device(MOST * cols), x, rows, cols, 3.5);
            expect("softcap", out, y, USED, MOST, cols, 1e-6);
            ((void (*)(double *, const double *, int64_t, double))k.scale_fwd)(y, da, count, 0.125);
            cuda_scale(NULL, out = empty_device(MOST * cols), x, rows, cols, 0.125);
            expect("scale", out, y, USED, MOST, cols, 1e-6);
            done();
        }
    }
}
END_TEST

START_TEST(test_activations_cuda)
{
    const struct kernels k = kernels_for_f64();
    static double a[MOST * WIDEST], b[MOST * WIDEST], y[MOST * WIDEST];
    for (int kind = ACT_SILU; kind <= ACT_SWIGLU_CLAMPED; kind++)
        for (int i = 0; i < ODD; i++) {
            const int64_t cols = odd[i];
            const struct cuda_rows rows = some_rows(USED, MOST);
            float *x = random_device(a, MOST * cols, 1, 10), *z = random_device(b, MOST * cols, 2, 9), *out;
            orders(i);
            ((void (*)(double *, const double *, const double *, int64_t, enum activation))k.glu_fwd)(
                y, a, b, USED * cols, (enum activation)kind);
            cuda_glu(NULL, out = empty_device(MOST * cols), x, z, rows, cols, (enum activation)kind);
            expect("glu", out, y, USED, MOST, cols, 2e-6);
            if (kind != ACT_SWIGLU_CLAMPED) {
                ((void (*)(double *, const double *, int64_t, enum activation))k.activation_fwd)(
                    y, a, USED * cols, (enum activation)kind);
                cuda_activation(NULL, out = empty_device(MOST * cols), x, rows, cols, (enum activation)kind);
                expect("activation", out, y, USED, MOST, cols, 2e-6);
            }
            done();
        }
}
END_TEST

// ---- norms --------------------------------------------------------------------------------------------

typedef void rmsnorm_f64(double *, double *, const double *, const double *, int64_t, int64_t, double);
typedef void layernorm_f64(double *, double *, double *, const double *, const double *, const double *,
                           int64_t, int64_t, double);

START_TEST(test_norms)
{
    const struct kernels k = kernels_for_f64();
    static double x[MOST * WIDEST], w[WIDEST], b[WIDEST], y[MOST * WIDEST];
    for (int i = 0; i < ODD; i++)
        for (int groups = 1; groups <= 2; groups++) {
            const int64_t group = odd[i], cols = groups * group;
            if (cols > WIDEST) continue;
            const struct cuda_rows rows = some_rows(USED, MOST);
            float *dx = random_device(x, MOST * cols, 1, 3), *out;
            float *dw = random_device(w, cols, 2, 1), *db = random_device(b, cols, 3, 1);
            orders(i);
            for (int64_t weights = 1; weights <= groups; weights++) {
                for (int64_t g = 0; g < USED * groups; g++)
                    ((rmsnorm_f64 *)k.rmsnorm_fwd)(y + g * group, NULL, x + g * group,
                                                   w + g % weights * group, 1, group, 1e-5);
                cuda_rmsnorm(NULL, out = empty_device(MOST * cols), dx, dw, rows, cols, group, weights, 1e-5);
                expect("rmsnorm", out, y, USED, MOST, cols, 2e-6);
                for (int64_t g = 0; g < USED * groups; g++)
                    ((layernorm_f64 *)k.layernorm_fwd)(y + g * group, NULL, NULL, x + g * group,
                                                       w + g % weights * group, b + g % weights * group, 1,
                                                       group, 1e-5);
                cuda_layernorm(NULL, out = empty_device(MOST * cols), dx, dw, db, rows, cols, group, weights,
                               1e-5);
                expect("layernorm", out, y, USED, MOST, cols, 1e-5);
            }
            done();
        }
}
END_TEST

// ---- rows ---------------------------------------------------------------------------------------------

START_TEST(test_rows_cuda)
{
    static double x[MOST * 96];
    const int32_t from[MOST] = {4, 0, 2, 1, 1};
    const struct cuda_rows rows = some_rows(USED, MOST);
    float *dx = random_device(x, MOST * 96, 1, 1), *two = random_device(NULL, MOST * 96, 2, 1), *y;
    const int32_t *dfrom = device(from, sizeof from);
    cuda_select(NULL, y = empty_device(MOST * 96), dx, dfrom, rows, 96);
    for (int r = 0; r < USED; r++) ck_assert_mem_eq(y + r * 96, dx + from[r] * 96, 96 * sizeof(float));
    ck_assert(isnan(y[USED * 96]));
    cuda_slice(NULL, y = empty_device(MOST * 3 * 5), dx, rows, 32, 3, 7, 5);
    for (int r = 0; r < USED; r++)
        for (int h = 0; h < 3; h++)
            ck_assert_mem_eq(y + (r * 3 + h) * 5, dx + r * 96 + h * 32 + 7, 5 * sizeof(float));
    for (int shared = 0; shared < 2; shared++) {
        cuda_concat(NULL, y = empty_device(MOST * 3 * 40), dx, two, rows, 3, 32, 8, shared);
        for (int r = 0; r < USED; r++)
            for (int h = 0; h < 3; h++) {
                ck_assert_mem_eq(y + (r * 3 + h) * 40, dx + (r * 3 + h) * 32, 32 * sizeof(float));
                ck_assert_mem_eq(y + (r * 3 + h) * 40 + 32, two + (shared ? r : r * 3 + h) * 8,
                                 8 * sizeof(float));
            }
    }
    done();
}
END_TEST

// ---- weights ------------------------------------------------------------------------------------------

START_TEST(test_embed)
{
    enum { VOCAB = 6, COLS = 512 };
    const int32_t tokens[MOST] = {5, 0, 3, 2, 1};
    struct device_weights w = make_weights(types[_i], VOCAB, COLS);
    const int32_t *dtokens = device(tokens, sizeof tokens);
    float *y = empty_device(MOST * COLS);
    cuda_embed(NULL, y, dtokens, &w.matrix, some_rows(USED, MOST));
    ck_assert_msg(!emu_error(), "%s", emu_error());
    for (int r = 0; r < USED; r++)
        ck_assert_msg(agrees(y + r * COLS, w.numbers + tokens[r] * COLS, COLS, 1e-6), "%s: row %d: error %g",
                      dtype_traits[types[_i]].name, r,
                      rel_error(y + r * COLS, w.numbers + tokens[r] * COLS, COLS));
    done();
    free_weights(&w);
}
END_TEST

// The product in double of what the kernel is given: activations as they stand in its own type.
static void product_oracle(double *y, const void *x, enum dtype type, int64_t most,
                           const struct device_weights *w, int64_t rows)
{
    const int64_t k = w->t.ne[0], n = w->t.ne[1];
    const struct cuda_q8 q = cuda_q8_at((void *)x, most, k);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t o = 0; o < n; o++) {
            double sum = 0;
            for (int64_t i = 0, at = r * k; i < k; i++, at++) {
                double number = type == DTYPE_F32    ? (double)((const float *)x)[at]
                                : type == DTYPE_BF16 ? (double)f32_from_bf16(((const uint16_t *)x)[at])
                                                     : (double)q.scales[at / 32] * q.codes[at];
                sum += number * w->numbers[o * k + i];
            }
            y[r * n + o] = sum;
        }
}

static void try_product(enum dtype type, int64_t n, int64_t k, int32_t used, int64_t most)
{
    struct device_weights w = make_weights(type, n, k);
    const enum dtype input = cuda_matmul_input(type);
    const struct cuda_rows rows = some_rows(used, most);
    float *x = random_device(NULL, most * k, 3, 2), *y = empty_device(most * n);
    void *converted = device(NULL, (size_t)(most * k) * 4);
    double *oracle = malloc((size_t)(used * n) * sizeof *oracle);
    if (input != DTYPE_F32) cuda_convert(NULL, converted, input, x, rows, k);
    cuda_matmul(NULL, y, input == DTYPE_F32 ? x : converted, &w.matrix, rows);
    product_oracle(oracle, input == DTYPE_F32 ? x : converted, input, most, &w, used);
    expect(dtype_traits[type].name, y, oracle, used, most, n, 1e-5);
    done();
    free(oracle);
    free_weights(&w);
}

START_TEST(test_matmul_cuda)
{
    static const int64_t outputs[] = {1, 3, 4, 33};
    const enum dtype type = types[_i];
    const int64_t block = dtype_traits[type].block_size;
    for (int i = 0; i < 4; i++) {
        orders(_i + i);
        try_product(type, outputs[i], block * (i + 1), 1, 1);
        try_product(type, outputs[i], block == 1 ? 40 + i : block * 3, 2, 2);
        try_product(type, outputs[i], block == 1 ? 256 : block * 2, 5, 8);
    }
    try_product(type, 5, 256, 3, 7);
    try_product(type, 3, 5376, 1, 2); // rows of several rounds of a warp, the last of which is not full
    try_product(type, 2, 2304, 7, 8);
    try_product(type, 67, block == 1 ? 40 : block * 3, 66,
                70); // around the tiles of 64 x 64 x 256 on tensor cores
}
END_TEST

// Shapes around the tiles of 128 x 128 x 32 of mma, of 128 x 128 x 64 and 128 x 256 x 64 of wgmma (the second form of the loop), with fewer and
// more panels than the rings of those, and more tiles than blocks.
START_TEST(test_matmul_mma)
{
    static const struct {
        int64_t n, k;
        int32_t used;
        int64_t most;
    } shapes[] = {{1, 8, 9, 9},       {130, 72, 17, 20},  {128, 32, 128, 128},  {40, 136, 131, 140},
                  {257, 16, 9, 9},    {512, 64, 12, 12},  {515, 200, 129, 130}, {70, 456, 33, 40},
                  {512, 328, 10, 10}, {384, 24, 260, 400}};
    emu_set_tiles(_i > 0);
    for (int i = 0; i < 10; i++) {
        orders(i);
        try_product(DTYPE_BF16, shapes[i].n, shapes[i].k, shapes[i].used, shapes[i].most);
    }
    emu_set_tiles(true);
}
END_TEST

// The numbers of quantized weights, rounded to bf16 once; of experts, those of them that have rows.
START_TEST(test_dequantize_cuda)
{
    enum { ROWS = 6, BLOCKS = 3 };
    const enum dtype type = types[_i];
    const int64_t k = BLOCKS * dtype_traits[type].block_size;
    const int32_t first[] = {0, 0, 4}; // as two matrices of half of the rows
    if (dtype_traits[type].block_size == 1) return;
    struct device_weights w = make_weights(type, ROWS, k);
    struct cuda_matrix half = w.matrix;
    uint16_t *all = device(NULL, (size_t)(ROWS * k) * 2), *some = device(NULL, (size_t)(ROWS * k) * 2);
    orders(_i);
    cuda_dequantize(NULL, all, &w.matrix, (struct cuda_groups){1, NULL});
    half.outputs = ROWS / 2;
    cuda_dequantize(NULL, some, &half, (struct cuda_groups){2, device(first, sizeof first)});
    ck_assert_msg(!emu_error(), "%s", emu_error());
    for (int64_t i = 0; i < ROWS * k; i++) {
        const double number = w.numbers[i], found = (double)f32_from_bf16(all[i]);
        ck_assert_msg(fabs(found - number) <= fabs(number) / 255, "%s: number %d: %g is %g",
                      dtype_traits[type].name, (int)i, number, found);
        ck_assert_uint_eq(some[i], i < ROWS / 2 * k ? 0xffff : all[i]);
    }
    done();
    free_weights(&w);
}
END_TEST

// ||y - x w^T|| / ||x w^T|| of rows that have not been rounded
static double error_of(const float *y, const float *x, const struct device_weights *w, int64_t rows)
{
    double *oracle = malloc((size_t)(rows * w->t.ne[1]) * sizeof *oracle);
    product_oracle(oracle, x, DTYPE_F32, rows, w, rows);
    const double error = rel_error(y, oracle, rows * w->t.ne[1]);
    free(oracle);
    return error;
}

// Many rows of weights that are made bf16, in slabs of `outputs`: not worse than the codes of 8 bits that fewer rows take; those of bitsandbytes
// take f32.
static void try_many(enum dtype type, int64_t n, int64_t k, int64_t rows, int64_t outputs)
{
    struct device_weights w = make_weights(type, n, k);
    const struct cuda_rows all = {NULL, rows};
    const float *x = random_device(NULL, rows * k, 3, 2);
    float *y = empty_device(rows * n), *other = empty_device(rows * n);
    void *converted = device(NULL, (size_t)(rows * k) * 4);
    const size_t bytes = cuda_matmul_many_scratch(&w.matrix, 1, rows, k) - (size_t)((n - outputs) * k) * 2;
    cuda_convert(NULL, converted, cuda_matmul_many_input(type), x, all, k);
    cuda_matmul_many(NULL, y, converted, &w.matrix, all, (struct cuda_groups){1, NULL}, device(NULL, bytes),
                     bytes);
    cuda_convert(NULL, converted, cuda_matmul_input(type), x, all, k);
    cuda_matmul(NULL, other, converted, &w.matrix, all);
    ck_assert_msg(!emu_error(), "%s", emu_error());
    const double error = error_of(y, x, &w, rows), replaced = error_of(other, x, &w, rows);
    ck_assert_msg(error < 3e-3 && (error < replaced || bnb_known(type)),
                  "%s, %d x %d, %d rows: error %g, of 8 bits %g", dtype_traits[type].name, (int)n, (int)k,
                  (int)rows, error, replaced);
    done();
    free_weights(&w);
}

// Around the tiles of 128 x 128 x 64 and the slabs, with tiles that the device copies and without.
START_TEST(test_matmul_many)
{
    const enum dtype type = types[_i];
    const int64_t block = dtype_traits[type].block_size;
    if (block == 1) return;
    for (int tiles = 0; tiles < 2; tiles++) {
        emu_set_tiles(tiles);
        orders(_i + tiles);
        try_many(type, 67, 3 * block, 70, 67);
        try_many(type, 5, block, 64, 2);
    }
    if (type == DTYPE_Q8_0 || type == DTYPE_Q4_K)
        for (int tiles = 0; tiles < 2; tiles++) {
            emu_set_tiles(tiles);
            try_many(type, 300, 256, 131, 256);
            try_many(type, 530, 256, 64, 530);
        }
    emu_set_tiles(true);
}
END_TEST

// F16 weights lose nothing, whatever the size of a row is.
START_TEST(test_matmul_many_f16)
{
    static const struct {
        int64_t n, k, rows;
    } shapes[] = {{33, 72, 70}, {130, 8, 64}, {257, 136, 131}, {5, 1024, 65}, {9, 7, 64}};
    emu_set_tiles(_i > 0);
    for (int i = 0; i < 5; i++) {
        const int64_t n = shapes[i].n, k = shapes[i].k, rows = shapes[i].rows;
        const struct cuda_rows all = {NULL, rows};
        struct device_weights w = make_weights(DTYPE_F16, n, k);
        const size_t bytes = cuda_matmul_many_scratch(&w.matrix, 1, rows, k);
        float *x = random_device(NULL, rows * k, 3, 2), *y = empty_device(rows * n);
        double *oracle = malloc((size_t)(rows * n) * sizeof *oracle);
        for (int64_t c = 0; c < k; c++) x[c] *= 1e30f, x[k + c] *= 1e-30f, x[2 * k + c] = 0;
        orders(i);
        ck_assert_int_eq(cuda_matmul_many_input(DTYPE_F16), DTYPE_F32);
        cuda_matmul_many(NULL, y, x, &w.matrix, all, (struct cuda_groups){1, NULL}, device(NULL, bytes),
                         bytes);
        product_oracle(oracle, x, DTYPE_F32, rows, &w, rows);
        for (int64_t r = 0; r < rows; r++) expect("F16", y + r * n, oracle + r * n, 1, 1, n, 1e-6);
        done();
        free(oracle);
        free_weights(&w);
    }
    emu_set_tiles(true);
}
END_TEST

// Codes of 8 bits are at most half a step away; bf16 and f16 are those of the host.
START_TEST(test_convert)
{
    enum { COLS = 96 };
    const struct cuda_rows rows = some_rows(USED, MOST);
    float *x = random_device(NULL, MOST * COLS, 1, 50);
    uint16_t *half = device(NULL, MOST * COLS * 2), *brain = device(NULL, MOST * COLS * 2);
    void *q8 = device(NULL, MOST * COLS / 32 * 36);
    for (int i = 0; i < 32; i++) x[i] = 0;
    cuda_convert(NULL, half, DTYPE_F16, x, rows, COLS);
    cuda_convert(NULL, brain, DTYPE_BF16, x, rows, COLS);
    cuda_convert(NULL, q8, DTYPE_Q8_1, x, rows, COLS);
    ck_assert_msg(!emu_error(), "%s", emu_error());
    const struct cuda_q8 q = cuda_q8_at(q8, MOST, COLS);
    for (int i = 0; i < USED * COLS; i++) {
        ck_assert_uint_eq(half[i], f16_from_f32(x[i]));
        ck_assert_uint_eq(brain[i], bf16_from_f32(x[i]));
        ck_assert_float_le(fabsf(q.scales[i / 32] * q.codes[i] - x[i]), q.scales[i / 32] * 0.5001f);
    }
    ck_assert_uint_eq(half[USED * COLS], 0xffff);
    done();
}
END_TEST

// ---- positions and the cache --------------------------------------------------------------------------

START_TEST(test_rope_cuda)
{
    const struct kernels k = kernels_for_f64();
    enum { HEADS = 3, DIM = 20, PAIRS = 7 };
    const int32_t pos[MOST] = {0, 5, 70000, 3, 9};
    double freq[PAIRS], table[MOST * 2 * PAIRS], x[MOST * HEADS * DIM], y[MOST * HEADS * DIM];
    for (int i = 0; i < PAIRS; i++) freq[i] = pow(0.3, i);
    for (int pairing = 0; pairing < 2; pairing++) {
        const struct cuda_rows rows = some_rows(USED, MOST);
        float *dx = random_device(x, MOST * HEADS * DIM, 1, 1), *dy = empty_device(MOST * HEADS * DIM);
        float *dtable = empty_device(MOST * 2 * PAIRS);
        orders(pairing + 1);
        ((void (*)(double *, const int32_t *, const double *, int64_t, int32_t, double))k.rope_table_fwd)(
            table, pos, freq, USED, PAIRS, 1.25);
        cuda_rope_table(NULL, dtable, device(pos, sizeof pos), device(freq, sizeof freq), rows, PAIRS, 1.25,
                        false);
        expect("rope_table", dtable, table, USED, MOST, 2 * PAIRS, 1e-6);
        ((void (*)(double *, const double *, const double *, int64_t, int32_t, int32_t, int32_t,
                   enum rope_pairing))k.rope_fwd)(y, x, table, USED, HEADS, DIM, PAIRS,
                                                  (enum rope_pairing)pairing);
        cuda_rope(NULL, dy, dx, dtable, rows, HEADS, DIM, PAIRS, (enum rope_pairing)pairing);
        expect("rope", dy, y, USED, MOST, HEADS * DIM, 1e-6);
        cuda_rope(NULL, dx, dx, dtable, rows, HEADS, DIM, PAIRS, (enum rope_pairing)pairing);
        ck_assert_mem_eq(dx, dy, USED * HEADS * DIM * sizeof(float));
        done();
    }
}
END_TEST

static const enum dtype cache_types[] = {DTYPE_F32,     DTYPE_F16,  DTYPE_BF16,
                                         DTYPE_F8_E4M3, DTYPE_Q8_0, DTYPE_Q4_0};

// The bytes that the host's conversion puts there, and no others.
START_TEST(test_kv_write_cuda)
{
    enum { HEADS = 2, DIM = 64, BLOCKS = 4 };
    const int32_t slots[MOST] = {17, 18, 63, 0, 1};
    const struct kernels k = kernels_for(ISA_REF);
    struct paged_kv kv = paged_layout(cache_types[_i], KV_ROWS, BLOCKS, DIM);
    const size_t bytes = HEADS * kv.head_stride;
    char *expected = malloc(bytes);
    kv.data = device(NULL, bytes);
    memset(expected, 0xff, bytes);
    float *x = random_device(NULL, MOST * HEADS * DIM, 1, 3);
    if (kv.type == DTYPE_F8_E4M3) { // from below its smallest number to above its largest, and between two
        for (int i = 0; i < MOST * HEADS * DIM; i++)
            x[i] = ldexpf(i % 3 ? x[i] : roundf(4 * x[i]), i % 23 - 13);
        x[3] = INFINITY, x[5] = -INFINITY;
    }
    for (int r = 0; r < USED; r++)
        for (int h = 0; h < HEADS; h++)
            k.from_real[kv.type](expected + (size_t)(slots[r] / KV_BLOCK) * kv.block_stride +
                                     (size_t)h * kv.head_stride +
                                     (size_t)(slots[r] % KV_BLOCK) * kv.token_stride,
                                 x + (r * HEADS + h) * DIM, DIM);
    cuda_kv_write(NULL, &kv, x, device(slots, sizeof slots), some_rows(USED, MOST), HEADS, DIM);
    ck_assert_msg(!emu_error(), "%s", emu_error());
    ck_assert_mem_eq(kv.data, expected, bytes);
    done();
    free(expected);
}
END_TEST

// ---- attention ----------------------------------------------------------------------------------------

struct attention_case {
    int32_t heads, kv_heads, d, d_v, window, splits;
    float softcap;
    bool sinks, slopes;
    enum dtype k, v;
};

// Two sequences: three rows at the end of 150 keys, and a single row with 70.
enum { SEQUENCES = 2, BLOCKS = 24, TABLE = 12, ROWS = 4, MOST_ROWS = 6 };

static void reference_attention(double *y, const struct attention_case *c, struct paged_kv k,
                                struct paged_kv v, const double *q, const int32_t *pos, const int32_t *table,
                                const struct attention_tile *tile, const double *sinks, const double *slopes)
{
    const struct kernels f64 = kernels_for_f64();
    const int32_t group = c->heads / c->kv_heads;
    for (int32_t h = 0; h < c->kv_heads; h++) {
        struct attention_args a = {
            .y = y + (int64_t)tile->row * c->heads * c->d_v,
            .q = q + (int64_t)tile->row * c->heads * c->d,
            .k = k,
            .v = v,
            .blocks = table + tile->sequence * TABLE,
            .pos = pos + tile->row,
            .y_stride = (size_t)(c->heads * c->d_v),
            .q_stride = (size_t)(c->heads * c->d),
            .rows = tile->rows,
            .head_begin = h * group,
            .head_count = group,
            .kv_head = h,
            .head_dim = c->d,
            .value_dim = c->d_v,
            .window = c->window,
            .scale = 0.17f,
            .softcap = c->softcap,
            .sinks = c->sinks ? sinks : NULL,
            .slopes = c->slopes ? slopes : NULL,
            .scratch = malloc(f64.attention_scratch(tile->rows, group, c->d, c->d_v)),
        };
        f64.attention_fwd(&a);
        free(a.scratch);
    }
}

static struct paged_kv random_cache(enum dtype type, int32_t heads, int32_t d, uint64_t stream)
{
    const struct kernels k = kernels_for(ISA_REF);
    struct paged_kv kv = paged_layout(type, KV_ROWS, BLOCKS, d);
    const size_t rows = (size_t)heads * BLOCKS * KV_BLOCK;
    float row[512];
    kv.data = device(NULL, (size_t)heads * kv.head_stride);
    for (size_t r = 0; r < rows; r++) {
        for (int i = 0; i < d; i++) row[i] = random_signed(stream, r * 512 + (uint64_t)i);
        k.from_real[type](kv.data + r * kv.token_stride, row, d);
    }
    return kv;
}

static void try_attention(const struct attention_case *c)
{
    const struct attention_tile tiles[MOST_ROWS] = {{0, 3, 1, 0}, {3, 1, 0, 0}};
    const int32_t pos[MOST_ROWS] = {147, 148, 149, 69};
    int32_t tables[SEQUENCES * TABLE];
    double *q = malloc((size_t)(MOST_ROWS * c->heads * c->d) * 8),
           *y = malloc((size_t)(ROWS * c->heads * c->d_v) * 8);
    double sinks[64], slopes[64];
    for (int i = 0; i < SEQUENCES * TABLE; i++) tables[i] = (i * 7 + 3) % BLOCKS;
    struct paged_kv k = random_cache(c->k, c->kv_heads, c->d, 11),
                    v = random_cache(c->v, c->kv_heads, c->d_v, 12);
    struct cuda_attention a = {
        .y = empty_device(MOST_ROWS * c->heads * c->d_v),
        .partial = empty_device(cuda_attention_partial(MOST_ROWS, c->heads, c->d_v, c->splits)),
        .q = random_device(q, MOST_ROWS * c->heads * c->d, 13, 2),
        .k = k,
        .v = v,
        .tiles = device(tiles, sizeof tiles),
        .pos = device(pos, sizeof pos),
        .tables = device(tables, sizeof tables),
        .tile_count = some_rows(2, MOST_ROWS),
        .rows = some_rows(ROWS, MOST_ROWS),
        .table_stride = TABLE,
        .heads = c->heads,
        .kv_heads = c->kv_heads,
        .head_dim = c->d,
        .value_dim = c->d_v,
        .window = c->window,
        .splits = c->splits,
        .scale = 0.17f,
        .softcap = c->softcap,
    };
    float *own_sinks = random_device(sinks, c->heads, 14, 1),
          *own_slopes = random_device(slopes, c->heads, 15, 0.1f);
    if (c->sinks) a.sinks = own_sinks;
    if (c->slopes) a.slopes = own_slopes;
    for (int i = 0; i < 2; i++) reference_attention(y, c, k, v, q, pos, tables, &tiles[i], sinks, slopes);
    cuda_attention(NULL, &a);
    expect("attention", a.y, y, ROWS, MOST_ROWS, c->heads * c->d_v, 2e-6);
    // By the block that comes last in place of a second launch: the same bits, twice.
    const int32_t zeros[MOST_ROWS * 64] = {0};
    float *apart = a.y;
    a.arrived = device(zeros, sizeof zeros);
    for (int turn = 0; turn < 2; turn++) {
        a.y = empty_device(MOST_ROWS * c->heads * c->d_v);
        cuda_attention(NULL, &a);
        ck_assert_msg(!emu_error(), "%s", emu_error());
        ck_assert_mem_eq(a.y, apart, (size_t)(MOST_ROWS * c->heads * c->d_v) * sizeof(float));
        ck_assert_mem_eq(a.arrived, zeros, sizeof zeros);
    }
    done();
    free(q);
    free(y);
}

START_TEST(test_attention_cuda)
{
    static const struct attention_case cases[] = {
        {4, 2, 64, 64, 0, 1, 0, false, false, DTYPE_F16, DTYPE_F16},
        {4, 2, 64, 64, 0, 3, 0, false, false, DTYPE_F16, DTYPE_Q8_0},
        {12, 1, 32, 48, 0, 8, 0, true, false, DTYPE_Q8_0,
         DTYPE_F16}, // more heads than a block takes; most stretches empty
        {2, 2, 128, 128, 40, 2, 0, false, true, DTYPE_BF16, DTYPE_F32},
        {3, 3, 12, 20, 0, 2, 5, true, true, DTYPE_F32, DTYPE_BF16}, // odd sizes
        {1, 1, 256, 500, 64, 2, 0, false, false, DTYPE_F32, DTYPE_F16},
        {2, 1, 64, 32, 0, 2, 0, false, false, DTYPE_Q4_0, DTYPE_Q4_0},
        {4, 2, 64, 64, 0, 3, 0, true, false, DTYPE_F8_E4M3, DTYPE_F8_E4M3},
        {3, 1, 36, 13, 40, 2, 3, false, true, DTYPE_F8_E4M3, DTYPE_F16},
        {8, 2, 128, 128, 0, 2, 0, false, false, DTYPE_F16, DTYPE_F16}, // groups of four
        {7, 1, 96, 96, 70, 3, 0, true, false, DTYPE_Q8_0, DTYPE_Q8_0}, // threads that have no column
        {8, 1, 64, 512, 0, 2, 0, false, true, DTYPE_BF16, DTYPE_BF16},
        {1, 1, 80, 40, 33, 2, 3, true, false, DTYPE_F32, DTYPE_F32},
        {3, 1, 64, 128, 0, 3, 0, false, false, DTYPE_Q8_0, DTYPE_Q8_0},
    };
    orders(_i);
    try_attention(&cases[_i]);
}
END_TEST

// Rows of the cache that no key of the sequences has become NaNs: as memory that was never written, or another's.
static void spoil_unused(struct paged_kv kv, int32_t heads, const int32_t *tables, const int32_t *keys)
{
    for (int32_t row = 0; row < BLOCKS * KV_BLOCK; row++) {
        bool used = false;
        for (int s = 0; s < 2; s++)
            for (int32_t key = row % KV_BLOCK; key < keys[s]; key += KV_BLOCK)
                used |= tables[s * TABLE + key / KV_BLOCK] == row / KV_BLOCK;
        for (int32_t h = 0; h < heads && !used; h++)
            memset(kv.data + (size_t)h * kv.head_stride + (size_t)row * kv.token_stride, 0xff,
                   kv.token_stride);
    }
}

// A prompt's tiles, whole and cut short, by tensor cores over f16. The last cases by copies of tiles.
START_TEST(test_attention_mma)
{
    static const struct attention_case cases[] = {
        {4, 2, 64, 64, 0, 1, 0, false, false, DTYPE_F16, DTYPE_F16},
        {2, 1, 128, 120, 0, 1, 5, true, false, DTYPE_F16, DTYPE_F16},
        {3, 3, 40, 16, 40, 1, 0, false, true, DTYPE_F16, DTYPE_F16},
        {1, 1, 96, 96, 70, 1, 0, true, true, DTYPE_F16, DTYPE_F16},
        {4, 2, 128, 64, 0, 1, 0, true, false, DTYPE_Q8_0, DTYPE_F16}, // converted
        {3, 1, 64, 64, 50, 1, 0, false, true, DTYPE_BF16, DTYPE_Q4_0},
        {4, 2, 64, 40, 0, 1, 0, true, false, DTYPE_F8_E4M3, DTYPE_F8_E4M3},
        {4, 2, 64, 64, 0, 1, 0, false, false, DTYPE_F16, DTYPE_F16}, // heads in pairs
        {4, 1, 128, 128, 33, 1, 4, true, false, DTYPE_F16, DTYPE_F16},
        {3, 1, 64, 64, 0, 1, 0, true, true, DTYPE_F16, DTYPE_F16}, // tiles in pairs
        {1, 1, 128, 128, 70, 1, 0, false, false, DTYPE_F16, DTYPE_F16},
        {2, 2, 256, 256, 0, 1, 0, false, true, DTYPE_F16, DTYPE_F16},
        {2, 1, 64, 64, 0, 1, 0, true, false, DTYPE_Q8_0, DTYPE_Q4_0}, // converted
        {4, 2, 128, 128, 37, 1, 0, false, true, DTYPE_BF16, DTYPE_Q8_0},
        {3, 3, 64, 64, 0, 1, 3, false, false, DTYPE_F16, DTYPE_BF16},
        {4, 2, 128, 128, 0, 1, 0, false, true, DTYPE_F8_E4M3, DTYPE_F8_E4M3},
    };
    enum { LONG_ROWS = 100 };
    emu_set_tiles(_i >= 7);
    const struct attention_case *c = &cases[_i];
    const struct attention_tile tiles[] = {{0, 64, 1, 0}, {64, 19, 1, 0}, {83, 17, 0, 0}};
    int32_t pos[LONG_ROWS], tables[SEQUENCES * TABLE];
    double *q = malloc((size_t)(LONG_ROWS * c->heads * c->d) * 8),
           *y = malloc((size_t)(LONG_ROWS * c->heads * c->d_v) * 8), sinks[8], slopes[8];
    for (int i = 0; i < LONG_ROWS; i++) pos[i] = i < 83 ? 77 + i : i - 83;
    for (int i = 0; i < SEQUENCES * TABLE; i++) tables[i] = (i * 7 + 3) % BLOCKS;
    struct cuda_attention a = {
        .y = empty_device(LONG_ROWS * c->heads * c->d_v),
        .q = random_device(q, LONG_ROWS * c->heads * c->d, 13, 2),
        .k = random_cache(c->k, c->kv_heads, c->d, 11),
        .v = random_cache(c->v, c->kv_heads, c->d_v, 12),
        .tiles = device(tiles, sizeof tiles),
        .pos = device(pos, sizeof pos),
        .tables = device(tables, sizeof tables),
        .tile_count = some_rows(3, 5),
        .rows = some_rows(LONG_ROWS, LONG_ROWS),
        .table_stride = TABLE,
        .heads = c->heads,
        .kv_heads = c->kv_heads,
        .head_dim = c->d,
        .value_dim = c->d_v,
        .window = c->window,
        .splits = 1,
        .scale = 0.17f,
        .softcap = c->softcap,
    };
    float *own_sinks = random_device(sinks, c->heads, 14, 1),
          *own_slopes = random_device(slopes, c->heads, 15, 0.1f);
    if (c->sinks) a.sinks = own_sinks;
    if (c->slopes) a.slopes = own_slopes;
    for (int i = 0; i < 3; i++) reference_attention(y, c, a.k, a.v, q, pos, tables, &tiles[i], sinks, slopes);
    const int32_t keys[SEQUENCES] = {17, 160};
    spoil_unused(a.k, c->kv_heads, tables, keys), spoil_unused(a.v, c->kv_heads, tables, keys);
    orders(_i);
    cuda_attention(NULL, &a);
    expect("attention_mma", a.y, y, LONG_ROWS, LONG_ROWS, c->heads * c->d_v, 1e-3);
    emu_set_tiles(true);
    done();
    free(q);
    free(y);
}
END_TEST

// Rows of two sequences that share 128 keys attend these together, and go on from there each for itself; others have nothing to go on from.
START_TEST(test_attention_prefix)
{
    static const struct attention_case cases[] = {
        {4, 2, 64, 64, 0, 2, 0, false, false, DTYPE_F16, DTYPE_F16},
        {3, 1, 128, 96, 0, 3, 4, true, true, DTYPE_F16, DTYPE_Q8_0},
        {4, 2, 64, 64, 0, 1, 0, true, false, DTYPE_F16, DTYPE_F16}, // by copies of tiles
        {1, 1, 128, 128, 90, 4, 0, false, true, DTYPE_F16, DTYPE_F16},
        {6, 2, 128, 128, 0, 2, 3, true, false, DTYPE_BF16, DTYPE_F16},
        {4, 2, 64, 64, 0, 2, 0, true, false, DTYPE_F8_E4M3, DTYPE_F8_E4M3},
        {4, 2, 64, 64, 0, 2, 0, true, false, DTYPE_F32, DTYPE_F16}, // has no such form
    };
    enum { PREFIX_ROWS = 16, SHARED_KEYS = 128 };
    const struct attention_case *c = &cases[_i];
    const struct attention_tile tiles[] = {{0, 10, 1, SHARED_KEYS}, {10, 2, 0, SHARED_KEYS}, {12, 4, 0, 0}},
                                prefix[] = {{0, 12, 1, SHARED_KEYS}};
    int32_t pos[PREFIX_ROWS], tables[SEQUENCES * TABLE];
    double *q = malloc((size_t)(PREFIX_ROWS * c->heads * c->d) * 8),
           *y = malloc((size_t)(PREFIX_ROWS * c->heads * c->d_v) * 8), sinks[8], slopes[8];
    for (int i = 0; i < PREFIX_ROWS; i++) pos[i] = i < 10 ? 140 + i : i < 12 ? 128 + i - 10 : 20 + i - 12;
    for (int i = 0; i < SEQUENCES * TABLE; i++)
        tables[i] = ((i < TABLE || i % TABLE * KV_BLOCK < SHARED_KEYS ? i % TABLE : i) * 7 + 3) % BLOCKS;
    emu_set_tiles(_i >= 2);
    struct cuda_attention a = {
        .y = empty_device(PREFIX_ROWS * c->heads * c->d_v),
        .partial = empty_device(cuda_attention_partial(PREFIX_ROWS, c->heads, c->d_v, c->splits)),
        .q = random_device(q, PREFIX_ROWS * c->heads * c->d, 13, 2),
        .k = random_cache(c->k, c->kv_heads, c->d, 11),
        .v = random_cache(c->v, c->kv_heads, c->d_v, 12),
        .state_stride = c->d_v + 7,
        .tiles = device(prefix, sizeof prefix),
        .pos = device(pos, sizeof pos),
        .tables = device(tables, sizeof tables),
        .tile_count = some_rows(1, 2),
        .rows = some_rows(PREFIX_ROWS, PREFIX_ROWS),
        .table_stride = TABLE,
        .heads = c->heads,
        .kv_heads = c->kv_heads,
        .head_dim = c->d,
        .value_dim = c->d_v,
        .window = c->window,
        .splits = c->splits,
        .scale = 0.17f,
        .softcap = c->softcap,
    };
    float *own_sinks = random_device(sinks, c->heads, 14, 1),
          *own_slopes = random_device(slopes, c->heads, 15, 0.1f);
    if (c->sinks) a.sinks = own_sinks;
    if (c->slopes) a.slopes = own_slopes;
    for (int i = 0; i < 3; i++) reference_attention(y, c, a.k, a.v, q, pos, tables, &tiles[i], sinks, slopes);
    orders(_i);
    a.states = empty_device(PREFIX_ROWS * c->heads * a.state_stride);
    const bool shared = cuda_attention_prefix(NULL, &a);
    ck_assert_int_eq(shared, c->k != DTYPE_F32);
    if (!shared) a.states = NULL;
    a.tiles = device(tiles, sizeof tiles), a.tile_count = some_rows(3, 5);
    cuda_attention(NULL, &a);
    expect("attention_prefix", a.y, y, PREFIX_ROWS, PREFIX_ROWS, c->heads * c->d_v, shared ? 1e-3 : 2e-6);
    // What was attended together is not read again.
    for (int32_t block = 0; block < SHARED_KEYS / KV_BLOCK && shared; block++)
        for (int32_t h = 0; h < c->kv_heads; h++)
            memset(a.k.data + (size_t)h * a.k.head_stride + (size_t)tables[TABLE + block] * a.k.block_stride,
                   0xff, a.k.block_stride);
    const struct attention_tile own[] = {tiles[0], tiles[1]};
    a.tiles = device(own, sizeof own), a.tile_count = some_rows(2, 5);
    cuda_attention(NULL, &a);
    expect("attention_prefix", a.y, y, 12, 12, c->heads * c->d_v, shared ? 1e-3 : 2e-6);
    emu_set_tiles(true);
    done();
    free(q);
    free(y);
}
END_TEST

// Rows that see one key give its value as it is: all codes of E4M3, by one row, by the tensor cores of many, and by copies of tiles.
START_TEST(test_attention_e4m3)
{
    enum { HEADS = 4, DIM = 64, MANY = 16 };
    const int32_t rows = _i ? MANY : 1, zeros[MANY] = {0};
    const struct attention_tile tile = {0, rows, 0, 0};
    emu_set_tiles(_i == 2);
    orders(_i);
    struct paged_kv kv = paged_layout(DTYPE_F8_E4M3, KV_ROWS, 1, DIM);
    char codes[HEADS * KV_BLOCK * DIM] = {0};
    for (int i = 0; i < HEADS * DIM; i++) codes[i / DIM * KV_BLOCK * DIM + i % DIM] = (char)i;
    struct cuda_attention a = {
        .y = empty_device(rows * HEADS * DIM),
        .partial = empty_device(cuda_attention_partial(rows, HEADS, DIM, 1)),
        .q = random_device(NULL, rows * HEADS * DIM, 13, 2),
        .k = kv,
        .v = kv,
        .tiles = device(&tile, sizeof tile),
        .pos = device(zeros, sizeof zeros),
        .tables = device(zeros, sizeof zeros),
        .tile_count = some_rows(1, 1),
        .rows = some_rows(rows, rows),
        .table_stride = 1,
        .heads = HEADS,
        .kv_heads = HEADS,
        .head_dim = DIM,
        .value_dim = DIM,
        .splits = 1,
        .scale = 1,
    };
    a.v.data = device(codes, sizeof codes);
    memset(codes, 0x38, sizeof codes); // ones
    a.k.data = device(codes, sizeof codes);
    cuda_attention(NULL, &a);
    ck_assert_msg(!emu_error(), "%s", emu_error());
    for (int i = 0; i < rows * HEADS * DIM; i++) {
        const float want = f32_from_f8_e4m3((uint8_t)(i % (HEADS * DIM)));
        ck_assert_msg(isnan(want) ? isnan(a.y[i]) : a.y[i] == want, "code %02x gives %g", i % 256,
                      (double)a.y[i]);
    }
    emu_set_tiles(true);
    done();
}
END_TEST

// ---- behind the logits --------------------------------------------------------------------------------

typedef double cross_entropy_f64(double *, const double *, int32_t, int64_t, double);

START_TEST(test_cross_entropy_cuda)
{
    cross_entropy_f64 *oracle = (cross_entropy_f64 *)kernels_for_f64().cross_entropy;
    static double x[MOST * WIDEST], dx[MOST * WIDEST];
    const double factor = 0.25;
    for (int i = 0; i < ODD; i++)
        for (int place = 0; place < 3; place++) { // a gradient apart, in the place of x, none
            const int64_t vocab = odd[i];
            const int32_t targets[MOST] = {(int32_t)(vocab - 1), -1, (int32_t)(vocab / 2), 0, 0};
            float *logits = random_device(x, MOST * vocab, 1, 20);
            double *losses = device(NULL, MOST * sizeof *losses), loss[USED];
            float *out = place == 0 ? empty_device(MOST * vocab) : place == 1 ? logits : NULL;
            for (int r = 0; r < USED; r++)
                loss[r] = oracle(dx + r * vocab, x + r * vocab, targets[r], vocab, factor);
            orders(i);
            cuda_cross_entropy(NULL, losses, out, logits, device(targets, sizeof targets),
                               some_rows(USED, MOST), vocab, device(&factor, sizeof factor));
            ck_assert_msg(!emu_error(), "%s", emu_error());
            for (int r = 0; r < USED; r++)
                ck_assert_double_le(fabs(losses[r] - loss[r]), 1e-5 * (1 + loss[r]));
            ck_assert(isnan(losses[USED]));
            if (out)
                ck_assert_msg(vocab == 1 || agrees(out, dx, USED * vocab, 1e-5), "%d columns", (int)vocab);
            done();
        }
}
END_TEST

START_TEST(test_argmax_cuda)
{
    for (int i = 0; i < ODD; i++) {
        const int64_t cols = odd[i];
        float *x = random_device(NULL, MOST * cols, (uint64_t)i, 1);
        int32_t *y = device(NULL, MOST * sizeof *y);
        for (int64_t c = 0; c < cols; c++) x[cols + c] = -INFINITY; // a row where nothing is above it
        x[2 * cols + cols / 3] = x[2 * cols + cols - 1] = 5;        // equals: the first counts
        orders(i);
        cuda_argmax(NULL, y, x, some_rows(USED, MOST), cols);
        for (int r = 0; r < USED; r++) {
            int32_t best = 0;
            for (int64_t c = 1; c < cols; c++)
                if (x[r * cols + c] > x[r * cols + best]) best = (int32_t)c;
            ck_assert_int_eq(y[r], best);
        }
        ck_assert_int_eq(y[USED], -1);
        done();
    }
}
END_TEST

Suite *suite_cuda(void)
{
    Suite *s = suite_create("cuda");
    TCase *t = tcase_create("cuda");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_elementwise);
    tcase_add_test(t, test_activations_cuda);
    tcase_add_test(t, test_norms);
    tcase_add_test(t, test_rows_cuda);
    tcase_add_loop_test(t, test_embed, 0, TYPES);
    tcase_add_loop_test(t, test_matmul_cuda, 0, TYPES);
    tcase_add_loop_test(t, test_matmul_mma, 0, 2);
    tcase_add_loop_test(t, test_dequantize_cuda, 0, TYPES);
    tcase_add_loop_test(t, test_matmul_many, 0, TYPES);
    tcase_add_loop_test(t, test_matmul_many_f16, 0, 2);
    tcase_add_test(t, test_convert);
    tcase_add_test(t, test_rope_cuda);
    tcase_add_loop_test(t, test_kv_write_cuda, 0, sizeof cache_types / sizeof *cache_types);
    tcase_add_loop_test(t, test_attention_cuda, 0, 14);
    tcase_add_loop_test(t, test_attention_mma, 0, 16);
    tcase_add_loop_test(t, test_attention_prefix, 0, 7);
    tcase_add_loop_test(t, test_attention_e4m3, 0, 3);
    tcase_add_test(t, test_cross_entropy_cuda);
    tcase_add_test(t, test_argmax_cuda);
    suite_add_tcase(s, t);
    return s;
}

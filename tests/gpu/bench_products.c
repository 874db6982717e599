// tests/gpu/bench_products.c -- products of every type of weights: of single rows beside a copy, of prompts beside cuBLAS in bf16.
//
// Weights of a few rows at a time come from so many matrices in turn that none is still in a cache.
#include <math.h>
#include <stdlib.h>

#include "cuda/planes.h"
#include "quant/quant.h"
#include "quant/stand_in.h"
#include "tests/gpu/bench.h"

enum {
    SETS = 24,
    CACHES = 160 << 20
}; // CACHES: bytes of all matrices together, three times the cache of an H200

struct product {
    struct cuda_matrix w[SETS];
    int sets;
    struct cuda_rows rows;
    void *x;
    float *y;
    struct cublas *cublas; // NULL: our own
};

static void run_product(void *user, int turn)
{
    struct product *p = user;
    const struct cuda_matrix *w = &p->w[turn % p->sets];
    if (p->cublas)
        cublas_matmul(p->cublas, NULL, p->y, p->x, w, p->rows.most, NULL);
    else
        cuda_matmul(NULL, p->y, p->x, w, p->rows);
}

// Against the double product of what the kernel was given, the first outputs.
static double product_error(const struct product *p, enum dtype input)
{
    const int64_t k = p->w[0].inputs, n = p->w[0].outputs, rows = p->rows.most < 4 ? p->rows.most : 4;
    const int64_t checked = n < STAND_IN_ROWS ? n : STAND_IN_ROWS;
    struct tensor some = tensor_shape(p->w[0].type, k, checked, 1, 1);
    float *row = malloc((size_t)k * sizeof *row), *y = malloc((size_t)(rows * n) * sizeof *y);
    double *oracle = calloc((size_t)(rows * n), sizeof *oracle), error = NAN;
    const size_t x_bytes = (size_t)(p->rows.most * k) * 4 + 64; // the largest of the forms
    char *x = malloc(x_bytes);
    some.data = malloc(tensor_bytes(&some));
    if (row && y && oracle && x && some.data) {
        const size_t number = input == DTYPE_F32 ? 4 : 2;
        bench_fetch(x, p->x,
                    input == DTYPE_Q8_1 ? (size_t)(p->rows.most * k) * 9 / 8
                                        : (size_t)(p->rows.most * k) * number);
        bench_fetch(y, p->y, (size_t)(rows * n) * sizeof *y);
        stand_in_draw(&some, row);
        const struct cuda_q8 q = cuda_q8_at(x, p->rows.most, k);
        for (int64_t o = 0; o < checked; o++) {
            quant_types[some.type].dequantize(row, tensor_row(&some, o), k);
            for (int64_t r = 0; r < rows; r++)
                for (int64_t i = 0, at = r * k; i < k; i++, at++)
                    oracle[r * checked + o] +=
                        row[i] * (input == DTYPE_F32    ? (double)((float *)(void *)x)[at]
                                  : input == DTYPE_BF16 ? (double)f32_from_bf16(((uint16_t *)(void *)x)[at])
                                                        : (double)q.scales[at / 32] * q.codes[at]);
        }
        for (int64_t r = 0; r < rows; r++)
            for (int64_t o = 0; o < checked; o++) y[r * checked + o] = y[r * n + o];
        error = bench_error(y, oracle, rows * checked);
    }
    free(row), free(y), free(oracle), free(x), free(some.data);
    return error;
}

static void one_product(struct bench *b, enum dtype type, int64_t n, int64_t k, int64_t rows, bool cublas)
{
    struct product p = {.rows = {NULL, rows}};
    struct tensor t = tensor_shape(type, k, n, 1, 1);
    const enum dtype input = cuda_matmul_input(type);
    const bool few = rows <= 8;
    struct upload_ring ring;
    struct tlm_error err;
    if (cublas && !(p.cublas = cuda_backend_cublas(b->backend))) return;
    TLM_ASSERT(!upload_open(&ring, &err));
    const int64_t sets = few && !b->small ? CACHES / (int64_t)planes_bytes(&t) + 1 : 1;
    for (p.sets = 0; p.sets < sets && p.sets < SETS; p.sets++) {
        void *planes = bench_alloc(b, planes_bytes(&t));
        if (upload_stand_in(&ring, &t, planes, &err)) fprintf(stderr, "gpu_bench: %s\n", err.text), exit(1);
        p.w[p.sets] = planes_matrix(&t, planes, 0);
    }
    upload_close(&ring);
    float *x = bench_numbers(b, 9, rows * k);
    p.x = x, p.y = bench_alloc(b, (size_t)(rows * n) * sizeof(float));
    if (input != DTYPE_F32)
        cuda_convert(NULL, p.x = bench_alloc(b, (size_t)(rows * k) * 4), input, x, p.rows, k);
    run_product(&p, 0);
    char name[96];
    snprintf(name, sizeof name, "%s%s %d x %d, %d row%s", cublas ? "cuBLAS " : "", dtype_traits[type].name,
             (int)n, (int)k, (int)rows, rows > 1 ? "s" : "");
    const struct bench_case c = {few ? "gemv" : "gemm",
                                 name,
                                 (double)planes_bytes(&t) + 4.0 * (double)(rows * (n + k)),
                                 2.0 * (double)rows * (double)n * (double)k,
                                 few ? BACKEND_COPY : BACKEND_PRODUCT,
                                 product_error(&p, input)};
    bench_case(b, &c, run_product, &p);
    bench_free_all(b);
}

void bench_products(struct bench *b)
{
    const int64_t n = b->small ? 96 : 14336, k = b->small ? 512 : 4096;
    for (int type = 0; type < DTYPE_COUNT; type++) {
        if (cuda_matmul_input((enum dtype)type) == DTYPE_COUNT || !quant_types[type].quantize) continue;
        static const int64_t rows[] = {1, 8, 512};
        for (int i = 0; i < 3; i++)
            one_product(b, (enum dtype)type, n, k, b->small && rows[i] > 70 ? 70 : rows[i], false);
    }
    // The smaller matrices of a model of 1B: a launch has less to do than the device has units.
    if (!b->small) one_product(b, DTYPE_BF16, 2048, 2048, 1, false);
    one_product(b, DTYPE_BF16, n, k, b->small ? 70 : 512, true);
    if (!b->small)
        one_product(b, DTYPE_BF16, n, k, 4096, false), one_product(b, DTYPE_BF16, n, k, 4096, true);
}

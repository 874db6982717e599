// tests/gpu/bench_products.c -- products of every type of weights: of single rows beside a copy, of prompts beside cuBLAS in bf16.
//
// Weights of a few rows at a time come from so many matrices in turn that none is still in a cache.
#include <math.h>
#include <stdlib.h>

#include "cuda/planes.h"
#include "cuda/products.h"
#include "quant/quant.h"
#include "quant/stand_in.h"
#include "tests/gpu/bench.h"

enum {
    SETS = 24,
    CACHES = 160 << 20,
    EXPERTS_MOST = 64
}; // CACHES: bytes of all matrices together, three times the cache of an H200

// Which product: what a step of few rows runs, of many, the library's, or each of the forms among which that of many chooses
enum form { OF_FEW, OF_MANY, OF_CUBLAS, OF_TILES, FORMS = OF_TILES + WGMMA_FORMS };

// A residual that is added to it: none, by a launch behind it, by the product itself
enum residual { NO_RESIDUAL, RESIDUAL_BEHIND, RESIDUAL_WITHIN };

struct product {
    struct cuda_matrix w[SETS];
    int sets;
    struct cuda_rows rows;
    struct cuda_groups groups;
    void *x, *scratch;
    float *y, *base; // base: zeros, of the shape of y
    size_t scratch_bytes;
    enum form form;
    enum residual residual;
    struct cublas *cublas;
};

// False where the device has no such form.
static bool run_tiles(const struct product *p, const struct cuda_matrix *w)
{
    const struct cuda_tiles t = {.p = {.y = p->y,
                                       .x = p->x,
                                       .w = w->codes,
                                       .x_type = DTYPE_BF16,
                                       .w_type = DTYPE_BF16,
                                       .x_stride = w->inputs,
                                       .w_stride = w->inputs,
                                       .m = p->rows,
                                       .k = {NULL, w->inputs},
                                       .n = w->outputs},
                                 .y_stride = w->outputs,
                                 .parts = 1,
                                 .passes = 1};
    return matmul_wgmma_as(NULL, &t, false, (enum wgmma_form)(p->form - OF_TILES));
}

static void run_product(void *user, int turn)
{
    struct product *p = user;
    const struct cuda_matrix *w = &p->w[turn % p->sets];
    const bool within = p->residual == RESIDUAL_WITHIN;
    if (p->form == OF_CUBLAS)
        cublas_matmul(p->cublas, NULL, p->y, p->x, w, p->rows.most, within, NULL);
    else if (within)
        matmul_many_added(NULL, p->y, p->x, w, p->rows, (struct cuda_addends){p->base, NULL}, p->scratch,
                          p->scratch_bytes);
    else if (p->form >= OF_TILES)
        run_tiles(p, w);
    else if (p->form == OF_MANY)
        cuda_matmul_many(NULL, p->y, p->x, w, p->rows, p->groups, p->scratch, p->scratch_bytes);
    else
        cuda_matmul_grouped(NULL, p->y, p->x, w, p->rows, p->groups);
    if (p->residual == RESIDUAL_BEHIND) cuda_add(NULL, p->y, p->y, p->base, p->rows, w->outputs);
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

// The same with the kernel for the matrix's sizes, where that was the faster one when it was measured.
static void made_product(struct bench *b, struct product *p, const struct bench_case *own)
{
    struct bench_case c = *own;
    char name[128];
    const int chosen = jit_counts(b->backend->jit).chosen;
    for (int i = 0; i < p->sets; i++) p->w[i].jit = b->backend->jit;
    run_product(p, 0);
    if (jit_counts(b->backend->jit).chosen == chosen) return;
    snprintf(name, sizeof name, "%s, made for its sizes", own->name);
    c.name = name, c.error = product_error(p, cuda_matmul_input(p->w[0].type));
    bench_case(b, &c, run_product, p);
}

// `experts` matrices (n, k), each of which gets as many of the rows
static void measure(struct bench *b, enum dtype type, int64_t experts, int64_t n, int64_t k, int64_t rows,
                    enum form form, enum residual residual)
{
    static const char *const residuals[] = {"", ", then a residual", ", with a residual"};
    static const char *const library[FORMS] = {[OF_CUBLAS] = "cuBLAS "};
    static const char *const tiles[FORMS] = {
        [OF_TILES + WGMMA_128] = ", by tiles of 128 x 128",
        [OF_TILES + WGMMA_256] = ", by tiles of 128 x 256",
        [OF_TILES + WGMMA_PAIRS_128] = ", by pairs of 128 x 128",
        [OF_TILES + WGMMA_PAIRS_256] = ", by pairs of 128 x 256",
    };
    struct product p = {.rows = {NULL, rows}, .groups = {experts, NULL}, .form = form, .residual = residual};
    struct tensor t = tensor_shape(type, k, n, experts, 1);
    char stack[32] = "";
    const enum dtype input = form == OF_MANY ? cuda_matmul_many_input(type) : cuda_matmul_input(type);
    const bool few = rows <= 8;
    struct upload_ring ring;
    struct tlm_error err;
    if (form == OF_CUBLAS && !(p.cublas = cuda_backend_cublas(b->backend))) return;
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
    if (form == OF_MANY && (p.scratch_bytes = cuda_matmul_many_scratch(&p.w[0], experts, rows, k)))
        p.scratch = bench_alloc(b, p.scratch_bytes);
    if (residual) {
        const size_t bytes = (size_t)(rows * n) * sizeof(float);
        void *zeros = calloc(1, bytes);
        p.base = bench_put(b, zeros, bytes);
        free(zeros);
        cuda_copy(NULL, p.y, p.base, bytes); // which the library adds to
    }
    if (experts > 1) {
        int32_t first[EXPERTS_MOST + 1];
        for (int64_t e = 0; e <= experts; e++) first[e] = (int32_t)(e * rows / experts);
        p.groups.first = bench_put(b, first, (size_t)(experts + 1) * sizeof *first);
        snprintf(stack, sizeof stack, "%d experts of ", (int)experts);
    }
    if (form >= OF_TILES && !run_tiles(&p, &p.w[0])) {
        bench_free_all(b);
        return;
    }
    run_product(&p, 0);
    char name[112];
    snprintf(name, sizeof name, "%s%s%s %d x %d, %d row%s%s%s%s", library[form] ? library[form] : "", stack,
             dtype_traits[type].name, (int)n, (int)k, (int)rows, rows > 1 ? "s" : "",
             form == OF_FEW && rows >= CUDA_MANY_ROWS ? ", as of fewer" : "", tiles[form] ? tiles[form] : "",
             residuals[residual]);
    const struct bench_case c = {few ? "gemv" : "gemm",
                                 name,
                                 (double)planes_bytes(&t) + 4.0 * (double)(rows * (n + k)),
                                 2.0 * (double)rows * (double)n * (double)k,
                                 few ? BACKEND_COPY : BACKEND_PRODUCT,
                                 product_error(&p, input)};
    bench_case(b, &c, run_product, &p);
    if (few) made_product(b, &p, &c);
    bench_free_all(b);
}

static void one_product(struct bench *b, enum dtype type, int64_t n, int64_t k, int64_t rows, enum form form)
{
    measure(b, type, 1, n, k, rows, form, NO_RESIDUAL);
}

// A mixture of experts to each of which 16 or 64 rows come, as of few rows and of many.
static void compare_experts(struct bench *b)
{
    static const enum dtype types[] = {DTYPE_BF16, DTYPE_Q4_K, DTYPE_MXFP4};
    const int64_t experts = b->small ? 2 : EXPERTS_MOST, n = b->small ? 32 : 768, k = b->small ? 256 : 2048;
    for (int type = 0; type < 3; type++)
        for (enum form form = types[type] == DTYPE_BF16 ? OF_MANY : OF_FEW; form <= OF_MANY; form++)
            for (int64_t each = b->small ? 64 : 16; each <= 64; each *= 4)
                measure(b, types[type], experts, n, k, each * experts, form, NO_RESIDUAL);
}

// Around the border between the products of few rows and of many (cuda/matmul_many.cu), both.
static void compare_borders(struct bench *b, int64_t n, int64_t k)
{
    static const enum dtype types[] = {DTYPE_F16, DTYPE_Q4_K, DTYPE_Q8_0};
    static const int64_t rows[] = {CUDA_MANY_ROWS, 2 * CUDA_MANY_ROWS, 512};
    for (int type = 0; type < 3; type++)
        for (int i = 0; i < (b->small ? 1 : 3); i++) {
            one_product(b, types[type], n, k, rows[i], OF_FEW);
            if (rows[i] < 512) one_product(b, types[type], n, k, rows[i], OF_MANY); // of 512 there is one
        }
    if (!b->small) one_product(b, DTYPE_Q4_K, n, k, 4096, OF_MANY);
}

// The product behind attention, whose results a residual is added to, by a launch of its own and by the product: of a prompt of an 8B model, and
// of a step of GPT-2 124M, where a pass over the results takes as long as the product.
static void compare_residuals(struct bench *b)
{
    static const struct {
        enum dtype type;
        enum form form;
    } products[] = {{DTYPE_BF16, OF_MANY}, {DTYPE_BF16, OF_CUBLAS}, {DTYPE_Q4_K, OF_MANY}};
    const int64_t n = b->small ? 96 : 4096, k = b->small ? 256 : 4096, rows = b->small ? 70 : 2048;
    const int64_t width = b->small ? 64 : 768, step = b->small ? 72 : 16384;
    for (int i = 0; i < 3; i++)
        for (enum residual r = RESIDUAL_BEHIND; r <= RESIDUAL_WITHIN; r++) {
            measure(b, products[i].type, 1, n, k, rows, products[i].form, r);
            if (products[i].type == DTYPE_BF16)
                measure(b, DTYPE_BF16, 1, width, width, step, products[i].form, r);
        }
}

// The forms of tensor cores' tiles beside each other and the library: of prompts in one piece and in several, and of a matrix with few outputs.
static void compare_tiles(struct bench *b)
{
    static const struct {
        int64_t n, k, rows;
    } shapes[] = {{14336, 4096, 512}, {14336, 4096, 2048}, {14336, 4096, 4096},
                  {4096, 4096, 512},  {4096, 4096, 2048},  {4096, 14336, 2048}};
    for (int form = OF_CUBLAS; form < FORMS; form++) {
        if (b->small) one_product(b, DTYPE_BF16, 96, 128, 140, (enum form)form);
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes && !b->small; i++)
            one_product(b, DTYPE_BF16, shapes[i].n, shapes[i].k, shapes[i].rows, (enum form)form);
    }
}

void bench_products(struct bench *b)
{
    const int64_t n = b->small ? 96 : 14336, k = b->small ? 512 : 4096;
    for (int type = 0; type < DTYPE_COUNT; type++) {
        if (cuda_matmul_input((enum dtype)type) == DTYPE_COUNT || !quant_types[type].quantize) continue;
        static const int64_t rows[] = {1, 8, 512};
        for (int i = 0; i < 3; i++)
            one_product(b, (enum dtype)type, n, k, b->small && rows[i] > 70 ? 70 : rows[i],
                        rows[i] < CUDA_MANY_ROWS ? OF_FEW : OF_MANY);
    }
    // The smaller matrices of a model of 1B: a launch has less to do than the device has units.
    if (!b->small) one_product(b, DTYPE_BF16, 2048, 2048, 1, OF_FEW);
    if (!b->small) one_product(b, DTYPE_BF16, n, k, 4096, OF_MANY);
    compare_tiles(b);
    compare_residuals(b);
    compare_borders(b, n, k);
    compare_experts(b);
}

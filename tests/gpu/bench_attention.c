// tests/gpu/bench_attention.c -- attention over a paged cache of several types: a token behind many beside a copy, a prompt by its operations.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/gradient.h"
#include "ops/paged.h"
#include "tests/gpu/bench.h"

struct shape {
    int32_t heads, kv_heads, d;
    int64_t rows, keys; // the rows are the last of the keys
    enum dtype cache;
};

static void run_attention(void *user, int turn)
{
    (void)turn;
    cuda_attention(NULL, user);
}

// Numbers of bench_number() in the cache's type, for the host's reference and the device.
static struct paged_kv make_cache(struct bench *b, const struct shape *s, uint64_t stream, char **host)
{
    const int32_t blocks = (int32_t)((s->keys + KV_BLOCK - 1) / KV_BLOCK);
    struct paged_kv kv = paged_layout(s->cache, KV_ROWS, blocks, s->d);
    const size_t bytes = (size_t)s->kv_heads * kv.head_stride, some = dtype_row_bytes(s->cache, BENCH_PERIOD);
    float numbers[BENCH_PERIOD];
    for (int64_t i = 0; i < BENCH_PERIOD; i++) numbers[i] = bench_number(stream, i);
    char *period = malloc(some);
    *host = malloc(bytes);
    TLM_ASSERT(*host && period);
    kernels_for(ISA_REF).from_real[s->cache](period, numbers, BENCH_PERIOD);
    for (size_t at = 0; at < bytes; at += some)
        memcpy(*host + at, period, bytes - at < some ? bytes - at : some);
    free(period);
    kv.data = bench_put(b, *host, bytes);
    return kv;
}

// The last rows' heads of the first key-value head against the reference in double.
static double attention_error(const struct cuda_attention *a, const struct shape *s, char *host_k,
                              char *host_v)
{
    const struct kernels f64 = kernels_for_f64();
    const int32_t group = s->heads / s->kv_heads, rows = s->rows < 4 ? (int32_t)s->rows : 4;
    const int64_t first = s->rows - rows, width = (int64_t)s->heads * s->d, n = rows * width;
    const int32_t blocks = (int32_t)((s->keys + KV_BLOCK - 1) / KV_BLOCK);
    double *q = malloc((size_t)n * sizeof *q), *y = calloc((size_t)n, sizeof *y), error = NAN;
    float *found = malloc((size_t)n * sizeof *found);
    int32_t pos[4], *table = malloc((size_t)blocks * sizeof *table);
    struct attention_args args = {
        .y = (void *)y,
        .q = (void *)q,
        .k = a->k,
        .v = a->v,
        .blocks = table,
        .pos = pos,
        .y_stride = (size_t)width,
        .q_stride = (size_t)width,
        .rows = rows,
        .head_begin = 0,
        .head_count = group,
        .head_dim = s->d,
        .value_dim = s->d,
        .scale = a->scale,
        .scratch = malloc(f64.attention_scratch(rows, group, s->d, s->d)),
    };
    args.k.data = host_k, args.v.data = host_v;
    if (q && y && found && table && args.scratch) {
        for (int32_t i = 0; i < blocks; i++) table[i] = i;
        for (int32_t r = 0; r < rows; r++) pos[r] = (int32_t)(s->keys - rows + r);
        for (int64_t i = 0; i < n; i++) q[i] = bench_number(13, first * width + i);
        f64.attention_fwd(&args);
        bench_fetch(found, a->y + first * width, (size_t)n * sizeof *found);
        for (int32_t r = 0; r < rows; r++) // the heads that the reference has computed
            for (int32_t i = 0; i < group * s->d; i++) {
                found[r * group * s->d + i] = found[r * width + i];
                y[r * group * s->d + i] = y[r * width + i];
            }
        error = bench_error(found, y, (int64_t)rows * group * s->d);
    }
    free(q), free(y), free(found), free(table), free(args.scratch);
    return error;
}

static int32_t *rising(struct bench *b, int64_t first, int64_t count)
{
    int32_t *host = malloc((size_t)count * sizeof *host);
    TLM_ASSERT(host);
    for (int64_t i = 0; i < count; i++) host[i] = (int32_t)(first + i);
    int32_t *p = bench_put(b, host, (size_t)count * sizeof *host);
    free(host);
    return p;
}

static struct attention_tile *make_tiles(struct bench *b, int64_t rows, int64_t *count)
{
    *count = (rows + ATTENTION_ROWS - 1) / ATTENTION_ROWS;
    struct attention_tile *host = calloc((size_t)*count, sizeof *host);
    TLM_ASSERT(host);
    for (int64_t i = 0, at = 0; i < *count; i++, at += ATTENTION_ROWS)
        host[i] = (struct attention_tile){
            (int32_t)at, (int32_t)(rows - at < ATTENTION_ROWS ? rows - at : ATTENTION_ROWS), 0, 0};
    struct attention_tile *tiles = bench_put(b, host, (size_t)*count * sizeof *host);
    free(host);
    return tiles;
}

static void one_attention(struct bench *b, const struct shape *s)
{
    char *host_k, *host_v, name[96];
    int64_t tiles;
    const int64_t width = (int64_t)s->heads * s->d;
    const bool prompt = s->rows > 8;
    struct cuda_attention a = {
        .y = bench_alloc(b, (size_t)(s->rows * width) * sizeof(float)),
        .q = bench_numbers(b, 13, s->rows * width),
        .k = make_cache(b, s, 11, &host_k),
        .v = make_cache(b, s, 12, &host_v),
        .tiles = make_tiles(b, s->rows, &tiles),
        .pos = rising(b, s->keys - s->rows, s->rows),
        .tables = rising(b, 0, (s->keys + KV_BLOCK - 1) / KV_BLOCK),
        .tile_count = {NULL, tiles},
        .rows = {NULL, s->rows},
        .heads = s->heads,
        .kv_heads = s->kv_heads,
        .head_dim = s->d,
        .value_dim = s->d,
        .splits = prompt ? 1 : 32,
        .scale = 1 / sqrtf((float)s->d),
    };
    a.partial =
        bench_alloc(b, sizeof(float) * (size_t)cuda_attention_partial(s->rows, s->heads, s->d, a.splits));
    cuda_attention(NULL, &a);
    double seen = 0;
    for (int64_t r = 0; r < s->rows; r++) seen += (double)(s->keys - s->rows + r + 1);
    snprintf(name, sizeof name,
             prompt ? "prompt, d%d, causal, %d tokens%s%s%s" : "a token, d%d, behind %d keys%s%s%s", s->d,
             (int)s->keys, s->cache == DTYPE_F16 ? "" : " of ",
             s->cache == DTYPE_F16 ? "" : dtype_traits[s->cache].name,
             s->heads == 8 * s->kv_heads ? ", eight heads each" : "");
    const struct bench_case c = {"attention",
                                 name,
                                 2.0 * (double)s->kv_heads *
                                     (double)(dtype_row_bytes(s->cache, s->d) * (size_t)s->keys),
                                 4.0 * (double)width * seen,
                                 prompt ? BACKEND_PRODUCT : BACKEND_COPY,
                                 attention_error(&a, s, host_k, host_v)};
    bench_case(b, &c, run_attention, &a);
    free(host_k), free(host_v);
    bench_free_all(b);
}

// ---- training: documents of rows, no cache ------------------------------------------------------------------

static void run_forward(void *user, int turn)
{
    (void)turn;
    cuda_attention_rows(NULL, user);
}

static void run_backward(void *user, int turn)
{
    (void)turn;
    cuda_attention_dx(NULL, user);
}

static void *f16_numbers(struct bench *b, uint64_t stream, int64_t rows, int64_t cols)
{
    void *y = bench_alloc(b, (size_t)(rows * cols) * 2);
    cuda_convert(NULL, y, DTYPE_F16, bench_numbers(b, stream, rows * cols), (struct cuda_rows){NULL, rows},
                 cols);
    return y;
}

// One document of f16 rows. Errors: tests/test_cuda_gradient.c.
static void training_attention(struct bench *b, const struct shape *s)
{
    const int64_t rows = s->rows, width = (int64_t)s->heads * s->d, kv = (int64_t)s->kv_heads * s->d;
    const size_t floats = (size_t)(rows * width) * sizeof(float);
    struct cuda_attention_dx a = {
        .of = {.y = bench_alloc(b, floats),
               .lse = bench_alloc(b, (size_t)(rows * s->heads) * sizeof(float)),
               .q = f16_numbers(b, 21, rows, width),
               .k = f16_numbers(b, 22, rows, kv),
               .v = f16_numbers(b, 23, rows, kv),
               .v_stride = kv,
               .type = DTYPE_F16,
               .pos = rising(b, 0, rows),
               .rows = {NULL, rows},
               .heads = s->heads,
               .kv_heads = s->kv_heads,
               .head_dim = s->d,
               .value_dim = s->d,
               .scale = 1 / sqrtf((float)s->d)},
        .dq = bench_alloc(b, floats),
        .dk = bench_alloc(b, floats),
        .dv = bench_alloc(b, floats),
        .stride = width,
        .dy = bench_numbers(b, 24, rows * width),
    };
    cuda_attention_dx_place(&a, bench_alloc(b, cuda_attention_dx_scratch(rows, s->heads, s->d)));
    const double seen = (double)rows * (double)(rows + 1) / 2;
    char forward[96], backward[96];
    snprintf(forward, sizeof forward, "training, d%d, causal, %d tokens", s->d, (int)rows);
    snprintf(backward, sizeof backward, "backward, d%d, causal, %d tokens", s->d, (int)rows);
    const struct bench_case f = {"attention", forward, 0, 4 * (double)width * seen, BACKEND_PRODUCT, NAN};
    const struct bench_case d = {"attention", backward, 0, 10 * (double)width * seen, BACKEND_PRODUCT, NAN};
    bench_case(b, &f, run_forward, &a.of);
    bench_case(b, &d, run_backward, &a);
    bench_free_all(b);
}

void bench_attention(struct bench *b)
{
    static const struct shape small_rows = {4, 2, 64, 80, 80, DTYPE_F16},
                              whole_rows = {4, 4, 128, 16384, 16384, DTYPE_F16};
    training_attention(b, b->small ? &small_rows : &whole_rows);
    static const struct shape small[] = {
        {4, 2, 64, 1, 200, DTYPE_F16}, {4, 2, 64, 1, 200, DTYPE_F8_E4M3}, {4, 2, 64, 80, 80, DTYPE_F16}};
    static const struct shape whole[] = {
        {32, 8, 128, 1, 4096, DTYPE_F16},        {32, 8, 128, 1, 16384, DTYPE_F16},
        {64, 8, 128, 1, 16384, DTYPE_F16},       {32, 8, 128, 1, 16384, DTYPE_Q8_0},
        {32, 8, 128, 1, 16384, DTYPE_F8_E4M3},   {32, 8, 128, 2048, 2048, DTYPE_F16},
        {32, 8, 128, 2048, 2048, DTYPE_F8_E4M3}, {32, 32, 128, 16384, 16384, DTYPE_F16}};
    if (b->small)
        for (size_t i = 0; i < sizeof small / sizeof *small; i++) one_attention(b, &small[i]);
    else
        for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) one_attention(b, &whole[i]);
}

// tests/gpu/bench_layer.c -- a layer's decoding, an op a launch beside the launches of cuda/fuse.h, rule by rule: what each of them saves.
//
// Layers with weights of their own are recorded and sent as one, as a step is. Errors are against the launches of single ops.
#include <math.h>
#include <stdlib.h>

#include "cuda/fused.h"
#include "cuda/planes.h"
#include "ops/paged.h"
#include "tests/gpu/bench.h"

enum { LAYERS = 4, MATRICES = 7, MOST_ROWS = 8 };
enum matrix { Q, K, V, O, GATE, UP, DOWN };

// The parts of a layer that are one launch or several.
enum part { NORM_QKV, HEADS, ATTENTION, O_ADD, NORM_GLU, DOWN_ADD, PARTS };
static const char *const part_names[PARTS] = {"norm, q, k, v", "rotation, cache",     "attention",
                                              "o, residual",   "norm, gate, up, act", "down, residual"};
static const int apart_launches[PARTS] = {5, 4, 2, 3, 5, 3};

struct chain {
    int layers;
    int32_t width, inner, heads, kv_heads, d, keys;
    struct cuda_rows rows;
    struct cuda_matrix w[LAYERS][MATRICES];
    float *x, *h, *q, *k, *v, *turned_q, *turned_k, *seen, *gate, *up, *y, *norm, *table;
    void *converted;
    const float *begin; // x in front of the first layer
    int32_t *slots;
    struct cuda_attention attention;
    int processors;
    unsigned fused;  // bits of parts
    struct jit *jit; // what makes kernels for their shapes; NULL: the program's own
    struct cuda_stream *stream;
    struct cuda_recording *recording;
};

static bool is_fused(const struct chain *c, enum part p)
{
    return c->fused >> p & 1;
}

static void convert(const struct chain *c, const struct cuda_matrix *w, const float *x)
{
    const enum dtype type = cuda_matmul_input(w->type);
    cuda_convert(c->stream, c->converted, type, x, c->rows, w->inputs);
}

static struct cuda_fused_product product_of(const struct chain *c, const struct cuda_matrix *w, int parts,
                                            const float *x)
{
    struct cuda_fused_product p = {.shape = cuda_fused_shape_of(w), .rows = c->rows, .x = x, .factor = 1};
    p.shape.parts = parts, p.jit = c->jit;
    for (int i = 0; i < parts; i++) {
        p.shape.outputs[i] = (int32_t)w[i].outputs;
        p.part[i].codes = w[i].codes, p.part[i].scales = w[i].scales;
    }
    return p;
}

// x (rows, width), normed, times `parts` matrices that stand behind each other in the layer
static void products(const struct chain *c, const struct cuda_matrix *w, int parts, float *const *y,
                     bool fused, bool gated)
{
    if (fused) {
        struct cuda_fused_product p = product_of(c, w, parts, c->x);
        p.shape.norm = FUSED_RMSNORM, p.norm_w = c->norm, p.eps = 1e-5f;
        p.shape.gated = gated, p.shape.kind = ACT_SILU;
        for (int i = 0; i < parts; i++) p.part[i].y = y[i];
        cuda_fused_product(c->stream, &p, c->processors);
        return;
    }
    cuda_rmsnorm(c->stream, c->h, c->x, c->norm, c->rows, c->width, c->width, 1, 1e-5);
    convert(c, w, c->h);
    for (int i = 0; i < parts; i++) cuda_matmul(c->stream, y[i], c->converted, &w[i], c->rows);
    if (gated) cuda_glu(c->stream, y[0], y[0], y[1], c->rows, c->inner, ACT_SILU);
}

// to = base + w x
static void residual(const struct chain *c, const struct cuda_matrix *w, float *to, const float *base,
                     const float *x, bool fused)
{
    if (fused) {
        struct cuda_fused_product p = product_of(c, w, 1, x);
        p.base = base, p.part[0].y = to;
        cuda_fused_product(c->stream, &p, c->processors);
        return;
    }
    convert(c, w, x);
    cuda_matmul(c->stream, c->h, c->converted, w, c->rows);
    cuda_add(c->stream, to, base, c->h, c->rows, c->width);
}

static int64_t bytes_ahead(const struct cuda_matrix *w, size_t stride)
{
    const int64_t bytes = w->outputs * (int64_t)stride;
    return bytes < FUSED_AHEAD_MOST ? bytes : FUSED_AHEAD_MOST;
}

static void heads(const struct chain *c, const struct cuda_matrix *o)
{
    const int32_t pairs = c->d / 2;
    const struct paged_kv *keys = &c->attention.k, *values = &c->attention.v;
    if (is_fused(c, HEADS)) {
        const struct cuda_fused_heads p = {
            .rows = c->rows,
            .table = c->table,
            .slots = c->slots,
            .kind = {{.x = c->q, .y = c->turned_q, .heads = c->heads, .dim = c->d, .pairs = pairs},
                     {.x = c->k, .cache = *keys, .heads = c->kv_heads, .dim = c->d, .pairs = pairs},
                     {.x = c->v, .cache = *values, .heads = c->kv_heads, .dim = c->d}},
            .pairing = ROPE_HALVES,
            .ahead = {{o->codes, bytes_ahead(o, o->code_stride)},
                      {o->scales, bytes_ahead(o, o->scale_stride)}}};
        cuda_fused_heads(c->stream, &p);
        return;
    }
    cuda_rope(c->stream, c->turned_q, c->q, c->table, c->rows, c->heads, c->d, pairs, ROPE_HALVES);
    cuda_rope(c->stream, c->turned_k, c->k, c->table, c->rows, c->kv_heads, c->d, pairs, ROPE_HALVES);
    cuda_kv_write(c->stream, keys, c->turned_k, c->slots, c->rows, c->kv_heads, c->d);
    cuda_kv_write(c->stream, values, c->v, c->slots, c->rows, c->kv_heads, c->d);
}

static void layers(const struct chain *c)
{
    cuda_copy(c->stream, c->x, c->begin, (size_t)(c->rows.most * c->width) * sizeof(float));
    for (int l = 0; l < c->layers; l++) {
        const struct cuda_matrix *w = c->w[l];
        struct cuda_attention a = c->attention;
        products(c, w + Q, 3, (float *const[]){c->q, c->k, c->v}, is_fused(c, NORM_QKV), false);
        heads(c, &w[O]);
        if (!is_fused(c, ATTENTION)) a.arrived = NULL;
        cuda_attention(c->stream, &a);
        residual(c, w + O, c->y, c->x, c->seen, is_fused(c, O_ADD));
        struct chain behind = *c; // the rows between attention and feed-forward part are another buffer's
        behind.x = c->y, behind.y = c->x;
        products(&behind, w + GATE, 2, (float *const[]){c->gate, c->up}, is_fused(c, NORM_GLU), true);
        residual(&behind, w + DOWN, c->x, c->y, c->gate, is_fused(c, DOWN_ADD));
    }
}

static void run_layers(void *user, int turn)
{
    const struct chain *c = user;
    (void)turn;
    if (c->recording)
        cuda_recording_run(c->recording, NULL);
    else
        layers(c);
}

// Kernels are measured when they are first launched, on a stream that can be recorded.
static void make_kernels(struct bench *b, struct chain *c)
{
    struct tlm_error err;
    c->jit = b->backend->jit;
    c->stream = cuda_stream_open();
    layers(c);
    if (cuda_sync(c->stream, &err)) fprintf(stderr, "gpu_bench: %s\n", err.text), exit(1);
    cuda_stream_close(c->stream);
}

static void one_row(struct bench *b, struct chain *c, const char *shape, unsigned fused, const char *what,
                    double *oracle)
{
    const int64_t n = c->rows.most * c->width;
    char name[128];
    float *found = malloc((size_t)n * sizeof *found);
    struct bench_case record = {"layers", name, 0, 0, BACKEND_COPY, 0};
    TLM_ASSERT(found);
    int launches = 0;
    for (int p = 0; p < PARTS; p++) launches += fused >> p & 1 ? 1 : apart_launches[p];
    for (int l = 0; l < c->layers; l++)
        for (int m = 0; m < MATRICES; m++)
            record.bytes +=
                (double)c->w[l][m].outputs * (double)(c->w[l][m].code_stride + c->w[l][m].scale_stride);
    record.bytes += 4.0 * c->layers * c->keys * c->kv_heads * c->d; // of f16
    c->fused = fused;
    c->stream = NULL;
    layers(c);
    bench_fetch(found, c->x, (size_t)n * sizeof *found);
    for (int64_t i = 0; i < n && !fused; i++) oracle[i] = (double)found[i];
    record.error = bench_error(found, oracle, n);
    c->stream = cuda_stream_open();
    cuda_record_begin(c->stream);
    layers(c);
    c->recording = cuda_record_end(c->stream);
    snprintf(name, sizeof name, "%d of %s, %d row%s, %s: %d launches each%s", c->layers, shape,
             (int)c->rows.most, c->rows.most > 1 ? "s" : "", what, launches,
             c->recording ? "" : ", not recorded");
    bench_case(b, &record, run_layers, c);
    cuda_recording_free(c->recording);
    cuda_stream_close(c->stream);
    free(found);
}

// ---- the model ----------------------------------------------------------------------------------------

static void make_weights(struct bench *b, struct chain *c, enum dtype type)
{
    const int64_t q = (int64_t)c->heads * c->d, kv = (int64_t)c->kv_heads * c->d;
    const int64_t sizes[MATRICES][2] = {{q, c->width},       {kv, c->width},       {kv, c->width},
                                        {c->width, q},       {c->inner, c->width}, {c->inner, c->width},
                                        {c->width, c->inner}};
    struct upload_ring ring;
    struct tlm_error err;
    TLM_ASSERT(!upload_open(&ring, &err));
    for (int l = 0; l < c->layers; l++)
        for (int m = 0; m < MATRICES; m++) {
            const struct tensor t = tensor_shape(type, sizes[m][1], sizes[m][0], 1, 1);
            void *planes = bench_alloc(b, planes_bytes(&t));
            if (upload_stand_in(&ring, &t, planes, &err))
                fprintf(stderr, "gpu_bench: %s\n", err.text), exit(1);
            c->w[l][m] = planes_matrix(&t, planes, 0);
        }
    upload_close(&ring);
}

static float *empty(struct bench *b, int64_t count)
{
    return bench_alloc(b, (size_t)(MOST_ROWS * count) * sizeof(float));
}

// A cache of numbers in a sequence of `keys`, whose last ones are the step's rows.
static void make_cache(struct bench *b, struct chain *c)
{
    enum { MOST_KEYS = 1024 };
    int32_t pos[MOST_ROWS], slots[MOST_ROWS], table[MOST_KEYS / KV_BLOCK], zeros[MOST_ROWS * 64] = {0};
    const struct attention_tile tile = {0, (int32_t)c->rows.most, 0, 0};
    struct cuda_attention *a = &c->attention;
    const int32_t blocks = c->keys / KV_BLOCK;
    TLM_ASSERT(c->keys <= MOST_KEYS && c->heads <= 64);
    for (int32_t i = 0; i < blocks; i++) table[i] = i;
    for (int32_t r = 0; r < c->rows.most; r++) slots[r] = pos[r] = c->keys - (int32_t)c->rows.most + r;
    struct paged_kv kv = paged_layout(DTYPE_F16, KV_ROWS, blocks, c->d);
    const int64_t numbers = (int64_t)c->kv_heads * (int64_t)kv.head_stride / 2;
    float *x = bench_numbers(b, 21, numbers);
    kv.data = bench_alloc(b, (size_t)numbers * 2);
    cuda_convert(NULL, kv.data, DTYPE_F16, x, (struct cuda_rows){NULL, 1}, numbers);
    *a = (struct cuda_attention){.y = c->seen,
                                 .q = c->turned_q,
                                 .k = kv,
                                 .v = kv,
                                 .tile_count = {NULL, 1},
                                 .rows = c->rows,
                                 .table_stride = blocks,
                                 .heads = c->heads,
                                 .kv_heads = c->kv_heads,
                                 .head_dim = c->d,
                                 .value_dim = c->d,
                                 .splits = 32,
                                 .scale = 1 / sqrtf((float)c->d)};
    a->v.data = bench_alloc(b, (size_t)numbers * 2);
    cuda_copy(NULL, a->v.data, kv.data, (size_t)numbers * 2);
    const int64_t partial = cuda_attention_partial(c->rows.most, c->heads, c->d, a->splits);
    a->partial = bench_alloc(b, (size_t)partial * sizeof(float));
    a->arrived = bench_put(b, zeros, sizeof zeros);
    a->tiles = bench_put(b, &tile, sizeof tile);
    a->pos = bench_put(b, pos, sizeof pos);
    a->tables = bench_put(b, table, sizeof table);
    c->slots = bench_put(b, slots, sizeof slots);
}

static void one_shape(struct bench *b, const char *name, struct chain c, enum dtype type, bool every)
{
    const int64_t q = (int64_t)c.heads * c.d, kv = (int64_t)c.kv_heads * c.d;
    char shape[64];
    double *oracle = malloc((size_t)(c.rows.most * c.width) * sizeof *oracle);
    TLM_ASSERT(oracle);
    snprintf(shape, sizeof shape, "%s, %s", name, dtype_traits[type].name);
    c.processors = b->backend->device.processors;
    c.layers = b->small ? 1 : LAYERS;
    make_weights(b, &c, type);
    c.x = empty(b, c.width), c.h = empty(b, c.width), c.y = empty(b, c.width);
    c.q = empty(b, q), c.turned_q = empty(b, q), c.seen = empty(b, q);
    c.k = empty(b, kv), c.turned_k = empty(b, kv), c.v = empty(b, kv);
    c.gate = empty(b, c.inner), c.up = empty(b, c.inner);
    c.converted = empty(b, c.inner > q ? c.inner : q);
    c.begin = bench_numbers(b, 22, (int64_t)MOST_ROWS * c.width);
    c.norm = bench_numbers(b, 23, c.width);
    c.table = bench_numbers(b, 24, (int64_t)MOST_ROWS * c.d);
    make_cache(b, &c);
    one_row(b, &c, shape, 0, "an op a launch", oracle);
    for (int p = 0; p < PARTS && every; p++) one_row(b, &c, shape, 1u << p, part_names[p], oracle);
    one_row(b, &c, shape, (1u << PARTS) - 1, "all", oracle);
    make_kernels(b, &c);
    one_row(b, &c, shape, (1u << PARTS) - 1, "all, by kernels for their shapes", oracle);
    free(oracle);
    bench_free_all(b);
}

void bench_layers(struct bench *b)
{
    const struct cuda_rows one = {NULL, 1}, eight = {NULL, MOST_ROWS};
    struct chain small = {.width = 2048, .inner = 8192, .heads = 32, .kv_heads = 8, .d = 64, .keys = 512};
    struct chain large = {.width = 4096, .inner = 14336, .heads = 32, .kv_heads = 8, .d = 128, .keys = 512};
    if (b->small)
        small = large =
            (struct chain){.width = 256, .inner = 512, .heads = 4, .kv_heads = 2, .d = 64, .keys = 32};
    small.rows = large.rows = one;
    one_shape(b, "1B", small, DTYPE_BF16, true);
    one_shape(b, "1B", small, DTYPE_Q8_0, false);
    one_shape(b, "8B", large, DTYPE_Q8_0, false);
    one_shape(b, "8B", large, DTYPE_Q4_K, !b->small);
    large.rows = eight;
    one_shape(b, "8B", large, DTYPE_Q4_K, false);
}

#include "tests/gpu/llama_step.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "cuda/planes.h"
#include "cuda/upload.h"
#include "ops/paged.h"

enum { MATRICES = 7, TASKS_A_LAYER = 5, PERIOD = 1 << 16, BOUNDARY = 256 };
enum matrix { Q, K, V, O, GATE, UP, DOWN };

// ---- memory -------------------------------------------------------------------------------------------

static void *alloc(struct llama_step *s, size_t bytes)
{
    void *p = cuda_alloc(bytes);
    TLM_ASSERT(p && s->allocation_count < LLAMA_ALLOCATIONS);
    return s->allocations[s->allocation_count++] = p;
}

static void *put(struct llama_step *s, const void *host, size_t bytes)
{
    void *p = alloc(s, bytes);
    cuda_copy_in(NULL, p, host, bytes);
    return p;
}

static float number(uint64_t stream, int64_t i)
{
    return (float)(2 * rng_uniform(9, stream, (uint64_t)i) - 1);
}

static float *numbers(struct llama_step *s, uint64_t stream, int64_t count)
{
    float *host = malloc((size_t)count * sizeof *host);
    TLM_ASSERT(host);
    for (int64_t i = 0; i < count; i++) host[i] = number(stream, i);
    float *x = put(s, host, (size_t)count * sizeof *host);
    free(host);
    return x;
}

// Numbers of f16, again from the begin behind PERIOD.
static void fill_cache(struct llama_step *s)
{
    static uint16_t period[PERIOD];
    const size_t most = sizeof period;
    for (int64_t i = 0; i < PERIOD; i++) period[i] = f16_from_f32(number(1, i));
    size_t had = s->cache_bytes < most ? s->cache_bytes : most;
    cuda_copy_in(NULL, s->cache, period, had);
    for (size_t n; had < s->cache_bytes; had += n) {
        n = had < s->cache_bytes - had ? had : s->cache_bytes - had;
        cuda_copy(NULL, s->cache + had, s->cache, n);
    }
}

static size_t whole(size_t bytes)
{
    return (bytes + BOUNDARY - 1) / BOUNDARY * BOUNDARY;
}

// `count` matrices, one behind the other in one allocation, which is returned: drawn, or those that stand `like` it.
static const char *make_weights(struct llama_step *s, struct cuda_matrix *w, const struct tensor *t,
                                int count, const char *like)
{
    size_t bytes = 0;
    struct upload_ring ring;
    struct tlm_error err;
    for (int m = 0; m < count; m++) bytes += whole(planes_bytes(&t[m]));
    char *begin = alloc(s, bytes), *at = begin;
    TLM_ASSERT(!upload_open(&ring, &err));
    if (like) cuda_copy(NULL, begin, like, bytes);
    for (int m = 0; m < count; m++) {
        if (!like && upload_stand_in(&ring, &t[m], at, &err)) fprintf(stderr, "%s\n", err.text), exit(1);
        w[m] = planes_matrix(&t[m], at, 0);
        s->bytes += (double)w[m].outputs * (double)(w[m].code_stride + w[m].scale_stride);
        at += whole(planes_bytes(&t[m]));
    }
    upload_close(&ring);
    return begin;
}

// ---- what changes from step to step -------------------------------------------------------------------

// Sequences of which each row is the last, or the rows are the last ones of one.
static void make_rows(struct llama_step *s, struct cuda_attention *a, struct cuda_fused_heads *h)
{
    const struct llama_sizes *z = &s->sizes;
    const int32_t sequences = z->apart ? z->rows : 1, blocks = (z->keys + KV_BLOCK - 1) / KV_BLOCK;
    const int32_t tiles = z->apart ? z->used : z->used > 0;
    struct attention_tile tile[LLAMA_ROWS] = {{0, z->used, 0, 0}};
    int32_t pos[LLAMA_ROWS], slots[LLAMA_ROWS];
    int32_t *tables = malloc((size_t)(sequences * blocks) * sizeof *tables);
    TLM_ASSERT(tables && z->rows <= LLAMA_ROWS);
    for (int32_t i = 0; i < sequences * blocks; i++) tables[i] = sequences * blocks - 1 - i;
    for (int32_t r = 0; r < z->rows; r++) {
        if (z->apart) tile[r] = (struct attention_tile){r, 1, r, 0};
        pos[r] = z->apart ? z->keys - 1 - 3 * r : z->keys - z->used + r;
        if (pos[r] >= z->keys) pos[r] = z->keys - 1; // of a row that is not used
        slots[r] = tables[(z->apart ? r * blocks : 0) + pos[r] / KV_BLOCK] * KV_BLOCK + pos[r] % KV_BLOCK;
    }
    a->rows = (struct cuda_rows){put(s, &z->used, sizeof z->used), z->rows};
    a->tile_count = (struct cuda_rows){put(s, &tiles, sizeof tiles), sequences};
    a->tiles = put(s, tile, sizeof tile);
    a->pos = put(s, pos, sizeof pos);
    a->tables = put(s, tables, (size_t)(sequences * blocks) * sizeof *tables);
    a->table_stride = blocks;
    h->rows = a->rows;
    h->slots = put(s, slots, sizeof slots);
    free(tables);
}

// ---- tasks --------------------------------------------------------------------------------------------

static struct persistent_task product(const struct cuda_matrix *w, int parts, struct cuda_rows rows,
                                      const float *x, float *const *y)
{
    struct persistent_task t = {.kind = PERSISTENT_PRODUCT};
    t.product = (struct cuda_fused_product){
        .shape = cuda_fused_shape_of(w), .rows = rows, .x = x, .factor = 1, .eps = 1e-5f};
    t.product.shape.parts = parts;
    for (int i = 0; i < parts; i++) {
        t.product.shape.outputs[i] = (int32_t)w[i].outputs;
        t.product.part[i] = (struct cuda_fused_part){.codes = w[i].codes, .scales = w[i].scales, .y = y[i]};
    }
    return t;
}

static struct persistent_task normed(struct persistent_task t, const float *norm)
{
    t.product.shape.norm = FUSED_RMSNORM, t.product.norm_w = norm;
    return t;
}

static struct persistent_task added(struct persistent_task t, const float *base)
{
    t.product.base = base;
    return t;
}

static struct cuda_fused_ahead ahead_of(const void *plane, int64_t rows, size_t stride)
{
    const int64_t bytes = rows * (int64_t)stride;
    return (struct cuda_fused_ahead){bytes ? plane : NULL,
                                     bytes < FUSED_AHEAD_MOST ? bytes : FUSED_AHEAD_MOST};
}

// What all layers use one after the other.
struct buffers {
    float *x, *y, *q, *k, *v, *seen, *gate, *begin, *norm;
    struct cuda_fused_heads heads;
    struct cuda_attention attention;
};

static void add_layer(struct llama_step *s, const struct buffers *b, const struct cuda_matrix *w, int layer)
{
    const struct cuda_rows rows = b->attention.rows;
    const float *x = layer ? b->x : b->begin;
    const size_t half = s->cache_bytes / (size_t)s->sizes.layers / 2;
    struct persistent_task *t = s->tasks + layer * TASKS_A_LAYER;
    char *keys = s->cache + 2 * (size_t)layer * half;
    t[0] = normed(product(w + Q, 3, rows, x, (float *[]){b->q, b->k, b->v}), b->norm);
    t[1] = (struct persistent_task){.kind = PERSISTENT_ATTENTION, .attention = {b->heads, b->attention}};
    t[1].attention.heads.kind[1].cache.data = t[1].attention.of.k.data = keys;
    t[1].attention.heads.kind[2].cache.data = t[1].attention.of.v.data = keys + half;
    t[1].attention.heads.ahead[0] = ahead_of(w[O].codes, w[O].outputs, w[O].code_stride);
    t[1].attention.heads.ahead[1] = ahead_of(w[O].scales, w[O].outputs, w[O].scale_stride);
    t[2] = added(product(w + O, 1, rows, b->seen, (float *[]){b->y}), x);
    t[3] = normed(product(w + GATE, 2, rows, b->y, (float *[]){b->gate, NULL}), b->norm);
    t[3].product.shape.gated = true, t[3].product.shape.kind = ACT_SILU;
    t[4] = added(product(w + DOWN, 1, rows, b->gate, (float *[]){b->x}), b->y);
}

static void make_heads(struct llama_step *s, struct buffers *b, float *turned, float *partial)
{
    const struct llama_sizes *z = &s->sizes;
    const int32_t zeros[LLAMA_ROWS * 64] = {0}, pairs = z->d / 2;
    TLM_ASSERT(z->heads <= 64);
    make_rows(s, &b->attention, &b->heads);
    const struct paged_kv kv =
        paged_layout(DTYPE_F16, KV_ROWS, (z->apart ? z->rows : 1) * (int32_t)b->attention.table_stride, z->d);
    s->cache_bytes = (size_t)(2 * z->layers * z->kv_heads) * kv.head_stride;
    s->bytes += (double)s->cache_bytes;
    s->cache = alloc(s, s->cache_bytes);
    fill_cache(s);
    struct cuda_attention *a = &b->attention;
    a->y = b->seen, a->q = turned, a->partial = partial, a->k = a->v = kv;
    a->arrived = put(s, zeros, sizeof zeros);
    a->heads = z->heads, a->kv_heads = z->kv_heads, a->head_dim = a->value_dim = z->d;
    a->splits = z->splits, a->scale = 1 / sqrtf((float)z->d);
    b->heads.table = numbers(s, 4, (int64_t)z->rows * z->d);
    b->heads.pairing = ROPE_HALVES;
    b->heads.kind[0] =
        (struct cuda_fused_head){.x = b->q, .y = turned, .heads = z->heads, .dim = z->d, .pairs = pairs};
    b->heads.kind[1] =
        (struct cuda_fused_head){.x = b->k, .cache = kv, .heads = z->kv_heads, .dim = z->d, .pairs = pairs};
    b->heads.kind[2] = (struct cuda_fused_head){.x = b->v, .cache = kv, .heads = z->kv_heads, .dim = z->d};
}

static struct buffers make_buffers(struct llama_step *s)
{
    const struct llama_sizes *z = &s->sizes;
    const int64_t q = (int64_t)z->heads * z->d, kv = (int64_t)z->kv_heads * z->d;
    const int64_t partial = (cuda_attention_partial(1, z->heads, z->d, z->splits) + 3) / 4 * 4;
    const int64_t a_row = 2 * z->width + 3 * q + 2 * kv + z->inner + partial + z->vocab;
    struct buffers b = {0};
    float *turned, *parts;
    s->activation_bytes = (size_t)(z->rows * a_row) * sizeof(float);
    float *at = s->activations = alloc(s, s->activation_bytes);
    const struct {
        float **buffer;
        int64_t count;
    } of[] = {
        {&b.x, z->width}, {&b.y, z->width}, {&b.q, q},           {&turned, q},      {&b.seen, q},
        {&b.k, kv},       {&b.v, kv},       {&b.gate, z->inner}, {&parts, partial}, {&s->logits, z->vocab}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        *of[i].buffer = at;
        at += z->rows * of[i].count;
    }
    b.begin = numbers(s, 2, (int64_t)z->rows * z->width);
    b.norm = numbers(s, 3, z->width);
    make_heads(s, &b, turned, parts);
    return b;
}

void llama_step_send(struct llama_step *s)
{
    struct tlm_error err;
    cuda_copy_in(NULL, (void *)s->step.tasks, s->tasks, (size_t)s->step.count * sizeof *s->tasks);
    TLM_ASSERT(!cuda_sync(NULL, &err));
}

void llama_step_open(struct llama_step *s, const struct llama_sizes *z, int blocks, int32_t ahead)
{
    const int32_t q = z->heads * z->d, kv = z->kv_heads * z->d, count = z->layers * TASKS_A_LAYER + 1;
    const struct tensor shape[MATRICES] = {
        tensor_shape(z->type, z->width, q, 1, 1),        tensor_shape(z->type, z->width, kv, 1, 1),
        tensor_shape(z->type, z->width, kv, 1, 1),       tensor_shape(z->type, q, z->width, 1, 1),
        tensor_shape(z->type, z->width, z->inner, 1, 1), tensor_shape(z->type, z->width, z->inner, 1, 1),
        tensor_shape(z->down, z->inner, z->width, 1, 1)};
    const struct tensor head = tensor_shape(z->down, z->width, z->vocab, 1, 1);
    struct cuda_matrix w[MATRICES];
    *s = (struct llama_step){.sizes = *z};
    s->tasks = calloc((size_t)count, sizeof *s->tasks);
    uint32_t *zeros = calloc((size_t)count + 1, sizeof *zeros);
    TLM_ASSERT(s->tasks && zeros);
    const struct buffers b = make_buffers(s);
    const char *layer = NULL;
    for (int32_t l = 0; l < z->layers; l++) {
        layer = make_weights(s, w, shape, MATRICES, layer);
        add_layer(s, &b, w, l);
    }
    make_weights(s, w, &head, 1, NULL);
    s->tasks[count - 1] = normed(product(w, 1, b.attention.rows, b.x, (float *[]){s->logits}), b.norm);
    TLM_ASSERT(persistent_plan(s->tasks, count, blocks));
    s->step = (struct persistent_step){.host = s->tasks,
                                       .tasks = alloc(s, (size_t)count * sizeof *s->tasks),
                                       .counters = put(s, zeros, ((size_t)count + 1) * sizeof *zeros),
                                       .count = count,
                                       .ahead = ahead};
    llama_step_send(s);
    free(zeros);
}

void llama_step_close(struct llama_step *s)
{
    while (s->allocation_count) cuda_free(s->allocations[--s->allocation_count]);
    free(s->tasks);
}

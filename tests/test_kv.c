// tests/test_kv.c -- the block pool: who holds which block, what comes back, what happens when it is empty.
#include <string.h>

#include "cache/kv.h"
#include "tests/tests.h"

static struct kv_cache open_cache(int32_t sequences, int32_t context, int32_t blocks)
{
    struct kv_cache c;
    struct kv_config config = {.layers = 2,
                               .kv_heads = 3,
                               .head_dim = 8,
                               .value_dim = 6,
                               .type_k = DTYPE_F16,
                               .type_v = DTYPE_F32,
                               .sequences = sequences,
                               .context = context,
                               .blocks = blocks};
    ck_assert_int_eq(kv_open(&c, &config, NULL), TLM_OK);
    return c;
}

START_TEST(test_layout)
{
    struct kv_cache c = open_cache(1, 64, 4);
    ck_assert_uint_eq(c.keys[0].token_stride, 16);
    ck_assert_uint_eq(c.keys[0].block_stride, 16 * KV_BLOCK);
    ck_assert_uint_eq(c.keys[0].head_stride, 4 * 16 * KV_BLOCK);
    ck_assert_uint_eq(c.values[1].token_stride, 24);
    // Storage of layers and kinds does not overlap: each keeps a pattern of its own.
    for (int l = 0; l < 2; l++) {
        memset(c.keys[l].data, 1 + l, 3 * c.keys[l].head_stride);
        memset(c.values[l].data, 3 + l, 3 * c.values[l].head_stride);
    }
    for (int l = 0; l < 2; l++) {
        ck_assert_int_eq(c.keys[l].data[3 * c.keys[l].head_stride - 1], 1 + l);
        ck_assert_int_eq(c.values[l].data[0], 3 + l);
    }
    kv_close(&c);
}
END_TEST

// Quantized types need whole blocks; the values of latent attention have no size and no storage.
START_TEST(test_quantized)
{
    struct kv_cache c;
    struct tlm_error err;
    struct kv_config config = {.layers = 1,
                               .kv_heads = 2,
                               .head_dim = 64,
                               .value_dim = 80,
                               .type_k = DTYPE_Q8_0,
                               .type_v = DTYPE_Q4_0,
                               .sequences = 1,
                               .context = 64,
                               .blocks = 4};
    ck_assert_int_eq(kv_open(&c, &config, &err), TLM_ERR_ARGUMENT);
    ck_assert_str_eq(err.text,
                     "type of cached values: Q4_0 has blocks of 32 numbers: expected a multiple as head "
                     "size, found 80");
    config.value_dim = 96;
    ck_assert_int_eq(kv_open(&c, &config, NULL), TLM_OK);
    ck_assert_uint_eq(c.keys[0].block_stride, 16 * 68);
    ck_assert_uint_eq(c.values[0].block_stride, 16 * 54);
    ck_assert_int_eq(c.keys[0].layout, KV_KEYS);
    ck_assert_int_eq(c.values[0].layout, KV_VALUES);
    kv_close(&c);
    config.value_dim = 0;
    ck_assert_int_eq(kv_open(&c, &config, NULL), TLM_OK);
    ck_assert_int_eq(c.keys[0].layout, KV_ROWS);
    kv_close(&c);
}
END_TEST

START_TEST(test_blocks)
{
    struct kv_cache c = open_cache(3, 100, 9);
    ck_assert_int_eq(kv_reserve(&c, 0, 17, NULL), TLM_OK); // two blocks
    ck_assert_int_eq(kv_reserve(&c, 1, 16, NULL), TLM_OK); // one
    ck_assert_int_eq(kv_reserve(&c, 0, 33, NULL), TLM_OK); // a third
    int held[9] = {0};
    for (int i = 0; i < 3; i++) held[kv_table(&c, 0, 0)[i]]++;
    held[kv_table(&c, 0, 1)[0]]++;
    for (int b = 0; b < 9; b++) ck_assert_int_le(held[b], 1);
    ck_assert_int_eq(kv_stats(&c).held, 4);
    int32_t first = kv_table(&c, 0, 0)[0];
    ck_assert_int_eq(kv_truncate(&c, 0, 16), 16);
    ck_assert_int_eq(kv_table(&c, 0, 0)[0], first); // what is kept stays where it is
    ck_assert_int_eq(kv_stats(&c).held, 2);
    kv_close(&c);
}
END_TEST

START_TEST(test_exhausted)
{
    struct kv_cache c = open_cache(3, 64, 4);
    struct tlm_error err;
    ck_assert_int_eq(kv_reserve(&c, 0, 40, &err), TLM_OK);
    ck_assert_int_eq(kv_reserve(&c, 1, 32, &err), TLM_ERR_CONTEXT);
    ck_assert_str_eq(err.text, "key-value cache: 2 blocks are needed, 1 of 4 are free");
    ck_assert_int_eq(c.sequences[1].blocks, 0); // as it was
    ck_assert_int_eq(kv_reserve(&c, 0, 65, &err), TLM_ERR_CONTEXT);
    ck_assert_str_eq(err.text, "context: 65 tokens do not fit into the 64 that were asked for (-c)");
    ck_assert_int_eq(c.sequences[0].length, 40);
    // A shared block at the end must be copied before it is written: that takes a block too.
    ck_assert_int_eq(kv_fork(&c, 1, 0, 40), 40);
    ck_assert_int_eq(kv_fork(&c, 2, 0, 40), 40);
    ck_assert_int_eq(kv_reserve(&c, 1, 41, &err), TLM_OK);
    ck_assert_int_eq(kv_reserve(&c, 2, 41, &err), TLM_ERR_CONTEXT);
    ck_assert_str_eq(err.text, "key-value cache: 1 blocks are needed, 0 of 4 are free");
    ck_assert_int_eq(c.sequences[2].length, 40);
    for (int s = 0; s < 3; s++) ck_assert_int_eq(kv_truncate(&c, s, 0), 0);
    ck_assert_int_eq(kv_reserve(&c, 1, 64, &err), TLM_OK); // what was given back serves the other
    ck_assert_int_eq(kv_stats(&c).held, 4);
    kv_close(&c);
}
END_TEST

// The least recently used contents go first, of one sequence its end before its beginning.
START_TEST(test_eviction)
{
    enum { CONTEXT = 64 };
    struct kv_cache c = open_cache(2, CONTEXT, 6);
    int32_t a[CONTEXT], b[CONTEXT];
    for (int i = 0; i < CONTEXT; i++) a[i] = i, b[i] = 1000 + i;
    ck_assert_int_eq(kv_reserve(&c, 0, 48, NULL), TLM_OK);
    kv_commit(&c, 0, a, 48);
    kv_truncate(&c, 0, 0);
    ck_assert_int_eq(kv_reserve(&c, 0, 32, NULL),
                     TLM_OK); // the three blocks that never held anything are taken first
    kv_commit(&c, 0, b, 32);
    kv_truncate(&c, 0, 0);
    ck_assert_int_eq(kv_stats(&c).evicted, 0);
    ck_assert_int_eq(kv_stats(&c).indexed, 5);
    ck_assert_int_eq(kv_reserve(&c, 1, 32, NULL), TLM_OK); // the last empty one, and the end of a
    ck_assert_int_eq(kv_stats(&c).evicted, 1);
    ck_assert_int_eq(kv_match(&c, 0, a, CONTEXT), 32);
    kv_truncate(&c, 0, 0);
    ck_assert_int_eq(kv_match(&c, 0, b, CONTEXT), 32);
    // Other beginnings, or the same rows behind another beginning, are not found.
    kv_truncate(&c, 0, 0);
    ck_assert_int_eq(kv_match(&c, 0, a + 16, 32), 0);
    ck_assert_int_eq(kv_match(&c, 0, a, 15), 0);
    struct kv_stats s = kv_stats(&c);
    ck_assert_int_eq(s.found, 64);
    ck_assert_int_eq(s.asked, 2 * CONTEXT + 32 + 15);
    kv_close(&c);
}
END_TEST

// What no sequence holds is forgotten, and its memory given back; what one holds stays.
START_TEST(test_forget)
{
    enum { LENGTH = 4096, CONTEXT = 2 * LENGTH }; // the values of a block and head take 384 bytes: many pages
    static int32_t a[CONTEXT];
    struct kv_cache c = open_cache(2, CONTEXT, 2 * CONTEXT / KV_BLOCK);
    for (int i = 0; i < CONTEXT; i++) a[i] = i;
    ck_assert_int_eq(kv_reserve(&c, 0, CONTEXT, NULL), TLM_OK);
    for (int h = 0; h < 3; h++)
        memset(c.values[1].data + (size_t)h * c.values[1].head_stride, 7,
               (CONTEXT / KV_BLOCK) * c.values[1].block_stride);
    kv_commit(&c, 0, a, CONTEXT);
    ck_assert_int_eq(kv_truncate(&c, 0, LENGTH), LENGTH);
    struct kv_stats s = kv_stats(&c);
    ck_assert_int_eq(s.bytes_idle, s.bytes_held);
    ck_assert_int_gt(s.bytes_idle, 0);
    kv_forget(&c);
    s = kv_stats(&c);
    ck_assert_int_eq(s.bytes_idle, 0);
    ck_assert_int_eq(s.indexed, LENGTH / KV_BLOCK);
    ck_assert_int_eq(kv_match(&c, 1, a, CONTEXT), LENGTH);
    for (int h = 0; h < 3; h++) {
        const char *rows = c.values[1].data + (size_t)h * c.values[1].head_stride;
        size_t held = LENGTH / KV_BLOCK * c.values[1].block_stride;
        ck_assert_int_eq(rows[0], 7);
        ck_assert_int_eq(rows[held - 1], 7);
        ck_assert_int_eq(rows[held + 8192], 0); // a new page
    }
    kv_close(&c);
}
END_TEST

// ---- against a model ----------------------------------------------------------------------------------
//
// Random operations on many sequences. The number that stands for position p of a sequence is a hash of its rows 0..p, written into the
// storage of every layer when the position is reserved. After each operation every position that a row can still see must hold its own.

enum { SEQUENCES = 5, CONTEXT = 400, ROWS = 40 };

struct mirror {
    int32_t rows[SEQUENCES][CONTEXT], length[SEQUENCES];
    float marks[SEQUENCES][CONTEXT];
    uint32_t random;
};

static uint32_t below(struct mirror *m, uint32_t n)
{
    m->random = m->random * 1664525 + 1013904223;
    return (m->random >> 8) % n;
}

static float mark(const int32_t *rows, int p)
{
    uint32_t h = 2166136261;
    for (int i = 0; i <= p; i++) h = (h ^ (uint32_t)rows[i]) * 16777619;
    return (float)(h >> 9);
}

static void copy(struct mirror *m, int to, int from)
{
    memcpy(m->rows[to], m->rows[from], sizeof m->rows[to]);
    memcpy(m->marks[to], m->marks[from], sizeof m->marks[to]);
}

// Where position p of the sequence stands in the layer's values: a row of 6 floats.
static float *place(struct kv_cache *c, int l, int s, int p)
{
    int32_t block = kv_table(c, c->group_of[l], s)[p / KV_BLOCK];
    if (block == KV_NONE) ck_abort_msg("sequence %d, position %d: given back too early", s, p);
    const struct paged_kv *v = &c->values[l];
    return (float *)(v->data + (size_t)block * v->block_stride + 2 * v->head_stride +
                     (size_t)(p % KV_BLOCK) * v->token_stride);
}

static void grow(struct kv_cache *c, struct mirror *m, int s, int n)
{
    int old = m->length[s];
    if (old + n > CONTEXT) return;
    if (kv_reserve(c, s, old + n, NULL)) return;
    for (int p = old; p < old + n; p++) {
        m->rows[s][p] = (int32_t)below(m, 2); // few different ones, so that sequences meet again
        m->marks[s][p] = mark(m->rows[s], p);
        for (int l = 0; l < c->config.layers; l++) *place(c, l, s, p) = m->marks[s][p];
    }
    m->length[s] += n;
}

static void operate(struct kv_cache *c, struct mirror *m)
{
    int s = (int)below(m, SEQUENCES), other = (int)below(m, SEQUENCES);
    switch (below(m, 8)) {
    case 0: m->length[s] = kv_truncate(c, s, (int32_t)below(m, (uint32_t)m->length[s] + 1)); break;
    case 1: m->length[s] = kv_truncate(c, s, m->length[s] > 9 ? m->length[s] - 9 : 0); break;
    case 2:
        if (s == other) break;
        kv_truncate(c, s, 0);
        copy(m, s, other);
        m->length[s] = kv_fork(c, s, other, (int32_t)below(m, (uint32_t)m->length[other] + 1));
        break;
    case 3:
        kv_truncate(c, s, 0);
        copy(m, s, other);
        m->length[s] = kv_match(c, s, m->rows[s], m->length[other]);
        break;
    case 4: kv_commit(c, s, m->rows[s], m->length[s]); break;
    default: grow(c, m, s, 1 + (int)below(m, ROWS)); kv_commit(c, s, m->rows[s], m->length[s]);
    }
}

static void verify(struct kv_cache *c, const struct mirror *m)
{
    for (int s = 0; s < SEQUENCES; s++) {
        ck_assert_int_eq(c->sequences[s].length, m->length[s]);
        for (int l = 0; l < c->config.layers; l++) {
            int window = c->groups[c->group_of[l]].window;
            int p = window && m->length[s] > window ? m->length[s] - window + 1 : 0;
            for (; p < m->length[s]; p++)
                if (*place(c, l, s, p) != m->marks[s][p])
                    ck_abort_msg("sequence %d, position %d: expected %g, found %g", s, p,
                                 (double)m->marks[s][p], (double)*place(c, l, s, p));
        }
    }
}

// Every block is free or held, as often as tables name it.
static void verify_counts(const struct kv_cache *c)
{
    for (int g = 0; g < c->group_count; g++) {
        const struct kv_pool *p = &c->groups[g].pool;
        int free = 0;
        for (int b = 0; b < p->count; b++) {
            int named = 0;
            for (int s = 0; s < SEQUENCES; s++)
                for (int i = 0; i < c->sequences[s].blocks; i++) named += kv_table(c, g, s)[i] == b;
            if (p->blocks[b].references != named)
                ck_abort_msg("block %d: named %d times, %d references", b, named, p->blocks[b].references);
            free += !named;
        }
        ck_assert_int_eq(p->free_count, free);
    }
}

START_TEST(test_model)
{
    static const int32_t windows[] = {0, 24, 0, 70};
    struct kv_cache c;
    struct kv_config config = {.layers = 4,
                               .kv_heads = 3,
                               .head_dim = 8,
                               .value_dim = 6,
                               .windows = windows,
                               .type_k = DTYPE_F16,
                               .type_v = DTYPE_F32,
                               .policy = _i == 3 ? KV_CONTIGUOUS : KV_PAGED,
                               .sequences = SEQUENCES,
                               .context = CONTEXT,
                               .rows = ROWS,
                               .blocks = _i == 0 ? 0 : 56 + _i};
    struct mirror m = {.random = 1 + (uint32_t)_i};
    ck_assert_int_eq(kv_open(&c, &config, NULL), TLM_OK);
    ck_assert_int_eq(c.group_count, 3);
    for (int i = 0; i < 40000; i++) {
        operate(&c, &m);
        verify(&c, &m);
        if (i % 50 == 0) verify_counts(&c);
    }
    struct kv_stats s = kv_stats(&c);
    if (config.policy == KV_PAGED) ck_assert(s.copied > 50 && s.found > 1000 && s.indexed > 10);
    if (_i == 1 || _i == 2) ck_assert(s.evicted > 100);
    for (int q = 0; q < SEQUENCES; q++) kv_truncate(&c, q, 0);
    ck_assert_int_eq(kv_stats(&c).held, 0);
    kv_close(&c);
}
END_TEST

// A window gives blocks back: a sequence of any length holds no more than its window, its slack and what a pass writes.
START_TEST(test_window_bound)
{
    static const int32_t windows[] = {32};
    struct kv_cache c;
    struct kv_config config = {.layers = 1,
                               .kv_heads = 1,
                               .head_dim = 8,
                               .value_dim = 8,
                               .windows = windows,
                               .type_k = DTYPE_F32,
                               .type_v = DTYPE_F32,
                               .sequences = 1,
                               .context = 4096,
                               .rows = 16};
    ck_assert_int_eq(kv_open(&c, &config, NULL), TLM_OK);
    ck_assert_int_eq(c.groups[1].pool.count, 2 * (6 + 1 + 2));
    for (int p = 16; p <= 4096; p += 16) {
        ck_assert_int_eq(kv_reserve(&c, 0, p, NULL), TLM_OK);
        ck_assert_int_le(c.groups[1].pool.count - c.groups[1].pool.free_count, 6 + 1 + 2);
    }
    ck_assert_int_eq(kv_truncate(&c, 0, 4096 - KV_SLACK), 4096 - KV_SLACK);
    ck_assert_int_eq(kv_truncate(&c, 0, 2000), 0); // what it would see is gone
    ck_assert_int_eq(c.sequences[0].blocks, 0);
    kv_close(&c);
}
END_TEST

Suite *suite_kv(void)
{
    Suite *s = suite_create("kv");
    TCase *t = tcase_create("kv");
    tcase_add_test(t, test_layout);
    tcase_add_test(t, test_quantized);
    tcase_add_test(t, test_blocks);
    tcase_add_test(t, test_exhausted);
    tcase_add_test(t, test_eviction);
    tcase_add_test(t, test_forget);
    tcase_add_loop_test(t, test_model, 0, 4);
    tcase_add_test(t, test_window_bound);
    suite_add_tcase(s, t);
    return s;
}

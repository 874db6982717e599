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
    ck_assert_int_eq(kv_resize(&c, 0, 17, NULL), TLM_OK); // two blocks
    ck_assert_int_eq(kv_resize(&c, 1, 16, NULL), TLM_OK); // one
    ck_assert_int_eq(kv_resize(&c, 0, 33, NULL), TLM_OK); // a third
    int held[9] = {0};
    for (int i = 0; i < 3; i++) held[kv_table(&c, 0)[i]]++;
    held[kv_table(&c, 1)[0]]++;
    for (int b = 0; b < 9; b++) ck_assert_int_le(held[b], 1);
    ck_assert_int_eq(c.free_count, 5);
    int32_t first = kv_table(&c, 0)[0];
    ck_assert_int_eq(kv_resize(&c, 0, 16, NULL), TLM_OK);
    ck_assert_int_eq(kv_table(&c, 0)[0], first); // what is kept stays where it is
    ck_assert_int_eq(c.free_count, 7);
    kv_close(&c);
}
END_TEST

START_TEST(test_exhausted)
{
    struct kv_cache c = open_cache(2, 64, 4);
    struct tlm_error err;
    ck_assert_int_eq(kv_resize(&c, 0, 48, &err), TLM_OK);
    ck_assert_int_eq(kv_resize(&c, 1, 32, &err), TLM_ERR_CONTEXT);
    ck_assert_str_eq(err.text, "key-value cache: 2 blocks are needed, 1 of 4 are free");
    ck_assert_int_eq(c.sequences[1].block_count, 0); // as it was
    ck_assert_int_eq(kv_resize(&c, 0, 65, &err), TLM_ERR_CONTEXT);
    ck_assert_int_eq(c.sequences[0].length, 48);
    ck_assert_int_eq(kv_resize(&c, 0, 0, &err), TLM_OK);
    ck_assert_int_eq(kv_resize(&c, 1, 64, &err), TLM_OK); // what was given back serves the other
    ck_assert_int_eq(c.free_count, 0);
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
    suite_add_tcase(s, t);
    return s;
}

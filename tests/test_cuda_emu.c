// tests/test_cuda_emu.c -- the emulation of CUDA sees the mistakes that it says it sees, and nothing where there is none.
#include <check.h>
#include <stdio.h>

#include "cuda/runtime.h"
#include "tests/cuda_emu/control.h"
#include "tests/cuda_emu/planted.h"
#include "tests/kernels.h"
#include "tests/tests.h"

enum { BLOCK = 64, COUNT = 2 * BLOCK, SEEDS = 5 };

// Calls BODY in every order, the random one with several seeds.
#define EACH_ORDER(BODY)                                                                  \
    for (int order_ = 0; order_ < EMU_RANDOM + SEEDS; order_++) {                         \
        enum emu_order kind_ = order_ < EMU_RANDOM ? (enum emu_order)order_ : EMU_RANDOM; \
        emu_set_order(kind_, (uint64_t)order_);                                           \
        BODY;                                                                             \
    }                                                                                     \
    emu_set_order(EMU_FORWARD, 0)

static const struct {
    const char *name, *text; // of the error
} mistakes[PLANTED_COUNT] = {
    [PLANTED_BARRIER] = {"a missing __syncthreads()", "with no barrier between"},
    [PLANTED_WARP_BARRIER] = {"a missing __syncwarp()", "with no barrier between"},
    [PLANTED_OVERRUN] = {"an overrun of shared memory", "tile: bytes 272 to 275 of 272"},
    [PLANTED_UNWRITTEN] = {"a read of what was never written", "byte 160 was never written"},
    [PLANTED_SHUFFLE] = {"a lane that does not shuffle", "lane 3 of the mask ffffffff does not come"},
    [PLANTED_EARLY_END] = {"a lane that has ended", "lane 7 of the mask ffffffff"},
    [PLANTED_WAIT] = {"a missing wait for cp.async", "still on its way"},
    [PLANTED_NEVER_WAITED] = {"a cp.async that is never waited for", "never waited for"},
    [PLANTED_MISALIGNED] = {"a misaligned access", "no multiple of 16"},
    [PLANTED_GLOBAL] = {"a read behind an allocation", "bytes 512 to 515 of an allocation of 512"},
    [PLANTED_PREVIOUS] = {"a missing wait for the launch in front", "load of what a launch has written"},
    [PLANTED_NO_PREVIOUS] = {"an early launch that never waits", "ends without wait_for_previous()"},
    [PLANTED_STUCK] = {"lanes that wait for one that has gone on", "lane 0 of the mask"},
};

static void fill(float *x)
{
    for (int i = 0; i < COUNT; i++) x[i] = (float)(i + 1);
}

START_TEST(test_planted_seen)
{
    float *x = cuda_alloc(COUNT * sizeof *x), *y = cuda_alloc(COUNT * sizeof *y);
    fill(x);
    EACH_ORDER({
        planted_run((enum planted)_i, true, y, x);
        const char *error = emu_error();
        ck_assert_msg(error, "%s was not seen in order %d", mistakes[_i].name, order_);
        ck_assert_msg(strstr(error, mistakes[_i].text), "%s: %s", mistakes[_i].name, error);
        ck_assert_msg(strstr(error, "turn_kernel: block (") && strstr(error, "), thread (") &&
                          strstr(error, "tests/cuda_emu/planted.cu:"),
                      "no place in: %s", error);
        emu_forget();
    });
    cuda_free(x), cuda_free(y);
}
END_TEST

START_TEST(test_planted_right)
{
    float *x = cuda_alloc(COUNT * sizeof *x), *y = cuda_alloc(COUNT * sizeof *y);
    fill(x);
    EACH_ORDER({
        memset(y, 0xff, COUNT * sizeof *y);
        planted_run((enum planted)_i, false, y, x);
        ck_assert_msg(!emu_error(), "%s: %s", mistakes[_i].name, emu_error());
        for (int i = 0; i < COUNT; i++)
            ck_assert_float_eq(y[i], x[i / BLOCK * BLOCK + BLOCK - 1 - i % BLOCK]);
    });
    cuda_free(x), cuda_free(y);
}
END_TEST

// An error sticks, as a device's does, until it is forgotten; the next cuda_sync() tells it.
START_TEST(test_error_sticks)
{
    struct tlm_error err;
    float *x = cuda_alloc(COUNT * sizeof *x), *y = cuda_alloc(COUNT * sizeof *y);
    fill(x);
    planted_run(PLANTED_OVERRUN, true, y, x);
    int64_t launches = emu_launches();
    planted_run(PLANTED_BARRIER, false, y, x);
    ck_assert_int_eq(emu_launches(), launches);
    ck_assert_int_eq(cuda_sync(NULL, &err), TLM_ERR_IO);
    ck_assert_msg(strstr(err.text, "write to tile"), "%s", err.text);
    emu_forget();
    ck_assert_int_eq(cuda_sync(NULL, &err), TLM_OK);
    cuda_free(x), cuda_free(y);
}
END_TEST

// ---- tensor cores -------------------------------------------------------------------------------------

enum { M = 16, N = 8, K = 16, K_S8 = 32 };

static void expect_product(const float *c, const uint16_t *a, const uint16_t *b, bool transposed, bool equal)
{
    bool same = true;
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++) {
            float sum = 0;
            for (int k = 0; k < K; k++)
                sum += f32_from_bf16(a[m * K + k]) * f32_from_bf16(b[transposed ? k * N + n : n * K + k]);
            same &= fabsf(c[m * N + n] - sum) <= 1e-5f * 16;
        }
    ck_assert_int_eq(same, equal);
}

START_TEST(test_mma)
{
    uint16_t *a = cuda_alloc(M * K * sizeof *a), *b = cuda_alloc(N * K * sizeof *b);
    float *c = cuda_alloc(M * N * sizeof *c);
    for (int i = 0; i < M * K; i++) a[i] = bf16_from_f32(random_signed(1, (uint64_t)i));
    for (int i = 0; i < N * K; i++) b[i] = bf16_from_f32(random_signed(2, (uint64_t)i));
    EACH_ORDER({
        planted_mma(false, c, a, b);
        expect_product(c, a, b, false, true);
        planted_mma(true, c, a, b); // rows of a fragment in the wrong registers
        expect_product(c, a, b, false, false);
        planted_ldmatrix(c, a, b);
        expect_product(c, a, b, true, true);
        ck_assert_msg(!emu_error(), "%s", emu_error());
    });
    cuda_free(a), cuda_free(b), cuda_free(c);
}
END_TEST

START_TEST(test_mma_s8)
{
    int8_t *a = cuda_alloc(M * K_S8), *b = cuda_alloc(N * K_S8);
    int32_t *c = cuda_alloc(M * N * sizeof *c);
    for (int i = 0; i < M * K_S8; i++) a[i] = (int8_t)(random_signed(1, (uint64_t)i) * 127);
    for (int i = 0; i < N * K_S8; i++) b[i] = (int8_t)(random_signed(2, (uint64_t)i) * 127);
    EACH_ORDER({
        planted_mma_s8(c, a, b);
        ck_assert_msg(!emu_error(), "%s", emu_error());
        for (int m = 0; m < M; m++)
            for (int n = 0; n < N; n++) {
                int32_t sum = 0;
                for (int k = 0; k < K_S8; k++) sum += a[m * K_S8 + k] * b[n * K_S8 + k];
                ck_assert_int_eq(c[m * N + n], sum);
            }
    });
    cuda_free(a), cuda_free(b), cuda_free(c);
}
END_TEST

// ---- tiles --------------------------------------------------------------------------------------------

static const struct {
    const char *name, *text; // of the error; NULL: none
} tiles[] = {
    [TILES_RIGHT] = {"nothing", NULL},
    [TILES_WRITTEN] = {"nothing", NULL},
    [TILES_NOT_SHOWN] = {"a write that wgmma does not see", "with no shared_written() since"},
    [TILES_NOT_AWAITED] = {"a tile that was not waited for", "read of dynamic shared memory: byte"},
    [TILES_NOT_BEGUN] = {"a wgmma that was not begun", "without a wgmma_begin()"},
    [TILES_NOT_WAITED] = {"a product that was not waited for", "products that it never waited for"},
    [TILES_EARLY_EMPTY] = {"a tile that is written again while it is read", NULL},
};
enum { TILES = sizeof tiles / sizeof *tiles, SIDE = PLANTED_SIDE };

// By the tile's own numbers where nothing is seen but the result.
static bool tiles_product_right(const float *c, const uint16_t *a, const uint16_t *b, bool first,
                                bool columns)
{
    bool same = true;
    for (int m = 0; m < SIDE; m++)
        for (int n = 0; n < SIDE; n++) {
            double sum = 0;
            for (int k = 0; k < 2 * SIDE && (first || m); k++)
                sum += f32_from_bf16(a[m * 2 * SIDE + k]) *
                       f32_from_bf16(b[columns ? k * SIDE + n : n * 2 * SIDE + k]);
            same &= fabs(c[m * SIDE + n] - sum) <= 1e-4;
        }
    return same;
}

START_TEST(test_tiles)
{
    const size_t bytes = 2 * SIDE * SIDE * sizeof(uint16_t);
    uint16_t *a = cuda_alloc(bytes), *b = cuda_alloc(bytes);
    float *c = cuda_alloc(SIDE * SIDE * sizeof *c);
    for (int i = 0; i < 2 * SIDE * SIDE; i++) {
        a[i] = bf16_from_f32(random_signed(1, (uint64_t)i));
        b[i] = bf16_from_f32(random_signed(2, (uint64_t)i));
    }
    EACH_ORDER({
        const bool columns = order_ % 2;
        planted_tiles((enum planted_tiles)_i, c, a, b, columns);
        const char *error = emu_error();
        if (tiles[_i].text) {
            ck_assert_msg(error && strstr(error, tiles[_i].text) && strstr(error, "planted_hopper.cu:"),
                          "%s in order %d: %s", tiles[_i].name, order_, error ? error : "not seen");
        } else {
            ck_assert_msg(!error, "%s in order %d: %s", tiles[_i].name, order_, error);
            ck_assert_int_eq(tiles_product_right(c, a, b, _i != TILES_WRITTEN, columns),
                             _i != TILES_EARLY_EMPTY);
        }
        emu_forget();
    });
    cuda_free(a), cuda_free(b), cuda_free(c);
}
END_TEST

// ---- clusters -----------------------------------------------------------------------------------------

static const struct {
    const char *name, *text;
} clusters[] = {
    [CLUSTER_RIGHT] = {"nothing", NULL},
    [CLUSTER_FORGOTTEN] = {"a copy that one block does not get", "a barrier that not all threads reach"},
    [CLUSTER_OWN_EMPTY] = {"a tile that the other block still reads", "dynamic shared memory"},
    [CLUSTER_NOT_MET] = {"a copy to a block that may not have begun", "has not met since it was made"},
    [CLUSTER_EARLY_END] = {"a block that ends too early", "reached behind its end"},
};
enum { CLUSTER_ROWS = 2 * SIDE, CLUSTER_K = CLUSTER_PANELS * 64 };

START_TEST(test_clusters)
{
    const size_t row = CLUSTER_K * sizeof(uint16_t);
    uint16_t *a = cuda_alloc(CLUSTER_ROWS * row), *b = cuda_alloc(SIDE * row);
    float *c = cuda_alloc(CLUSTER_ROWS * SIDE * sizeof *c);
    for (int i = 0; i < CLUSTER_ROWS * CLUSTER_K; i++) a[i] = bf16_from_f32(random_signed(1, (uint64_t)i));
    for (int i = 0; i < SIDE * CLUSTER_K; i++) b[i] = bf16_from_f32(random_signed(2, (uint64_t)i));
    EACH_ORDER({
        planted_cluster((enum planted_cluster)_i, c, a, b);
        const char *error = emu_error();
        const char *text = clusters[_i].text;
        if (text)
            ck_assert_msg(error && strstr(error, text) && strstr(error, "planted_hopper.cu:"),
                          "%s in order %d: %s", clusters[_i].name, order_, error ? error : "not seen");
        else
            ck_assert_msg(!error, "in order %d: %s", order_, error);
        for (int i = 0; i < CLUSTER_ROWS * SIDE && !text; i++) {
            double sum = 0;
            for (int k = 0; k < CLUSTER_K; k++)
                sum +=
                    f32_from_bf16(a[i / SIDE * CLUSTER_K + k]) * f32_from_bf16(b[i % SIDE * CLUSTER_K + k]);
            ck_assert_double_le(fabs(c[i] - sum), 1e-4);
        }
        emu_forget();
    });
    cuda_free(a), cuda_free(b), cuda_free(c);
}
END_TEST

// ---- grids --------------------------------------------------------------------------------------------

START_TEST(test_cooperative)
{
    enum { BLOCKS = 5 };
    float *x = cuda_alloc(BLOCKS * 32 * sizeof *x), *sums = cuda_alloc((BLOCKS + 1) * sizeof *sums);
    for (int i = 0; i < BLOCKS * 32; i++) x[i] = 1;
    EACH_ORDER({
        memset(sums, 0, (BLOCKS + 1) * sizeof *sums);
        planted_grid_sum(true, sums, x, BLOCKS);
        ck_assert_msg(!emu_error(), "%s", emu_error());
        ck_assert_float_eq(sums[0], BLOCKS * 32);
    });
    planted_grid_sum(false, sums, x, BLOCKS);
    ck_assert_msg(emu_error() && strstr(emu_error(), "not cooperative"), "%s", emu_error());
    emu_forget();
    cuda_free(x), cuda_free(sums);
}
END_TEST

static const struct {
    const char *name, *text; // of the error; NULL: none
} chains[] = {
    [CHAIN_RIGHT] = {"nothing", NULL},
    [CHAIN_NOT_AWAITED] = {"a block that was not waited for", NULL},
    [CHAIN_NOT_RESET] = {"counters that the step in front has left", NULL},
    [CHAIN_CIRCLE] = {"blocks that wait for each other", "a count of 1 that stays at 0: nobody can raise it"},
    [CHAIN_APART] = {"an ordinary launch", "not cooperative"},
};
enum { CHAINS = sizeof chains / sizeof *chains };

// Two steps by the same counters; what nobody has written is NaN. A mistake without an error shows in some order.
START_TEST(test_chains)
{
    enum { BLOCKS = 4 };
    float *x = cuda_alloc(BLOCKS * 32 * sizeof *x), *y = cuda_alloc(BLOCKS * sizeof *y);
    unsigned *counters = cuda_alloc(BLOCKS * sizeof *counters);
    int wrong = 0;
    for (int i = 0; i < BLOCKS * 32; i++) x[i] = 1;
    EACH_ORDER({
        memset(counters, 0, BLOCKS * sizeof *counters);
        for (int step = 0; step < 2; step++) {
            for (int b = 0; b < BLOCKS; b++) y[b] = NAN;
            planted_chain((enum planted_chain)_i, y, counters, x, BLOCKS);
            for (int b = 0; b < BLOCKS; b++) wrong += !(y[b] == (float)(32 * (b + 1)));
        }
        const char *error = emu_error();
        if (chains[_i].text)
            ck_assert_msg(error && strstr(error, chains[_i].text), "%s in order %d: %s", chains[_i].name,
                          order_, error ? error : "not seen");
        else
            ck_assert_msg(!error, "%s in order %d: %s", chains[_i].name, order_, error);
        emu_forget();
    });
    ck_assert_msg((wrong > 0) == (_i != CHAIN_RIGHT), "%s: %d wrong numbers", chains[_i].name, wrong);
    cuda_free(x), cuda_free(y), cuda_free(counters);
}
END_TEST

Suite *suite_cuda_emu(void)
{
    Suite *s = suite_create("cuda_emu");
    TCase *t = tcase_create("cuda_emu");
    tcase_add_loop_test(t, test_planted_seen, 0, PLANTED_COUNT);
    tcase_add_loop_test(t, test_planted_right, 0, PLANTED_COUNT);
    tcase_add_test(t, test_error_sticks);
    tcase_add_test(t, test_mma);
    tcase_add_test(t, test_mma_s8);
    tcase_add_loop_test(t, test_tiles, 0, TILES);
    tcase_add_loop_test(t, test_clusters, 0, sizeof clusters / sizeof *clusters);
    tcase_add_test(t, test_cooperative);
    tcase_add_loop_test(t, test_chains, 0, CHAINS);
    suite_add_tcase(s, t);
    return s;
}

// tests/cuda_emu/planted_hopper.cu -- products by copies of tiles and wgmma, of a block and of a cluster, with a mistake or without.
#include "cuda/hopper.h"
#include "tests/cuda_emu/planted.h"

constexpr int SIDE = PLANTED_SIDE, TILE = SIDE * TILE_COLUMNS;

static __device__ void write(float *c, const float (&sum)[SIDE / 2])
{
    const int64_t at = (warp_id() * 16 + lane_id() / 4) * SIDE + lane_id() % 4 * 2;
#pragma unroll
    for (int i = 0; i < SIDE / 2; i++) store(c + at + i / 2 % 2 * 8 * SIDE + i / 4 * 8 + i % 2, sum[i]);
}

// c (64, 64) = a (64, 128) b (64, 128)^T, or b (128, 64) in columns: two panels by way of one stage.
static __global__ void __launch_bounds__(2 * WARPGROUP)
    tiles_kernel(enum planted_tiles which, float *c, const __grid_constant__ struct cuda_tile_map a,
                 const __grid_constant__ struct cuda_tile_map b, bool columns)
{
    SHARED_TILES(char, memory);
    const shared<bf16> x = shared_as<bf16>(memory), w = x + TILE;
    const shared<uint64_t> full = shared_as<uint64_t>(w + TILE), empty = full + 1;
    if (threadIdx.x == 0) {
        barrier_init(full, 1), barrier_init(empty, 1);
        barriers_made();
    }
    __syncthreads();
    if (threadIdx.x >= WARPGROUP) {
        for (int panel = 0; panel < 2 && threadIdx.x == WARPGROUP; panel++) {
            barrier_wait(empty, (unsigned)panel ^ 1);
            barrier_expect(full, 2 * TILE * (int)sizeof(bf16));
            copy_tile(x, &a, panel * TILE_COLUMNS, 0, full);
            if (columns)
                copy_tile(w, &b, 0, panel * SIDE, full);
            else
                copy_tile(w, &b, panel * TILE_COLUMNS, 0, full);
        }
        return;
    }
    float sum[SIDE / 2];
    for (int panel = 0; panel < 2; panel++) {
        if (which != TILES_NOT_AWAITED) barrier_wait(full, (unsigned)panel);
        if (which == TILES_WRITTEN || which == TILES_NOT_SHOWN) { // a row of x anew, by the threads' own hand
            const shared<uint16_t> row = shared_as<uint16_t>(x);
            if (threadIdx.x < TILE_COLUMNS) row[(int)threadIdx.x] = (uint16_t)0;
            if (which == TILES_WRITTEN) shared_written();
            sync_some<1, WARPGROUP>();
        }
        if (which != TILES_NOT_BEGUN) wgmma_begin();
#pragma unroll
        for (int k = 0; k < TILE_COLUMNS; k += 16) {
            if (columns)
                wgmma<SIDE>(sum, tile_rows(x + k), tile_columns(w + k * TILE_COLUMNS, 1024), panel || k);
            else
                wgmma<SIDE>(sum, tile_rows(x + k), tile_rows(w + k), panel || k);
        }
        wgmma_end();
        if (which == TILES_EARLY_EMPTY && !panel) { // so the next panel comes while this one is read
            sync_some<1, WARPGROUP>();
            if (threadIdx.x == 0) barrier_arrive(empty);
            barrier_wait(full, 1);
        }
        if (which != TILES_NOT_WAITED) wgmma_wait<0>();
        if (which != TILES_EARLY_EMPTY && !panel && threadIdx.x == 0) barrier_arrive(empty);
    }
    write(c, sum);
}

void planted_tiles(enum planted_tiles which, float *c, const uint16_t *a, const uint16_t *b, bool columns)
{
    struct cuda_tile_map x, w;
    cuda_tile_map_make(&x, a, 2 * SIDE, SIDE, 2 * SIDE * sizeof *a, SIDE);
    cuda_tile_map_make(&w, b, columns ? SIDE : 2 * SIDE, columns ? 2 * SIDE : SIDE,
                       (size_t)(columns ? SIDE : 2 * SIDE) * sizeof *b, SIDE);
    CUDA_LAUNCH(tiles_kernel, 1, 2 * WARPGROUP, 2 * TILE * sizeof(bf16) + 2 * sizeof(uint64_t), NULL, which,
                c, x, w, columns);
}

// c (128, 64) = a (128, 256) b (64, 256)^T by a cluster: 64 rows each, and of each panel of b half, which both get.
static __global__ void __launch_bounds__(2 * WARPGROUP)
    cluster_kernel(enum planted_cluster which, float *c, const __grid_constant__ struct cuda_tile_map a,
                   const __grid_constant__ struct cuda_tile_map b)
{
    SHARED_TILES(char, memory);
    const shared<bf16> x = shared_as<bf16>(memory), w = x + TILE;
    const shared<uint64_t> full = shared_as<uint64_t>(w + TILE), empty = full + 1;
    const int rank = cluster_rank();
    const bool own = which == CLUSTER_OWN_EMPTY;
    if (threadIdx.x == 0) {
        barrier_init(full, 1), barrier_init(empty, own ? 1 : CUDA_CLUSTER);
        barriers_made();
    }
    if (which == CLUSTER_NOT_MET)
        __syncthreads();
    else
        sync_cluster();
    if (threadIdx.x >= WARPGROUP) {
        for (int panel = 0; panel < CLUSTER_PANELS && threadIdx.x == WARPGROUP; panel++) {
            barrier_wait(empty, ((unsigned)panel & 1) ^ 1);
            barrier_expect(full, 2 * TILE * (int)sizeof(bf16));
            copy_tile(x, &a, panel * TILE_COLUMNS, rank * SIDE, full);
            copy_tile_to(which == CLUSTER_FORGOTTEN ? 1u : 3u, w + rank * TILE / CUDA_CLUSTER, &b,
                         panel * TILE_COLUMNS, rank * SIDE / CUDA_CLUSTER, full);
        }
    } else {
        float sum[SIDE / 2];
        for (int panel = 0; panel < CLUSTER_PANELS; panel++) {
            barrier_wait(full, (unsigned)panel & 1);
            wgmma_begin();
#pragma unroll
            for (int k = 0; k < TILE_COLUMNS; k += 16)
                wgmma<SIDE>(sum, tile_rows(x + k), tile_rows(w + k), panel || k);
            wgmma_end();
            wgmma_wait<0>();
            const int to = (int)threadIdx.x;
            if (own && to == rank) barrier_arrive(empty);
            if (!own && to < CUDA_CLUSTER) barrier_arrive_in(empty, to);
        }
        write(c + rank * SIDE * SIDE, sum);
    }
    if (which != CLUSTER_EARLY_END || rank == 0) sync_cluster();
}

void planted_cluster(enum planted_cluster which, float *c, const uint16_t *a, const uint16_t *b)
{
    const int64_t k = CLUSTER_PANELS * TILE_COLUMNS;
    struct cuda_tile_map x, w;
    cuda_tile_map_make(&x, a, k, CUDA_CLUSTER * SIDE, (size_t)k * sizeof *a, SIDE);
    cuda_tile_map_make(&w, b, k, SIDE, (size_t)k * sizeof *b, SIDE / CUDA_CLUSTER);
    CUDA_LAUNCH_CLUSTERS(cluster_kernel, CUDA_CLUSTER, 2 * WARPGROUP,
                         2 * TILE * sizeof(bf16) + 2 * sizeof(uint64_t), NULL, which, c, x, w);
}

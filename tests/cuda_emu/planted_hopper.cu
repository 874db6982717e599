// tests/cuda_emu/planted_hopper.cu -- a product by copies of tiles and wgmma, with a mistake or without.
#include "cuda/hopper.h"
#include "tests/cuda_emu/planted.h"

constexpr int SIDE = PLANTED_SIDE, TILE = SIDE * TILE_COLUMNS;

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
#pragma unroll
    for (int i = 0; i < SIDE / 2; i++)
        store(c + (warp_id() * 16 + lane_id() / 4 + i / 2 % 2 * 8) * SIDE + i / 4 * 8 + lane_id() % 4 * 2 +
                  i % 2,
              sum[i]);
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

// cuda/matmul_wgmma.cu -- the product of many columns for compute capability 9.0, bf16 or f16 in and f32 out: tiles by TMA, wgmma m64nNk16.
//
// A block stays on its multiprocessor and takes tiles of 128 rows of x and OUTPUTS outputs in turn. One warp of it asks for panels of 64 steps
// of k, up to STAGES of them ahead; two warpgroups multiply 64 rows each, so that one of them writes its results while the other one and
// the copies go on. `full` and `empty` say of a stage that its panels have come, and that both warpgroups are through with them.
//
// Tiles of 128 x 256 ask the L2 cache for 48 KB for each 4.2 MFLOP: at the full rate of an H200 11 TB/s, about twice what that delivers. So
// two blocks may be a cluster (BLOCKS 2), whose tiles stand one below the other: each of them fetches half of the panel of w for both, and
// 32 KB are asked for. A stage is empty when all four warpgroups are through with it. Both go through the same panels, also where
// the lower tile has no rows: its half of w is wanted all the same.
//
// A panel of w is (OUTPUTS, 64) of (N, K), or, for gradients (nn), 64 rows of (K, N): tiles of 64 outputs side by side. Rows that the step
// does not have stand in memory all the same, whatever is there: results of theirs are not written; where they are steps of k, the last
// panel's are made zeros in both operands.
#include "cuda/hopper.h"
#include "cuda/products.h"

constexpr int ROWS = 128, DEPTH = TILE_COLUMNS, GROUPS = 2, THREADS = (1 + GROUPS) * WARPGROUP;

// BLOCKS: of a cluster, 1 or CUDA_CLUSTER
template <int OUTPUTS> struct shape {
    static constexpr int PANEL = (ROWS + OUTPUTS) * DEPTH; // numbers of a stage: x, then w
    static constexpr int STAGES = OUTPUTS == 256 ? 4 : 6;
    static constexpr size_t BYTES = (size_t)STAGES * PANEL * sizeof(bf16) + 2 * STAGES * sizeof(uint64_t);
};

// A tile of results.
struct place {
    int64_t t0, end, n0;     // its first row, behind the last of its matrix, its first output
    int64_t k0, k;           // the steps of k, from k0 on, below k
    int64_t x_column, w_row; // where the matrix's k begins in a row of x, and its outputs in w
    int64_t y;               // number of the matrix's, or the part's, first result of row 0
};

// Which tiles are the block's, or the cluster's one below the other, by their number: matrices or parts of k one after the other, in each
// of them ABREAST tiles of rows that follow each other on the same outputs, for the L2 cache, then the next outputs. How many tiles an
// expert has is found on the way.
template <int OUTPUTS, int BLOCKS> struct schedule {
    static constexpr int ABREAST = 8, HEIGHT = BLOCKS * ROWS;
    const struct cuda_tiles &t;
    int64_t across, each, all_k, count;
    int64_t number = 0, before = 0; // the matrix or part that the last tile was of, the tiles in front of it

    __device__ explicit schedule(const struct cuda_tiles &tiles)
        : t(tiles), across(ceil_div(tiles.p.n, (int64_t)OUTPUTS)),
          each(ceil_div(ceil_div(tiles.p.k.most, (int64_t)DEPTH), tiles.parts) * DEPTH),
          all_k(row_count(tiles.p.k)), count(tiles.groups.count ? tiles.groups.count : tiles.parts)
    {
    }

    __device__ static int rank()
    {
        return BLOCKS > 1 ? cluster_rank() : 0;
    }

    // Tile i, not in front of the last that was asked for; false behind the last.
    __device__ bool find(int64_t i, struct place &w)
    {
        int64_t first = 0, rows = row_count(t.p.m), tiles;
        for (;; number++, before += tiles) {
            if (number == count) return false;
            if (t.groups.first) {
                first = load(t.groups.first + number);
                rows = load(t.groups.first + number + 1) - first;
            }
            tiles = across * ceil_div(rows, (int64_t)HEIGHT);
            if (i < before + tiles) break;
        }
        const int64_t tile = i - before, down = tiles / across, band = tile / (ABREAST * across) * ABREAST;
        const int64_t high = down - band < ABREAST ? down - band : ABREAST, in = tile - band * across;
        const bool heads = t.groups.count && !t.groups.first;
        w.t0 = first + (band + in % high) * HEIGHT + rank() * ROWS, w.end = first + rows,
        w.n0 = in / high * OUTPUTS;
        w.k0 = t.groups.count ? 0 : number * each;
        w.k = t.groups.count || w.k0 + each > all_k ? all_k : w.k0 + each;
        w.x_column = heads ? number * t.p.k.most : 0;
        w.w_row = t.groups.count ? number * t.p.n : 0;
        w.y = heads ? number * t.p.n : t.groups.count ? 0 : number * t.p.m.most * t.y_stride;
        return true;
    }
};

#if CUDA_HOPPER

constexpr int GIVEN = 40, TAKEN = 232; // registers: 40 * 128 + 232 * 256 <= 65536

// To one block, or to all of the cluster.
template <int BLOCKS, class T>
__device__ static void fetch(shared<T> to, const struct cuda_tile_map *map, int64_t column, int64_t row,
                             shared<uint64_t> come)
{
    if constexpr (BLOCKS > 1)
        copy_tile_to((1u << BLOCKS) - 1, to, map, column, row, come);
    else
        copy_tile(to, map, column, row, come);
}

template <class T, int OUTPUTS, bool NN, int BLOCKS>
__device__ static void fetch_panels(shared<T> stages, shared<uint64_t> full, shared<uint64_t> empty,
                                    const struct cuda_tile_map *x, const struct cuda_tile_map *w,
                                    schedule<OUTPUTS, BLOCKS> plan)
{
    constexpr int PANEL = shape<OUTPUTS>::PANEL, SHARE = OUTPUTS / BLOCKS;
    const int own = plan.rank() * SHARE; // the first of the outputs whose weights this block fetches
    const int64_t x_part = plan.t.p.x_stride / plan.t.passes;
    ring<shape<OUTPUTS>::STAGES> at;
    struct place here;
    for (int64_t i = blockIdx.x / BLOCKS; plan.find(i, here); i += gridDim.x / BLOCKS)
        for (int pass = 0; pass < plan.t.passes; pass++)
            for (int64_t k = here.k0; k < here.k; k += DEPTH, at.next()) {
                const shared<T> to = stages + at.stage * PANEL;
                const shared<uint64_t> come = full + at.stage;
                barrier_wait(empty + at.stage, at.phase ^ 1);
                barrier_expect(come, PANEL * (int)sizeof(T));
                copy_tile(to, x, pass * x_part + here.x_column + k, here.t0, come);
                if constexpr (NN) {
                    for (int n = own; n < own + SHARE; n += TILE_COLUMNS)
                        fetch<BLOCKS>(to + (ROWS + n) * DEPTH, w, here.n0 + n, k, come);
                } else {
                    fetch<BLOCKS>(to + (ROWS + own) * DEPTH, w, k, here.w_row + here.n0 + own, come);
                }
            }
}

// The last panel's steps of k that are not there: zeros in the warpgroup's rows of x, and in w, which both share.
template <class T, int OUTPUTS, bool NN>
__device__ static void clear_behind(shared<T> x, shared<T> w, int there, int group)
{
    const shared<vec<uint16_t, 8>> own = shared_as<vec<uint16_t, 8>>(x + group * 64 * DEPTH),
                                   both = shared_as<vec<uint16_t, 8>>(w);
    const int thread = (int)threadIdx.x % WARPGROUP, whole = there / 8;
    // Piece c of row r stands at place c ^ (r % 8); the piece that k ends in is cleared number by number.
    for (int i = thread; i < 64 * 8; i += WARPGROUP) {
        const int r = i / 8, c = i % 8;
        if (c < whole) continue;
        vec<uint16_t, 8> piece = own[r * 8 + (c ^ r % 8)];
        for (int j = 0; j < 8; j++)
            if (c * 8 + j >= there) piece.x[j] = 0;
        own[r * 8 + (c ^ r % 8)] = piece;
    }
    const vec<uint16_t, 8> zeros = {};
    for (int i = (int)threadIdx.x - WARPGROUP; i < OUTPUTS * 8; i += GROUPS * WARPGROUP) {
        const int r = i / 8, c = i % 8;
        if constexpr (NN) { // tiles of 64 rows of k
            if (r % DEPTH >= there) both[i] = zeros;
        } else {
            if (c < whole) continue;
            vec<uint16_t, 8> piece = both[r * 8 + (c ^ r % 8)];
            for (int j = 0; j < 8; j++)
                if (c * 8 + j >= there) piece.x[j] = 0;
            both[r * 8 + (c ^ r % 8)] = piece;
        }
    }
    shared_written();
    sync_some<1, GROUPS * WARPGROUP>();
}

template <class T, int OUTPUTS, bool NN>
__device__ static void multiply(float (&c)[OUTPUTS / 2], shared<T> x, shared<T> w, bool add)
{
#pragma unroll
    for (int k = 0; k < DEPTH; k += 16) {
        if constexpr (NN)
            wgmma<OUTPUTS>(c, tile_rows(x + k), tile_columns(w + k * TILE_COLUMNS, DEPTH * TILE_COLUMNS * 2),
                           add || k);
        else
            wgmma<OUTPUTS>(c, tile_rows(x + k), tile_rows(w + k), add || k);
    }
}

// Rows row and row + 8 of the warp's, from `column` on, of a tile that is there as a whole: base + (scale * c + bias), two numbers at a time.
template <int OUTPUTS>
__device__ static void write_whole(float (&c)[OUTPUTS / 2], const struct cuda_tiles &tiles, float *y,
                                   const float *base, int64_t row, int64_t column)
{
    const int64_t at[2] = {row * tiles.y_stride + column, (row + 8) * tiles.y_stride + column};
    if (tiles.scale) {
        const float scale[2] = {load(tiles.scale + row), load(tiles.scale + row + 8)};
#pragma unroll
        for (int i = 0; i < OUTPUTS / 2; i++) c[i] *= scale[i / 2 % 2];
    }
    if (tiles.bias)
#pragma unroll
        for (int i = 0; i < OUTPUTS / 2; i += 4) {
            const vec<float, 2> more = load((const vec<float, 2> *)(tiles.bias + column + i / 4 * 8));
            c[i] += more.x[0], c[i + 1] += more.x[1], c[i + 2] += more.x[0], c[i + 3] += more.x[1];
        }
    if (base)
#pragma unroll
        for (int i = 0; i < OUTPUTS / 2; i += 2) {
            const vec<float, 2> more = load((const vec<float, 2> *)(base + at[i / 2 % 2] + i / 4 * 8));
            c[i] += more.x[0], c[i + 1] += more.x[1];
        }
#pragma unroll
    for (int i = 0; i < OUTPUTS / 2; i += 2)
        store((vec<float, 2> *)(y + at[i / 2 % 2] + i / 4 * 8), vec<float, 2>{{c[i], c[i + 1]}});
}

// Likewise of a tile that goes beyond the rows or the outputs, or of results that stand on no boundaries of two.
template <int OUTPUTS>
__device__ static void write_some(const float (&c)[OUTPUTS / 2], const struct cuda_tiles &tiles, float *y,
                                  const float *base, int64_t end, int64_t row, int64_t column)
{
    float scale[2] = {1, 1};
    for (int h = 0; tiles.scale && h < 2; h++)
        if (row + h * 8 < end) scale[h] = load(tiles.scale + row + h * 8);
#pragma unroll
    for (int i = 0; i < OUTPUTS / 2; i++) {
        const int64_t t = row + i / 2 % 2 * 8, o = column + i / 4 * 8 + i % 2, at = t * tiles.y_stride + o;
        if (t >= end || o >= tiles.p.n) continue;
        float sum = scale[i / 2 % 2] * c[i];
        if (tiles.bias) sum += load(tiles.bias + o);
        store(y + at, base ? load(base + at) + sum : sum);
    }
}

// The block's tile: whose lane has which numbers is in cuda/hopper.h.
template <int OUTPUTS>
__device__ static void write(float (&c)[OUTPUTS / 2], const struct cuda_tiles &tiles,
                             const struct place &here, int group)
{
    const int64_t row = here.t0 + group * 64 + warp_id() % 4 * 16 + lane_id() / 4,
                  column = here.n0 + lane_id() % 4 * 2;
    float *y = tiles.p.y + here.y;
    const float *base = has_base(tiles.p.base) ? tiles.p.base.from : NULL;
    const uintptr_t places = (uintptr_t)y | (uintptr_t)base | (uintptr_t)tiles.bias;
    const bool whole = here.t0 + ROWS <= here.end && here.n0 + OUTPUTS <= tiles.p.n;
    if (whole && tiles.y_stride % 2 == 0 && places % 8 == 0)
        write_whole<OUTPUTS>(c, tiles, y, base, row, column);
    else
        write_some<OUTPUTS>(c, tiles, y, base, here.end, row, column);
}

// A warpgroup is through with a stage: a thread each tells a block that it may be filled.
template <int BLOCKS> __device__ static void release(shared<uint64_t> empty)
{
    const int rank = (int)threadIdx.x % WARPGROUP;
    if (rank >= BLOCKS) return;
    if constexpr (BLOCKS > 1)
        barrier_arrive_in(empty, rank);
    else
        barrier_arrive(empty);
}

template <class T, int OUTPUTS, bool NN, int BLOCKS>
__device__ static void multiply_panels(shared<T> stages, shared<uint64_t> full, shared<uint64_t> empty,
                                       schedule<OUTPUTS, BLOCKS> plan)
{
    constexpr int PANEL = shape<OUTPUTS>::PANEL, STAGES = shape<OUTPUTS>::STAGES;
    const int group = (int)threadIdx.x / WARPGROUP - 1;
    ring<STAGES> at;
    struct place here;
    for (int64_t i = blockIdx.x / BLOCKS; plan.find(i, here); i += gridDim.x / BLOCKS) {
        float c[OUTPUTS / 2];
        const bool some = here.k > here.k0;
        if (!some)
            for (int j = 0; j < OUTPUTS / 2; j++) c[j] = 0;
        bool add = false;
        int last = 0; // the stage in front, whose products may still be on their way
        for (int pass = 0; pass < plan.t.passes; pass++)
            for (int64_t k = here.k0; k < here.k; k += DEPTH, at.next()) {
                const shared<T> x = stages + at.stage * PANEL, w = x + ROWS * DEPTH;
                barrier_wait(full + at.stage, at.phase);
                if (here.k - k < DEPTH) clear_behind<T, OUTPUTS, NN>(x, w, (int)(here.k - k), group);
                wgmma_begin();
                multiply<T, OUTPUTS, NN>(c, x + group * 64 * DEPTH, w, add);
                wgmma_end();
                wgmma_wait<1>();
                if (add) release<BLOCKS>(empty + last);
                add = true, last = at.stage;
            }
        wgmma_wait<0>();
        if (some) release<BLOCKS>(empty + last);
        write<OUTPUTS>(c, plan.t, here, group);
    }
}

#endif

template <class T, int OUTPUTS, bool NN, int BLOCKS>
__global__ void __launch_bounds__(THREADS, 1)
    matmul_wgmma_kernel(const __grid_constant__ struct cuda_tile_map x,
                        const __grid_constant__ struct cuda_tile_map w,
                        const __grid_constant__ struct cuda_tiles tiles)
{
#if CUDA_HOPPER
    constexpr int STAGES = shape<OUTPUTS>::STAGES;
    SHARED_TILES(char, memory);
    const shared<T> stages = shared_as<T>(memory);
    const shared<uint64_t> full = shared_as<uint64_t>(stages + STAGES * shape<OUTPUTS>::PANEL),
                           empty = full + STAGES;
    const schedule<OUTPUTS, BLOCKS> plan(tiles);
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) barrier_init(full + i, 1), barrier_init(empty + i, GROUPS * BLOCKS);
        barriers_made();
    }
    if constexpr (BLOCKS > 1)
        sync_cluster();
    else
        __syncthreads();
    if (threadIdx.x < WARPGROUP) {
        registers_give<GIVEN>();
        if (threadIdx.x == 0) fetch_panels<T, OUTPUTS, NN, BLOCKS>(stages, full, empty, &x, &w, plan);
    } else {
        registers_take<TAKEN>();
        multiply_panels<T, OUTPUTS, NN, BLOCKS>(stages, full, empty, plan);
    }
    if constexpr (BLOCKS > 1) sync_cluster(); // the other block's last arrivals come here
#endif
}

// Tiles of `height` rows of all matrices together; of experts at most so many, each of which may have a tile that is not full.
static int64_t tiles_high(const struct cuda_tiles *t, int height)
{
    const int64_t high = ceil_div(t->p.m.most, (int64_t)height), count = t->groups.count;
    if (t->groups.first) return t->p.m.most < count ? t->p.m.most : high + count;
    return high * (count ? count : t->parts);
}

// Tiles, or pairs of them, and how many of these the device works on at a time.
struct rounds {
    int64_t tiles, abreast;
};

static struct rounds rounds_of(const struct cuda_tiles *t, int outputs, int blocks)
{
    const int64_t processors = cuda_processors(), abreast = processors / blocks;
    return {ceil_div(t->p.n, (int64_t)outputs) * tiles_high(t, blocks * ROWS), abreast ? abreast : 1};
}

template <class T, int OUTPUTS, bool NN, int BLOCKS>
static bool launch(struct cuda_stream *s, const struct cuda_tiles *t)
{
    const struct cuda_product *p = &t->p;
    struct cuda_tile_map x, w;
    const int64_t matrices = t->groups.count ? t->groups.count : 1, heads = t->groups.first ? 1 : matrices;
    const int64_t columns = (t->passes - 1) * (p->x_stride / t->passes) + heads * p->k.most;
    if (!cuda_tile_map_make(&x, p->x, columns, p->m.most, (size_t)p->x_stride * sizeof(T), ROWS) ||
        !cuda_tile_map_make(&w, p->w, NN ? p->n : p->k.most, NN ? p->k.most : p->n * matrices,
                            (size_t)p->w_stride * sizeof(T), NN ? DEPTH : OUTPUTS / BLOCKS))
        return false;
    const struct rounds r = rounds_of(t, OUTPUTS, BLOCKS);
    const dim3 grid((unsigned)(BLOCKS * (r.tiles < r.abreast ? r.tiles : r.abreast)));
    if constexpr (BLOCKS > 1)
        CUDA_LAUNCH_CLUSTERS((matmul_wgmma_kernel<T, OUTPUTS, NN, BLOCKS>), grid, THREADS,
                             shape<OUTPUTS>::BYTES, s, x, w, *t);
    else
        CUDA_LAUNCH((matmul_wgmma_kernel<T, OUTPUTS, NN, BLOCKS>), grid, THREADS, shape<OUTPUTS>::BYTES, s, x,
                    w, *t);
    return true;
}

// What a round of tiles takes on all processors: two of 128 outputs read x twice, and pairs read less of w. The figures are guesses between what
// the arithmetic needs and what is asked of the L2 cache; the lines "by pairs of 128 x 256" and their like in docs/benchmarks/gpu.md say how
// good they are. Pairs must have two tiles, most of them.
enum wgmma_form matmul_wgmma_form(const struct cuda_tiles *t)
{
    static const struct {
        int outputs, blocks, cost;
    } forms[WGMMA_FORMS] = {{128, 1, 18}, {256, 1, 32}, {128, CUDA_CLUSTER, 17}, {256, CUDA_CLUSTER, 30}};
    const int64_t high = tiles_high(t, ROWS), blocks_high = CUDA_CLUSTER * tiles_high(t, CUDA_CLUSTER * ROWS);
    const bool pairs = blocks_high <= high + high / 2;
    enum wgmma_form best = WGMMA_128;
    int64_t least = INT64_MAX;
    for (int i = 0; i < (pairs ? WGMMA_FORMS : WGMMA_PAIRS_128); i++) {
        const struct rounds r = rounds_of(t, forms[i].outputs, forms[i].blocks);
        const int64_t cost = ceil_div(r.tiles, r.abreast) * forms[i].cost;
        if (cost < least) best = (enum wgmma_form)i, least = cost;
    }
    return best;
}

template <class T, bool NN>
static bool launch_as(struct cuda_stream *s, const struct cuda_tiles *t, enum wgmma_form form)
{
    switch (form) {
    case WGMMA_128: return launch<T, 128, NN, 1>(s, t);
    case WGMMA_256: return launch<T, 256, NN, 1>(s, t);
    case WGMMA_PAIRS_128: return launch<T, 128, NN, CUDA_CLUSTER>(s, t);
    default: return launch<T, 256, NN, CUDA_CLUSTER>(s, t);
    }
}

bool matmul_wgmma_as(struct cuda_stream *s, const struct cuda_tiles *t, bool nn, enum wgmma_form form)
{
    if (t->p.x_type != t->p.w_type) return false;
    if (t->p.w_type == DTYPE_F16) return !nn && launch_as<f16, false>(s, t, form);
    if (t->p.w_type != DTYPE_BF16) return false;
    return nn ? launch_as<bf16, true>(s, t, form) : launch_as<bf16, false>(s, t, form);
}

bool matmul_wgmma(struct cuda_stream *s, const struct cuda_tiles *t, bool nn)
{
    return matmul_wgmma_as(s, t, nn, matmul_wgmma_form(t));
}

// cuda/matmul_wgmma.cu -- the product of many columns for compute capability 9.0, bf16 in and f32 out: tiles by TMA, wgmma m64nNk16.
//
// A block stays on its multiprocessor and takes tiles of 128 rows of x and OUTPUTS outputs in turn. One warp of it asks for panels of 64 steps
// of k, up to STAGES of them ahead; two warpgroups multiply 64 rows each, so that one of them writes its results while the other one and
// the copies go on. `full` and `empty` say of a stage that its panels have come, and that both warpgroups are through with them.
//
// A panel of w is (OUTPUTS, 64) of (N, K), or, for gradients (nn), 64 rows of (K, N): tiles of 64 outputs side by side. Rows that the step
// does not have stand in memory all the same, whatever is there: results of theirs are not written; where they are steps of k, the last
// panel's are made zeros in both operands.
#include "cuda/hopper.h"
#include "cuda/products.h"

constexpr int ROWS = 128, DEPTH = TILE_COLUMNS, GROUPS = 2, THREADS = (1 + GROUPS) * WARPGROUP;

template <int OUTPUTS> struct shape {
    static constexpr int PANEL = (ROWS + OUTPUTS) * DEPTH; // numbers of a stage: x, then w
    static constexpr int STAGES = OUTPUTS == 256 ? 4 : 6;
    static constexpr size_t BYTES = (size_t)STAGES * PANEL * sizeof(bf16) + 2 * STAGES * sizeof(uint64_t);
};

struct place {
    int64_t t0, n0, k0, k; // first row and output; steps of k from k0 on, below k
    int64_t part, steps;
};

// Which work is the block's, by its number: parts of k, in each of them tiles of the results.
template <int OUTPUTS> struct schedule {
    static constexpr int ABREAST =
        8; // tiles of rows that follow each other on the same outputs, for the L2 cache
    int64_t across, down, parts, each, all_k;

    __device__ schedule(const struct cuda_product &p, int64_t parts_of_k)
        : across(ceil_div(p.n, (int64_t)OUTPUTS)), down(ceil_div(row_count(p.m), (int64_t)ROWS)),
          parts(parts_of_k), each(ceil_div(ceil_div(p.k.most, (int64_t)DEPTH), parts_of_k) * DEPTH),
          all_k(row_count(p.k))
    {
    }

    __device__ int64_t count() const
    {
        return across * down * parts;
    }

    // ABREAST tiles of rows, then the next outputs.
    __device__ struct place at(int64_t i) const
    {
        struct place w;
        w.part = i / (across * down);
        const int64_t tile = i % (across * down), band = tile / (ABREAST * across) * ABREAST;
        const int64_t high = down - band < ABREAST ? down - band : ABREAST, in = tile - band * across;
        w.t0 = (band + in % high) * ROWS, w.n0 = in / high * OUTPUTS;
        w.k0 = w.part * each;
        w.k = w.k0 + each < all_k ? w.k0 + each : all_k;
        w.steps = w.k > w.k0 ? ceil_div(w.k - w.k0, (int64_t)DEPTH) : 0;
        return w;
    }
};

#if CUDA_HOPPER

constexpr int GIVEN = 40, TAKEN = 232; // registers: 40 * 128 + 232 * 256 <= 65536

template <int OUTPUTS, bool NN>
__device__ static void fetch_panels(shared<bf16> stages, shared<uint64_t> full, shared<uint64_t> empty,
                                    const struct cuda_tile_map *x, const struct cuda_tile_map *w,
                                    const schedule<OUTPUTS> &plan)
{
    constexpr int PANEL = shape<OUTPUTS>::PANEL;
    ring<shape<OUTPUTS>::STAGES> at;
    for (int64_t i = blockIdx.x; i < plan.count(); i += gridDim.x) {
        const struct place here = plan.at(i);
        for (int64_t k = here.k0; k < here.k; k += DEPTH, at.next()) {
            const shared<bf16> to = stages + at.stage * PANEL;
            const shared<uint64_t> come = full + at.stage;
            barrier_wait(empty + at.stage, at.phase ^ 1);
            barrier_expect(come, PANEL * (int)sizeof(bf16));
            copy_tile(to, x, k, here.t0, come);
            if constexpr (NN) {
                for (int n = 0; n < OUTPUTS; n += TILE_COLUMNS)
                    copy_tile(to + ROWS * DEPTH + n * DEPTH, w, here.n0 + n, k, come);
            } else {
                copy_tile(to + ROWS * DEPTH, w, k, here.n0, come);
            }
        }
    }
}

// The last panel's steps of k that are not there: zeros in the warpgroup's rows of x, and in w, which both share.
template <int OUTPUTS, bool NN>
__device__ static void clear_behind(shared<bf16> x, shared<bf16> w, int there, int group)
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

template <int OUTPUTS, bool NN>
__device__ static void multiply(float (&c)[OUTPUTS / 2], shared<bf16> x, shared<bf16> w, bool add)
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

template <int OUTPUTS>
__device__ static void write(const float (&c)[OUTPUTS / 2], const struct cuda_product &p, float *y,
                             int64_t row, int64_t column, int64_t rows)
{
    const bool based = has_base(p.base), pairs = p.n % 2 == 0;
#pragma unroll
    for (int i = 0; i < OUTPUTS / 2; i += 2) {
        const int64_t t = row + i / 2 % 2 * 8, o = column + i / 4 * 8, at = t * p.n + o;
        if (t >= rows || o >= p.n) continue;
        if (pairs) {
            vec<float, 2> two = {{c[i], c[i + 1]}};
            if (based) {
                const vec<float, 2> base = load((const vec<float, 2> *)(p.base.from + at));
                two.x[0] += base.x[0], two.x[1] += base.x[1];
            }
            store((vec<float, 2> *)(y + at), two);
            continue;
        }
        store(y + at, based ? load(p.base.from + at) + c[i] : c[i]);
        if (o + 1 < p.n) store(y + at + 1, based ? load(p.base.from + at + 1) + c[i + 1] : c[i + 1]);
    }
}

template <int OUTPUTS, bool NN>
__device__ static void multiply_panels(shared<bf16> stages, shared<uint64_t> full, shared<uint64_t> empty,
                                       const struct cuda_product &p, const schedule<OUTPUTS> &plan)
{
    constexpr int PANEL = shape<OUTPUTS>::PANEL, STAGES = shape<OUTPUTS>::STAGES;
    const int group = (int)threadIdx.x / WARPGROUP - 1;
    const bool first = threadIdx.x % WARPGROUP == 0;
    ring<STAGES> at;
    for (int64_t i = blockIdx.x; i < plan.count(); i += gridDim.x) {
        const struct place here = plan.at(i);
        float c[OUTPUTS / 2];
        if (!here.steps)
            for (int j = 0; j < OUTPUTS / 2; j++) c[j] = 0;
        int last = 0; // the stage in front, whose products may still be on their way
        for (int64_t step = 0; step < here.steps; step++, at.next()) {
            const shared<bf16> x = stages + at.stage * PANEL, w = x + ROWS * DEPTH;
            barrier_wait(full + at.stage, at.phase);
            const int64_t there = here.k - here.k0 - step * DEPTH;
            if (there < DEPTH) clear_behind<OUTPUTS, NN>(x, w, (int)there, group);
            wgmma_begin();
            multiply<OUTPUTS, NN>(c, x + group * 64 * DEPTH, w, step > 0);
            wgmma_end();
            wgmma_wait<1>();
            if (step && first) barrier_arrive(empty + last);
            last = at.stage;
        }
        wgmma_wait<0>();
        if (here.steps && first) barrier_arrive(empty + last);
        const int lane = lane_id(), warp = warp_id() % 4;
        write<OUTPUTS>(c, p, p.y + here.part * p.m.most * p.n, here.t0 + group * 64 + warp * 16 + lane / 4,
                       here.n0 + lane % 4 * 2, row_count(p.m));
    }
}

#endif

template <int OUTPUTS, bool NN>
__global__ void __launch_bounds__(THREADS, 1)
    matmul_wgmma_kernel(const __grid_constant__ struct cuda_tile_map x,
                        const __grid_constant__ struct cuda_tile_map w, struct cuda_product p, int64_t parts)
{
#if CUDA_HOPPER
    constexpr int STAGES = shape<OUTPUTS>::STAGES;
    SHARED_TILES(char, memory);
    const shared<bf16> stages = shared_as<bf16>(memory);
    const shared<uint64_t> full = shared_as<uint64_t>(stages + STAGES * shape<OUTPUTS>::PANEL),
                           empty = full + STAGES;
    const schedule<OUTPUTS> plan(p, parts);
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) barrier_init(full + i, 1), barrier_init(empty + i, GROUPS);
        barriers_made();
    }
    __syncthreads();
    if (threadIdx.x < WARPGROUP) {
        registers_give<GIVEN>();
        if (threadIdx.x == 0) fetch_panels<OUTPUTS, NN>(stages, full, empty, &x, &w, plan);
    } else {
        registers_take<TAKEN>();
        multiply_panels<OUTPUTS, NN>(stages, full, empty, p, plan);
    }
#endif
}

template <int OUTPUTS, bool NN>
static bool launch(struct cuda_stream *s, const struct cuda_product *p, int64_t parts)
{
    struct cuda_tile_map x, w;
    if (!cuda_tile_map_make(&x, p->x, p->k.most, p->m.most, (size_t)p->x_stride * sizeof(bf16), ROWS) ||
        !cuda_tile_map_make(&w, p->w, NN ? p->n : p->k.most, NN ? p->k.most : p->n,
                            (size_t)p->w_stride * sizeof(bf16), NN ? DEPTH : OUTPUTS))
        return false;
    const int64_t tiles = ceil_div(p->n, (int64_t)OUTPUTS) * ceil_div(p->m.most, (int64_t)ROWS) * parts;
    const int64_t processors = cuda_processors();
    CUDA_LAUNCH((matmul_wgmma_kernel<OUTPUTS, NN>), dim3((unsigned)(tiles < processors ? tiles : processors)),
                THREADS, shape<OUTPUTS>::BYTES, s, x, w, *p, parts);
    return true;
}

// Rounds of tiles on all processors, in units of a tile of 128 outputs: the wide form's round takes two, and does a little more than twice
// as much, since it reads x half as often.
static bool wide_wins(const struct cuda_product *p, int64_t parts)
{
    const int64_t high = ceil_div(p->m.most, (int64_t)ROWS) * parts, processors = cuda_processors();
    const int64_t narrow = ceil_div(high * ceil_div(p->n, (int64_t)128), processors);
    return 2 * ceil_div(high * ceil_div(p->n, (int64_t)256), processors) <= narrow + narrow / 8;
}

bool matmul_wgmma(struct cuda_stream *s, const struct cuda_product *p, bool nn, int64_t parts)
{
    if (p->x_type != DTYPE_BF16 || p->w_type != DTYPE_BF16) return false;
    if (wide_wins(p, parts)) return nn ? launch<256, true>(s, p, parts) : launch<256, false>(s, p, parts);
    return nn ? launch<128, true>(s, p, parts) : launch<128, false>(s, p, parts);
}

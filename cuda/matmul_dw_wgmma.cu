// cuda/matmul_dw_wgmma.cu -- products of gradients for compute capability 9.0 whose x is turned, or that are several at once (struct cuda_product):
// as cuda/matmul_wgmma.cu, in bf16.
//
//     turned   y[m][n] = base + sum over k of x[k][m] w[k][n]          else   y[m][n] = base + sum over k of x[m][k] w[k][n]
//
// A weight's gradient sums over rows of the step, which x (the gradient of the outputs) and w (the inputs) both have side by side: panels
// are 64 of these rows, tiles of 64 columns of either side by side, and wgmma takes both with k as their rows. So neither is
// transposed in memory, and an expert's rows may begin anywhere. What stands behind an expert's, or a matrix's, last step of k in its last
// panel is the next one's, and is made zeros.
#include "cuda/groups.h"
#include "cuda/hopper.h"
#include "cuda/products.h"

constexpr int ROWS = 128, DEPTH = TILE_COLUMNS, GROUPS = 2, THREADS = (1 + GROUPS) * WARPGROUP;

template <int OUTPUTS> struct gradient_stage {
    static constexpr int PANEL = (ROWS + OUTPUTS) * DEPTH; // numbers of a stage: x, then w
    static constexpr int STAGES = OUTPUTS == 256 ? 4 : 6;
    static constexpr size_t BYTES = (size_t)STAGES * PANEL * sizeof(bf16) + 2 * STAGES * sizeof(uint64_t);
};

// A tile of results: rows t0 .. of matrix (or part of k) `number`, below `end`, from output n0 on.
struct gradient_place {
    struct product_part of;
    int64_t number, t0, n0;
};

// Which tiles are the block's, by their number: matrices or parts of k one after the other, in each of them tiles of rows, then the next
// outputs. How many tiles an expert has is found on the way.
template <int OUTPUTS> struct gradient_tiles {
    const struct cuda_tiles &t;
    int64_t across, each, count, number = 0, before = 0;

    __device__ explicit gradient_tiles(const struct cuda_tiles &tiles)
        : t(tiles), across(ceil_div(tiles.p.n, (int64_t)OUTPUTS)),
          each(ceil_div(ceil_div(tiles.p.k.most, (int64_t)DEPTH), tiles.parts) * DEPTH),
          count(tiles.p.groups.count ? tiles.p.groups.count : tiles.parts)
    {
    }

    // Tile i, not in front of the last that was asked for; false behind the last.
    __device__ bool find(int64_t i, struct gradient_place &here)
    {
        int64_t high, tiles;
        for (;; number++, before += tiles) {
            if (number == count) return false;
            here.of = part_of(t.p, number);
            high = ceil_div(here.of.rows, (int64_t)ROWS), tiles = across * high;
            if (i < before + tiles) break;
        }
        here.number = number;
        here.t0 = (i - before) % high * ROWS, here.n0 = (i - before) / high * OUTPUTS;
        if (t.p.groups.count) return true;
        here.of.k_begin = number * each, here.of.y = number * t.p.m.most * t.p.n;
        if (here.of.k_begin + each < here.of.k_end) here.of.k_end = here.of.k_begin + each;
        return true;
    }
};

#if CUDA_HOPPER

constexpr int TILE = DEPTH * TILE_COLUMNS; // numbers
constexpr int GIVEN = 40, TAKEN = 232;     // registers: 40 * 128 + 232 * 256 <= 65536

template <int OUTPUTS, bool TURNED>
__device__ static void fetch_panels(shared<bf16> stages, shared<uint64_t> full, shared<uint64_t> empty,
                                    const struct cuda_tile_map *x, const struct cuda_tile_map *w,
                                    gradient_tiles<OUTPUTS> plan)
{
    constexpr int PANEL = gradient_stage<OUTPUTS>::PANEL;
    const struct cuda_product &p = plan.t.p;
    ring<gradient_stage<OUTPUTS>::STAGES> at;
    struct gradient_place here;
    for (int64_t i = blockIdx.x; plan.find(i, here); i += gridDim.x) {
        // Where the matrix begins in the rows of x and w, and among them.
        const int64_t g = p.groups.count ? here.number : 0, x_row = here.of.x / p.x_stride + here.t0;
        const int64_t x_column = here.of.x % p.x_stride, w_column = TURNED ? g * p.groups.w_step : 0;
        const int64_t w_row = TURNED ? 0 : g * p.k.most;
        for (int64_t k = here.of.k_begin; k < here.of.k_end; k += DEPTH, at.next()) {
            const shared<bf16> to = stages + at.stage * PANEL;
            const shared<uint64_t> come = full + at.stage;
            barrier_wait(empty + at.stage, at.phase ^ 1);
            barrier_expect(come, PANEL * (int)sizeof(bf16));
            if constexpr (TURNED) {
                for (int m = 0; m < ROWS; m += TILE_COLUMNS)
                    copy_tile(to + m * DEPTH, x, x_column + here.t0 + m, k, come);
            } else {
                copy_tile(to, x, x_column + k, x_row, come);
            }
            for (int n = 0; n < OUTPUTS; n += TILE_COLUMNS)
                copy_tile(to + (ROWS + n) * DEPTH, w, w_column + here.n0 + n, w_row + k, come);
        }
    }
}

// The last panel's steps of k that are not there: zeros in all tiles whose rows they are, or, not turned, in the warpgroup's rows of x. Both
// warpgroups share what they read.
template <int OUTPUTS, bool TURNED> __device__ static void clear_behind(shared<bf16> x, int there, int group)
{
    const shared<vec<uint16_t, 8>> pieces = shared_as<vec<uint16_t, 8>>(x);
    const vec<uint16_t, 8> zeros = {};
    if constexpr (!TURNED)
        for (int i = (int)threadIdx.x % WARPGROUP; i < 64 * 8; i += WARPGROUP) {
            // Piece c of row r stands at place c ^ (r % 8); the piece that k ends in is cleared number by number.
            const int r = group * 64 + i / 8, c = i % 8, at = r * 8 + (c ^ r % 8);
            if (c < there / 8) continue;
            vec<uint16_t, 8> piece = pieces[at];
            for (int j = 0; j < 8; j++)
                if (c * 8 + j >= there) piece.x[j] = 0;
            pieces[at] = piece;
        }
    for (int i = (TURNED ? 0 : ROWS * 8) + (int)threadIdx.x - WARPGROUP; i < (ROWS + OUTPUTS) * 8;
         i += GROUPS * WARPGROUP)
        if (i / 8 % DEPTH >= there) pieces[i] = zeros;
    shared_written();
    sync_some<1, GROUPS * WARPGROUP>();
}

template <int OUTPUTS, bool TURNED>
__device__ static void multiply(float (&c)[OUTPUTS / 2], shared<bf16> x, shared<bf16> w, bool add)
{
#pragma unroll
    for (int k = 0; k < DEPTH; k += 16) {
        if constexpr (TURNED)
            wgmma<OUTPUTS>(c, tile_columns(x + k * TILE_COLUMNS, TILE * 2),
                           tile_columns(w + k * TILE_COLUMNS, TILE * 2), add || k);
        else
            wgmma<OUTPUTS>(c, tile_rows(x + k), tile_columns(w + k * TILE_COLUMNS, TILE * 2), add || k);
    }
}

// Rows row and row + 8 of the matrix, from `column` on.
template <int OUTPUTS>
__device__ static void write(const float (&c)[OUTPUTS / 2], const struct cuda_product &p,
                             const struct product_part &of, int64_t row, int64_t column)
{
    float *y = p.y + of.y;
    const float *base = has_base(p.base) ? p.base.from + of.y : NULL;
    const bool pairs =
        of.y_stride % 2 == 0 && p.n % 2 == 0 && (uintptr_t)y % 8 == 0 && (uintptr_t)base % 8 == 0;
#pragma unroll
    for (int i = 0; i < OUTPUTS / 2; i += 2) {
        const int64_t t = row + i / 2 % 2 * 8, o = column + i / 4 * 8, at = t * of.y_stride + o;
        if (t >= of.rows || o >= p.n) continue;
        vec<float, 2> two = {{c[i], c[i + 1]}};
        if (pairs) {
            if (base) {
                const vec<float, 2> more = load((const vec<float, 2> *)(base + at));
                two.x[0] += more.x[0], two.x[1] += more.x[1];
            }
            store((vec<float, 2> *)(y + at), two);
            continue;
        }
        for (int j = 0; j < 2 && o + j < p.n; j++)
            store(y + at + j, base ? load(base + at + j) + two.x[j] : two.x[j]);
    }
}

template <int OUTPUTS, bool TURNED>
__device__ static void multiply_panels(shared<bf16> stages, shared<uint64_t> full, shared<uint64_t> empty,
                                       gradient_tiles<OUTPUTS> plan)
{
    constexpr int PANEL = gradient_stage<OUTPUTS>::PANEL;
    const int group = (int)threadIdx.x / WARPGROUP - 1;
    const bool first = threadIdx.x % WARPGROUP == 0;
    ring<gradient_stage<OUTPUTS>::STAGES> at;
    struct gradient_place here;
    for (int64_t i = blockIdx.x; plan.find(i, here); i += gridDim.x) {
        float c[OUTPUTS / 2];
        const bool some = here.of.k_end > here.of.k_begin;
        if (!some) // an expert without rows
            for (int j = 0; j < OUTPUTS / 2; j++) c[j] = 0;
        bool add = false;
        int last = 0; // the stage in front, whose products may still be on their way
        for (int64_t k = here.of.k_begin; k < here.of.k_end; k += DEPTH, at.next()) {
            const shared<bf16> x = stages + at.stage * PANEL;
            barrier_wait(full + at.stage, at.phase);
            if (here.of.k_end - k < DEPTH) clear_behind<OUTPUTS, TURNED>(x, (int)(here.of.k_end - k), group);
            wgmma_begin();
            multiply<OUTPUTS, TURNED>(c, x + group * 64 * DEPTH, x + ROWS * DEPTH, add);
            wgmma_end();
            wgmma_wait<1>();
            if (add && first) barrier_arrive(empty + last);
            add = true, last = at.stage;
        }
        wgmma_wait<0>();
        if (some && first) barrier_arrive(empty + last);
        const int lane = lane_id(), warp = warp_id() % 4;
        write<OUTPUTS>(c, plan.t.p, here.of, here.t0 + group * 64 + warp * 16 + lane / 4,
                       here.n0 + lane % 4 * 2);
    }
}

#endif

template <int OUTPUTS, bool TURNED>
__global__ void __launch_bounds__(THREADS, 1)
    matmul_dw_wgmma_kernel(const __grid_constant__ struct cuda_tile_map x,
                           const __grid_constant__ struct cuda_tile_map w,
                           const __grid_constant__ struct cuda_tiles tiles)
{
#if CUDA_HOPPER
    constexpr int STAGES = gradient_stage<OUTPUTS>::STAGES;
    SHARED_TILES(char, memory);
    const shared<bf16> stages = shared_as<bf16>(memory);
    const shared<uint64_t> full = shared_as<uint64_t>(stages + STAGES * gradient_stage<OUTPUTS>::PANEL),
                           empty = full + STAGES;
    const gradient_tiles<OUTPUTS> plan(tiles);
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) barrier_init(full + i, 1), barrier_init(empty + i, GROUPS);
        barriers_made();
    }
    __syncthreads();
    if (threadIdx.x < WARPGROUP) {
        registers_give<GIVEN>();
        if (threadIdx.x == 0) fetch_panels<OUTPUTS, TURNED>(stages, full, empty, &x, &w, plan);
    } else {
        registers_take<TAKEN>();
        multiply_panels<OUTPUTS, TURNED>(stages, full, empty, plan);
    }
#endif
}

// Tiles of rows of all matrices together; of experts at most so many, each of which may have a tile that is not full.
static int64_t tiles_high(const struct cuda_tiles *t)
{
    const auto &groups = t->p.groups;
    const int64_t high = ceil_div(t->p.m.most, (int64_t)ROWS);
    if (!groups.count) return high * t->parts;
    return groups.first && !groups.over_k ? high + groups.count : high * groups.count;
}

template <int OUTPUTS, bool TURNED> static bool launch(struct cuda_stream *s, const struct cuda_tiles *t)
{
    const struct cuda_product *p = &t->p;
    struct cuda_tile_map x, w;
    const int64_t matrices = TURNED || !p->groups.count ? 1 : p->groups.count;
    if (!cuda_tile_map_make(&x, p->x, p->x_stride, TURNED ? p->k.most : p->m.most,
                            (size_t)p->x_stride * sizeof(bf16), TURNED ? DEPTH : ROWS) ||
        !cuda_tile_map_make(&w, p->w, p->w_stride, p->k.most * matrices, (size_t)p->w_stride * sizeof(bf16),
                            DEPTH))
        return false;
    const int64_t tiles = ceil_div(p->n, (int64_t)OUTPUTS) * tiles_high(t), processors = cuda_processors();
    CUDA_LAUNCH((matmul_dw_wgmma_kernel<OUTPUTS, TURNED>),
                dim3((unsigned)(tiles < processors ? tiles : processors)), THREADS,
                gradient_stage<OUTPUTS>::BYTES, s, x, w, *t);
    return true;
}

// Rounds of tiles on all processors, as in cuda/matmul_wgmma.cu.
static bool wide_wins(const struct cuda_tiles *t)
{
    const int64_t high = tiles_high(t), processors = cuda_processors();
    const int64_t narrow = ceil_div(high * ceil_div(t->p.n, (int64_t)128), processors);
    return 2 * ceil_div(high * ceil_div(t->p.n, (int64_t)256), processors) <= narrow + narrow / 8;
}

bool matmul_gradient_wgmma(struct cuda_stream *s, const struct cuda_tiles *t)
{
    TLM_ASSERT(t->p.x_type == DTYPE_BF16 && t->p.w_type == DTYPE_BF16);
    if (wide_wins(t)) return t->p.turned ? launch<256, true>(s, t) : launch<256, false>(s, t);
    return t->p.turned ? launch<128, true>(s, t) : launch<128, false>(s, t);
}

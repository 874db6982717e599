// cuda/matmul_mma.cu -- the product of many columns on tensor cores, bf16 or f16 in and f32 out: mma.sync m16n8k16.
//
// A block takes 128 rows of x and 128 outputs, eight warps 64 x 32 of them each. Panels of 32 steps of k come through a ring of three stages
// of shared memory by cp.async, two of them on their way while one is multiplied. The rows of a panel are 64 bytes: 16-byte piece c of
// row r stands at place c ^ (r / 2 % 4) of the row, so that the eight rows which ldmatrix reads at once lie in different banks.
//
// Gradients have weights of which k is the row (nn): a panel of them is 32 rows of 256 bytes, piece c of row r at place c ^ (r % 8), and
// ldmatrix turns the fragments round. Those of weights have an x like that, too (turned). Where a product has few outputs and a long k,
// that is cut into parts (blockIdx.z); of products of several matrices blockIdx.z is the matrix, whose rows, or steps of k, may begin
// anywhere: they are rows of memory.
#include "cuda/groups.h"
#include "cuda/products.h"

enum { ROWS = 128, OUTPUTS = 128, DEPTH = 32, STAGES = 3, THREADS = 256 };
enum { WARP_ROWS = 64, WARP_OUTPUTS = 32, TILES_M = WARP_ROWS / 16, TILES_N = WARP_OUTPUTS / 8 };
enum {
    PANEL = 128 * DEPTH,
    PIECES = DEPTH / 8,
    WIDE_PIECES = OUTPUTS / 8
}; // numbers of a panel; pieces of 16 bytes a row

// Where piece c of row r of a panel stands, in numbers.
__device__ static int piece_at(int row, int c)
{
    return row * DEPTH + (c ^ (row / 2 % 4)) * 8;
}

__device__ static int wide_piece_at(int row, int c)
{
    return row * OUTPUTS + (c ^ row % 8) * 8;
}

// Issues the copies of rows first .. first + 128 of `from` (count, k), columns k0 .. k0 + DEPTH; what is not there becomes zero.
template <class T>
__device__ static void fetch(shared<T> panel, const T *from, size_t stride, int64_t first, int64_t count,
                             int64_t k0, int64_t k)
{
    for (int i = (int)threadIdx.x; i < 128 * PIECES; i += THREADS) {
        const int row = i / PIECES, c = i % PIECES;
        const bool there = first + row < count && k0 + c * 8 < k;
        const T *piece = there ? from + (size_t)(first + row) * stride + k0 + c * 8 : from;
        copy_async16(panel + piece_at(row, c), piece, there);
    }
}

// The same of rows k0 .. k0 + DEPTH of `from` (k, count), columns first .. first + OUTPUTS.
template <class T>
__device__ static void fetch_wide(shared<T> panel, const T *from, size_t stride, int64_t first, int64_t count,
                                  int64_t k0, int64_t k)
{
    for (int i = (int)threadIdx.x; i < (int)DEPTH * (int)WIDE_PIECES; i += THREADS) {
        const int row = i / WIDE_PIECES, c = i % WIDE_PIECES;
        const bool there = k0 + row < k && first + c * 8 < count;
        const T *piece = there ? from + (size_t)(k0 + row) * stride + first + c * 8 : from;
        copy_async16(panel + wide_piece_at(row, c), piece, there);
    }
}

enum form { NT, NN, TURNED };

// Multiplies the warp's part of two panels.
template <class T, form FORM>
__device__ static void multiply(float (&c)[TILES_M][TILES_N][4], shared<T> x, shared<T> w)
{
    const int lane = lane_id(), m0 = warp_id() / 4 * WARP_ROWS, n0 = warp_id() % 4 * WARP_OUTPUTS;
    for (int step = 0; step < DEPTH / 16; step++) {
        uint32_t a[TILES_M][4], b[TILES_N][2];
        // Matrices of an A fragment: rows 0-7 and 8-15 of the first eight steps of k, then of the next eight.
        for (int m = 0; m < TILES_M; m++) {
            if constexpr (FORM == TURNED)
                ldmatrix_transposed(a[m], x + wide_piece_at(step * 16 + lane / 16 * 8 + lane % 8,
                                                            m0 / 8 + m * 2 + lane / 8 % 2));
            else
                ldmatrix(a[m], x + piece_at(m0 + m * 16 + lane % 16, step * 2 + lane / 16));
        }
        // Two B fragments at once: outputs 0-7 of both halves of k, then outputs 8-15.
        for (int n = 0; n < TILES_N; n += 2) {
            uint32_t both[4];
            if constexpr (FORM != NT)
                ldmatrix_transposed(both, w + wide_piece_at(step * 16 + lane % 16, n0 / 8 + n + lane / 16));
            else
                ldmatrix(both, w + piece_at(n0 + n * 8 + lane / 16 * 8 + lane % 8, step * 2 + lane / 8 % 2));
            b[n][0] = both[0], b[n][1] = both[1], b[n + 1][0] = both[2], b[n + 1][1] = both[3];
        }
        for (int m = 0; m < TILES_M; m++)
            for (int n = 0; n < TILES_N; n++) mma(c[m][n], a[m], b[n], T());
    }
}

// The steps of k of a part: from k0 on, below k.
struct part {
    int64_t k0, k;
};

// The tile of rows t0 .. of a matrix; y and base are those of the part.
template <class T, form FORM>
__device__ static void multiply_tile(const struct cuda_tiles &tiles, const struct group &group,
                                     const struct part &part, int64_t t0, float *y, const float *base,
                                     shared<T> panels)
{
    const struct cuda_product &p = tiles.p;
    const int64_t n0 = (int64_t)blockIdx.x * OUTPUTS, k0 = part.k0, k = part.k;
    const int64_t a_pass = k > k0 ? ceil_div(k - k0, (int64_t)DEPTH) : 0, steps = a_pass * tiles.passes;
    const T *x = (const T *)p.x + group.x, *w = (const T *)(const void *)group.codes;
    int64_t at = k0; // of the next panels
    float c[TILES_M][TILES_N][4] = {};
    for (int64_t i = 0; i < steps + STAGES - 1; i++) {
        if (i < steps) {
            const shared<T> stage = panels + i % STAGES * 2 * PANEL;
            if constexpr (FORM == TURNED)
                fetch_wide(stage, x, (size_t)p.x_stride, t0, group.rows, at, k);
            else
                fetch(stage, x, (size_t)p.x_stride, t0, group.rows, at, k);
            if constexpr (FORM != NT)
                fetch_wide(stage + PANEL, w, (size_t)p.w_stride, n0, p.n, at, k);
            else
                fetch(stage + PANEL, w, (size_t)p.w_stride, n0, p.n, at, k);
            if ((at += DEPTH) >= k) at = k0, x += p.x_stride / tiles.passes; // the next pass
        }
        copy_async_commit();
        if (i < STAGES - 1) continue;
        copy_async_wait<STAGES - 1>();
        __syncthreads();
        const shared<T> stage = panels + (i - (STAGES - 1)) % STAGES * 2 * PANEL;
        multiply<T, FORM>(c, stage, stage + PANEL);
        __syncthreads();
    }
    const int64_t row = t0 + warp_id() / 4 * WARP_ROWS + lane_id() / 4;
    const int64_t column = n0 + warp_id() % 4 * WARP_OUTPUTS + lane_id() % 4 * 2;
#pragma unroll // c is registers
    for (int m = 0; m < TILES_M; m++)
#pragma unroll
        for (int n = 0; n < TILES_N; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int64_t t = row + m * 16 + i / 2 * 8, o = column + n * 8 + i % 2;
                if (t >= group.rows || o >= p.n) continue;
                const int64_t at = t * group.y_stride + o;
                const float unit = tiles.scale ? load(tiles.scale + group.first + t) : 1;
                float sum = unit * c[m][n][i];
                if (FORM == NT && tiles.bias) sum += load(tiles.bias + o);
                store(y + at, base ? load(base + at) + sum : sum);
            }
}

template <class T, form FORM>
__global__ void __launch_bounds__(THREADS) matmul_mma_kernel(struct cuda_tiles tiles)
{
    SHARED_DYNAMIC(char, memory);
    const shared<T> panels = shared_as<T>(memory);
    const struct cuda_product &p = tiles.p;
    const int64_t each = ceil_div(ceil_div(p.k.most, (int64_t)DEPTH), tiles.parts) * DEPTH,
                  all = row_count(p.k);
    struct part part = {0, all};
    struct group group = {};
    float *y = p.y;
    const float *base = has_base(p.base) ? p.base.from : NULL;
    if (p.groups.count) { // of gradients
        const struct product_part q = part_of(p, blockIdx.z);
        part = {q.k_begin, q.k_end};
        group.codes = (const uint8_t *)((const T *)p.w + q.w), group.x = q.x, group.rows = q.rows;
        group.y_stride = q.y_stride, y += q.y;
        if (base) base += q.y;
    } else if (tiles.groups.count) {
        struct cuda_matrix w = {};
        w.codes = p.w, w.code_stride = (size_t)p.w_stride * sizeof(T), w.outputs = p.n, w.inputs = p.k.most;
        group = group_of(w, p.m, tiles.groups);
        if (tiles.groups.first) group.x = group.first * p.x_stride, group.y = group.first * tiles.y_stride;
        group.y_stride = tiles.y_stride, y += group.y;
    } else {
        group.codes = (const uint8_t *)p.w, group.rows = row_count(p.m), group.y_stride = tiles.y_stride;
        part.k0 = blockIdx.z * each, part.k = part.k0 + each < all ? part.k0 + each : all;
        y += blockIdx.z * p.m.most * p.n;
    }
    for (int64_t t0 = (int64_t)blockIdx.y * ROWS; t0 < group.rows; t0 += (int64_t)gridDim.y * ROWS)
        multiply_tile<T, FORM>(tiles, group, part, t0, y, base, panels);
}

// The parts in order.
static __global__ void add_parts_kernel(struct cuda_product p, int64_t parts)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= row_count(p.m) * p.n) return;
    float sum = has_base(p.base) ? load(p.base.from + i) : 0;
    for (int64_t part = 0; part < parts; part++) sum += load(p.parts + part * p.m.most * p.n + i);
    store(p.y + i, sum);
}

template <class T, form FORM> static void launch(struct cuda_stream *s, const struct cuda_tiles *t)
{
    const struct cuda_product *p = &t->p;
    const auto &own = p->groups;
    const struct cuda_groups groups =
        own.count ? cuda_groups{own.count, own.over_k ? NULL : own.first} : t->groups;
    const dim3 grid((unsigned)ceil_div(p->n, (int64_t)OUTPUTS), tiles_for(p->m, groups, ROWS),
                    (unsigned)(groups.count ? groups.count : t->parts));
    CUDA_LAUNCH((matmul_mma_kernel<T, FORM>), grid, THREADS, STAGES * 2 * PANEL * sizeof(T), s, *t);
}

void matmul_tiles(struct cuda_stream *s, const struct cuda_tiles *t)
{
    TLM_ASSERT(t->p.x_type == t->p.w_type);
    if (matmul_wgmma(s, t, false)) return;
    if (t->p.w_type == DTYPE_F16)
        launch<f16, NT>(s, t);
    else
        launch<bf16, NT>(s, t);
}

void matmul_mma(struct cuda_stream *s, float *y, const bf16 *x, const struct cuda_matrix *w,
                struct cuda_rows rows, struct cuda_groups groups, struct cuda_addends addends)
{
    struct cuda_tiles t = {};
    const int64_t heads = groups.first ? 1 : groups.count;
    t.p.y = y, t.p.x = x, t.p.w = w->codes;
    t.p.x_type = t.p.w_type = DTYPE_BF16;
    t.p.x_stride = heads * w->inputs, t.p.w_stride = (int64_t)(w->code_stride / sizeof(bf16));
    t.p.m = rows, t.p.k = {NULL, w->inputs}, t.p.n = w->outputs;
    t.y_stride = heads * w->outputs, t.groups = groups, t.parts = t.passes = 1;
    t.p.base.from = addends.base, t.bias = addends.bias;
    matmul_tiles(s, &t);
}

void matmul_mma_nn(struct cuda_stream *s, const struct cuda_product *p)
{
    const int64_t parts = p->groups.count ? 1 : cuda_product_parts(DTYPE_BF16, p->m.most, p->n, p->k.most);
    struct cuda_tiles t = {};
    t.p = *p, t.y_stride = p->n, t.parts = parts, t.passes = 1;
    if (parts > 1) t.p.y = p->parts, t.p.base = {NULL, NULL};
    if (p->turned || p->groups.count) {
        if (!matmul_gradient_wgmma(s, &t)) p->turned ? launch<bf16, TURNED>(s, &t) : launch<bf16, NN>(s, &t);
    } else if (!matmul_wgmma(s, &t, true)) {
        launch<bf16, NN>(s, &t);
    }
    if (parts > 1)
        CUDA_LAUNCH(add_parts_kernel, blocks_for(p->m.most * p->n, THREADS), THREADS, 0, s, *p, parts);
}

// ops/matmul_tile.h -- the loops that the AVX2 and AVX-512 matrix multiplications share.
//
// Weights stay where they are, row-major in the mapped file; no layout is made at load. A vector holds one
// step of k of LANES neighbouring rows, so an output is one lane and its sum ONE chain over k from zero,
// whatever the number of columns, rows or threads. Partial sums pass through y in f32, which is exact, so k
// can be cut anywhere.
//
//   stream  few columns: 16 rows at a time, transposed in registers and used at once; bound by memory.
//   panel   many columns: 64 rows x DEPTH steps are transposed once into scratch as [tile][step][row],
//           which stays in L2, then multiplied by all columns in register tiles of VECS vectors x 6
//           columns: VECS loads and 6 broadcasts for 6 VECS multiply-adds a step, nothing else.
//
// A step is one dword of x: one f32, or a pair of bf16 where a dot instruction takes pairs. Rows at the edge
// are never padded: the last group moves back over rows that are there and stores only its own outputs.
//
// The file that includes this one defines before:
//   LANES, VECS, STREAM_COLS    lanes of a vector, vectors of a tile, most columns of the stream form
//   vec, vec_load, vec_store, vec_broadcast
//   dot, dot_x                  acc += w * x, asm, so that gcc 12 keeps 24 accumulators in registers
//   block, block_step           BLOCK bytes of LANES rows, transposed; step s of them
//   block_load, block_load_part read whole blocks, or fewer bytes and then zeros
#ifndef OPS_MATMUL_TILE_H
#define OPS_MATMUL_TILE_H

enum {
    GROUP = 16, // rows of the stream form
    GROUP_VECS = GROUP / LANES,
    PANEL = 64,          // rows of the panel form
    TILE = LANES * VECS, // rows of a register tile
    TILE_COLS = 6,
    DEPTH = 1024,      // steps of a panel: 256 KiB of scratch, a quarter of Zen 4's L2
    BLOCK = LANES * 4, // bytes of each row that one transposition takes
    LINE = 64,
    PIECE = 4096, // bytes of each row that the stream form uses before it turns to the next piece
    X_SKEW = 192, // see stream_copy_x
};

_Static_assert(MATMUL_SCRATCH >= PANEL * DEPTH * 4, "a panel fits");

// The sums before the first step, read as those of later steps are: a branch made clang 14 keep the sums in
// memory.
static const float zeros[TILE] __attribute__((aligned(64)));

static inline ALWAYS int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline ALWAYS size_t weight_bytes(enum weights kind)
{
    return kind == WEIGHTS_F32 ? 4 : 2;
}

static inline ALWAYS size_t x_bytes(enum weights kind)
{
    return kind == WEIGHTS_PAIRS ? 2 : 4;
}

// Steps that a block of each row becomes.
static inline ALWAYS int block_steps(enum weights kind)
{
    return kind == WEIGHTS_F32 || kind == WEIGHTS_PAIRS ? LANES : 2 * LANES;
}

// ---- prefetch -----------------------------------------------------------------------------------------

// What comes next, fetched into L2 while what came before is used: the rows of a group read side by side are
// too many streams for the hardware, and a stride of a power of two puts them all into one set of L1. Four
// streams, each a quarter of the rows in the order of memory, were fastest: a fifth faster than a plain
// reading loop, one stream or 16 are not.
struct sweep {
    const char *line, *end; // of the first stream: runs of `run` bytes, `stride` apart
    size_t run, stride;
    size_t quarter; // bytes from stream to stream
};

enum { STREAMS = 4 };

// `bytes` bytes of each of `rows` rows.
static inline ALWAYS struct sweep sweep_rows(const char *first, int rows, size_t bytes, size_t stride)
{
    return (struct sweep){first, first + bytes, bytes, stride, stride * (size_t)(rows / STREAMS)};
}

// One line of each stream.
static inline ALWAYS void sweep_line(struct sweep *s)
{
    EACH (q, STREAMS, 1) __builtin_prefetch(s->line + (size_t)q * s->quarter, 0, 2);
    s->line += LINE;
    if (s->line >= s->end) {
        s->end += s->stride;
        s->line = s->end - s->run;
    }
}

// ---- stream: few columns ------------------------------------------------------------------------------

// One piece of one group for `cols` columns: y (+)= `lines` lines of each row of w times x, in `vecs` vectors
// of rows. A line is used up before the next row's, since sixteen rows may share one set of L1.
static inline ALWAYS void stream_piece(enum weights kind, int cols, int vecs, float *y, size_t y_stride,
                                       const char *x, size_t x_stride, const char *w, size_t w_stride,
                                       int64_t lines, bool first, struct sweep *ahead)
{
    vec acc[GROUP_VECS][STREAM_COLS];
    const float *sums = first ? zeros : y;
    const size_t sums_stride = first ? 0 : y_stride;
    EACH (g, vecs, 1)
        EACH (t, cols, 1) acc[g][t] = vec_load(sums + (size_t)t * sums_stride + g * LANES);
    const int steps = block_steps(kind), pause = steps / (LANES * BLOCK / (STREAMS * LINE));
    for (; lines > 0; lines--, w += LINE, x += LINE / BLOCK * steps * 4) {
        EACH (g, vecs, 1) {
            EACH (b, LINE / BLOCK, 1) {
                block c[LANES];
                block_load(kind, c, w + (size_t)(g * LANES) * w_stride + b * BLOCK, w_stride);
                const char *column[STREAM_COLS] = {x + b * steps * 4};
                EACH (t, cols - 1, 1) column[t + 1] = opaque(column[t] + x_stride);
                EACH (s, steps, 1) {
                    if (s % pause == 0) sweep_line(ahead); // spread out: all at once they hold up the loads
                    const vec v = block_step(kind, c, s);
                    EACH (t, cols, 1) dot_x(&acc[g][t], v, column[t] + s * 4);
                }
            }
        }
    }
    EACH (g, vecs, 1)
        EACH (t, cols, 1) vec_store(y + (size_t)t * y_stride + g * LANES, acc[g][t]);
}

// Less than a block: `bytes` bytes of each row.
static inline ALWAYS void stream_part(enum weights kind, int64_t cols, float *y, size_t y_stride,
                                      const char *x, size_t x_stride, const char *w, size_t w_stride,
                                      size_t bytes, bool first)
{
    const size_t count = bytes / weight_bytes(kind);
    const int steps = (int)((count * x_bytes(kind) + 3) / 4);
    for (int g = 0; g < GROUP_VECS; g++) {
        block c[LANES];
        float unpacked[2 * LANES * LANES] __attribute__((aligned(64)));
        block_load_part(kind, c, w + (size_t)(g * LANES) * w_stride, w_stride, bytes);
        EACH (s, block_steps(kind), 1) vec_store(unpacked + s * LANES, block_step(kind, c, s));
        for (int64_t t = 0; t < cols; t++) {
            float xs[2 * LANES] = {0}; // the last of an odd number of bf16 pairs with zero
            memcpy(xs, x + (size_t)t * x_stride, count * x_bytes(kind));
            float *yt = y + (size_t)t * y_stride + g * LANES;
            vec acc = vec_load(first ? zeros : yt);
            for (int s = 0; s < steps; s++)
                dot_x(&acc, vec_load(unpacked + s * LANES), (const char *)(xs + s));
            vec_store(yt, acc);
        }
    }
}

// One group of rows, `bytes` bytes of each.
static inline ALWAYS void stream_group(enum weights kind, int64_t cols, float *y, size_t y_stride,
                                       const char *x, size_t x_stride, const char *w, size_t w_stride,
                                       size_t bytes, bool first)
{
    const size_t x_of_w = x_bytes(kind) / weight_bytes(kind) > 1 ? x_bytes(kind) / weight_bytes(kind) : 1;
    // With rows a multiple of a line apart, a short first part lets every block be whole lines.
    size_t head = w_stride % LINE == 0 ? -(uintptr_t)w % LINE : 0, done = 0;
    if (head % 4 != 0 || head > bytes) head = 0;
    while (done < bytes) {
        const char *xk = x + done * x_of_w, *wk = w + done;
        const bool zero = first && done == 0;
        size_t piece = done < head ? head - done : bytes - done < PIECE ? bytes - done : PIECE;
        if (piece < LINE) {
            piece = piece < BLOCK ? piece : BLOCK;
            stream_part(kind, cols, y, y_stride, xk, x_stride, wk, w_stride, piece, zero);
            done += piece;
            continue;
        }
        const int64_t lines = (int64_t)(piece / LINE);
        done += (size_t)lines * LINE;
        const bool more = bytes - done >= LINE;
        struct sweep ahead = sweep_rows(more ? w + done : w + GROUP * w_stride, GROUP, PIECE, w_stride);
        if (w_stride <= PIECE)
            ahead.run = ahead.quarter, ahead.end = ahead.line + ahead.run; // rows side by side
        if (cols == 1) { // all vectors at once, whose chains overlap
            stream_piece(kind, 1, GROUP_VECS, y, y_stride, xk, x_stride, wk, w_stride, lines, zero, &ahead);
            continue;
        }
        for (int g = 0; g < GROUP; g += LANES) {
            const char *wg = wk + (size_t)g * w_stride;
            switch (cols) {
#define STREAM_CASE(n) \
    case n: stream_piece(kind, n, 1, y + g, y_stride, xk, x_stride, wg, w_stride, lines, zero, &ahead); break;
                STREAM_CASES
#undef STREAM_CASE
            }
        }
    }
}

// Rows of x copied into scratch `stride` bytes apart: not a multiple of 4 KiB, so that they lie in different
// sets of L1, which the rows of weights leave no room in.
static inline ALWAYS void stream_copy_x(char *copy, size_t stride, const char *x, size_t x_stride,
                                        int64_t cols, size_t bytes)
{
    for (int64_t t = 0; t < cols; t++) memcpy(copy + (size_t)t * stride, x + (size_t)t * x_stride, bytes);
}

static inline ALWAYS void stream_columns(const struct matmul_args *a, enum weights kind, int64_t t,
                                         int64_t cols, int64_t k, int64_t count)
{
    const char *x = (const char *)a->x + ((size_t)t * a->x_stride + (size_t)k) * x_bytes(kind);
    size_t x_stride = a->x_stride * x_bytes(kind);
    if (cols > 1) {
        const size_t bytes = (size_t)count * x_bytes(kind), apart = (bytes + 4095) / 4096 * 4096 + X_SKEW;
        stream_copy_x(a->scratch, apart, x, x_stride, cols, bytes);
        x = a->scratch, x_stride = apart;
    }
    float *y = (float *)a->y + (size_t)t * a->y_stride;
    const char *w = (const char *)a->w + (size_t)k * weight_bytes(kind);
    const bool few = a->n_end < GROUP;
    for (int64_t n = a->n_begin; n < a->n_end; n += few ? 1 : GROUP) {
        // At the edge: the last 16 rows there are, or, in a matrix of fewer, one row in all lanes.
        const bool whole = n + GROUP <= a->n_end;
        const int64_t begin = whole || few ? n : a->n_end - GROUP, own = few ? 1 : a->n_end - n;
        float edge[STREAM_COLS * GROUP] = {0};
        for (int64_t c = 0; !whole && c < cols; c++)
            memcpy(edge + c * GROUP + (n - begin), y + (size_t)c * a->y_stride + n, (size_t)own * sizeof *y);
        stream_group(kind, cols, whole ? y + n : edge, whole ? a->y_stride : GROUP, x, x_stride,
                     w + (size_t)begin * a->w_stride, few ? 0 : a->w_stride,
                     (size_t)count * weight_bytes(kind), k == 0);
        for (int64_t c = 0; !whole && c < cols; c++)
            memcpy(y + (size_t)c * a->y_stride + n, edge + c * GROUP + (n - begin), (size_t)own * sizeof *y);
    }
}

static inline ALWAYS void stream_rows(const struct matmul_args *a, enum weights kind)
{
    for (int64_t t = 0; t < a->t_count; t += STREAM_COLS) {
        const int64_t cols = min_i64(a->t_count - t, STREAM_COLS);
        // As much of k as the copy of x has room for.
        const int64_t room =
            cols == 1 ? a->k_count : (MATMUL_SCRATCH / cols - X_SKEW) / 4096 * 4096 / (int64_t)x_bytes(kind);
        for (int64_t k = 0; k < a->k_count; k += room)
            stream_columns(a, kind, t, cols, k, min_i64(a->k_count - k, room));
    }
}

// ---- panel: many columns ------------------------------------------------------------------------------

// What a register tile reads and writes besides its columns.
struct tile_job {
    const float *panel; // [steps][TILE] dwords
    int64_t steps;
    size_t x_stride, y_stride; // bytes, elements
    bool first;
    int lines; // lines a stream to prefetch every 16 steps
    struct sweep ahead;
};

static inline ALWAYS void tile_run(int cols, float *y, const char *x, struct tile_job *job)
{
    vec acc[VECS][TILE_COLS];
    const float *w = job->panel;
    const size_t x_stride = job->x_stride;
    const char *x3 = x + 3 * x_stride;
    const float *sums = job->first ? zeros : y;
    const size_t sums_stride = job->first ? 0 : job->y_stride;
    EACH (t, cols, 1)
        EACH (i, VECS, 1) acc[i][t] = vec_load(sums + (size_t)t * sums_stride + i * LANES);
    for (int64_t left = job->steps; left > 0; left -= 16) {
        for (int i = 0; i < job->lines; i++) sweep_line(&job->ahead);
        for (int s = left < 16 ? (int)left : 16; s > 0; s--, w += TILE, x += 4, x3 += 4) {
            vec v[VECS];
            EACH (i, VECS, 1) v[i] = vec_load(w + i * LANES);
            EACH (t, cols, 1) {
                vec b = vec_broadcast((t < 3 ? x : x3) + (size_t)(t % 3) * x_stride);
                EACH (i, VECS, 1) dot(&acc[i][t], v[i], b);
            }
        }
    }
    EACH (t, cols, 1)
        EACH (i, VECS, 1) vec_store(y + (size_t)t * job->y_stride + i * LANES, acc[i][t]);
}

static UNCHECKED __attribute__((noinline)) void tile_steps(int64_t cols, float *y, const char *x,
                                                           struct tile_job *job)
{
    switch (cols) {
    case 1: tile_run(1, y, x, job); break;
    case 2: tile_run(2, y, x, job); break;
    case 3: tile_run(3, y, x, job); break;
    case 4: tile_run(4, y, x, job); break;
    case 5: tile_run(5, y, x, job); break;
    default: tile_run(6, y, x, job); break;
    }
}

// Transposes `count` weights of each of `rows` rows into scratch.
static inline ALWAYS void panel_unpack(enum weights kind, float *panel, const char *w, size_t w_stride,
                                       int64_t rows, int64_t count)
{
    const int steps = block_steps(kind);
    for (int64_t r = 0; r < rows; r += LANES) {
        float *out = panel + r / TILE * (DEPTH * TILE) + r % TILE;
        const char *p = w + (size_t)r * w_stride, *end = p + (size_t)count * weight_bytes(kind);
        for (; p < end; p += BLOCK, out += steps * TILE) {
            block c[LANES];
            if (end - p >= BLOCK)
                block_load(kind, c, p, w_stride);
            else
                block_load_part(kind, c, p, w_stride, (size_t)(end - p));
            EACH (s, steps, 1) vec_store(out + s * TILE, block_step(kind, c, s));
        }
    }
}

// One tile: `steps` pairs or singles, and an odd last weight that lacks its partner, whose x must not be read
// as a pair.
static UNCHECKED void tile_columns(int64_t cols, float *y, const char *x, struct tile_job *job, bool odd)
{
    if (job->steps > 0) tile_steps(cols, y, x, job);
    if (!odd) return;
    uint32_t last[TILE_COLS] = {0};
    for (int64_t t = 0; t < cols; t++)
        memcpy(&last[t], x + (size_t)t * job->x_stride + (size_t)job->steps * 4, sizeof(uint16_t));
    struct tile_job one = {.panel = job->panel + job->steps * TILE,
                           .steps = 1,
                           .x_stride = 4,
                           .y_stride = job->y_stride,
                           .first = job->first && job->steps == 0};
    tile_steps(cols, y, (const char *)last, &one);
}

// A tile whose first `cut` rows are not ours: y points at the row `cut`.
static UNCHECKED void tile_edge(int64_t cols, int cut, float *y, size_t y_stride, const char *x,
                                struct tile_job *job, bool odd)
{
    float edge[TILE_COLS * TILE] = {0};
    const size_t own = (size_t)(TILE - cut) * sizeof *y;
    for (int64_t t = 0; t < cols && !job->first; t++)
        memcpy(edge + t * TILE + cut, y + (size_t)t * y_stride, own);
    job->y_stride = TILE;
    tile_columns(cols, edge, x, job, odd);
    for (int64_t t = 0; t < cols; t++) memcpy(y + (size_t)t * y_stride, edge + t * TILE + cut, own);
}

// The panel of `rows` rows in scratch times all columns; its rows skip, skip + 1 ... are the outputs y[0],
// y[1] ...
static UNCHECKED void panel_multiply(const struct matmul_args *a, struct tile_job *job, float *y,
                                     int64_t rows, int64_t skip, const char *x, bool odd)
{
    int64_t t = 0;
    for (int64_t tiles = (a->t_count + TILE_COLS - 1) / TILE_COLS; tiles > 0; tiles--) {
        const int64_t cols = (a->t_count - t + tiles - 1) / tiles; // as even as can be
        const char *xt = x + (size_t)t * job->x_stride;
        float *yt = y + (size_t)t * a->y_stride;
        for (int64_t r = 0; r < rows; r += TILE) {
            job->panel = (const float *)a->scratch + r * DEPTH;
            job->y_stride = a->y_stride;
            if (skip == 0)
                tile_columns(cols, yt + r, xt, job, odd);
            else
                tile_edge(cols, (int)skip, yt, a->y_stride, xt, job, odd);
        }
        t += cols;
    }
}

static inline ALWAYS void panel_rows(const struct matmul_args *a, enum weights kind)
{
    const int64_t depth = kind == WEIGHTS_PAIRS ? 2 * DEPTH : DEPTH, per_step = depth / DEPTH;
    const size_t bytes = weight_bytes(kind);
    const int64_t columns = (a->t_count + TILE_COLS - 1) / TILE_COLS;
    struct tile_job job = {.x_stride = a->x_stride * x_bytes(kind)};
    for (int64_t n = a->n_begin, rows; n < a->n_end; n += rows) {
        // Whole tiles; what is left over is the end of a tile that begins with rows done before.
        rows = min_i64(a->n_end - n, PANEL) / TILE * TILE;
        const int64_t skip = rows > 0 ? 0 : TILE - (a->n_end - n);
        if (rows == 0) rows = TILE;
        const char *w = (const char *)a->w + (size_t)(n - skip) * a->w_stride;
        for (int64_t k = 0; k < a->k_count; k += depth) {
            const int64_t count = min_i64(a->k_count - k, depth);
            panel_unpack(kind, a->scratch, w + (size_t)k * bytes, a->w_stride, rows, count);
            job.first = k == 0;
            job.steps = count / per_step;
            // The next weights are those below in k, or the first of the next panel.
            const int64_t next = k + count < a->k_count ? k + count : 0;
            const size_t run = (size_t)min_i64(a->k_count - next, depth) * bytes;
            const char *ahead = w + (next ? 0 : (size_t)rows * a->w_stride) + (size_t)next * bytes;
            job.ahead = sweep_rows(ahead, (int)rows, run, a->w_stride);
            const int64_t lines = rows / STREAMS * (int64_t)((run + LINE - 1) / LINE);
            const int64_t turns = columns * (rows / TILE) * (job.steps / 16 + 1);
            job.lines = (int)((lines + turns - 1) / turns);
            panel_multiply(a, &job, (float *)a->y + n, rows, skip,
                           (const char *)a->x + (size_t)k * x_bytes(kind), count % per_step != 0);
        }
    }
}

static inline ALWAYS void matmul_rows(const struct matmul_args *a, enum weights kind)
{
    if (a->t_count <= STREAM_COLS || a->n_end < TILE)
        stream_rows(a, kind);
    else
        panel_rows(a, kind);
}

#endif

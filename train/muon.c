// train/muon.c -- Newton's and Schulz's iterations by all threads, in tiles.
//
// Of a matrix that is taller than wide the transpose is worked on, so that S has the smaller side. S and S S are symmetric to the
// bit, as each number is one chain of the same products: tiles above the diagonal are copies of those below, which saves a third
// of the work on a square matrix.
#include "train/muon.h"

#include <math.h>
#include <string.h>

enum { TILE = 192 }; // rows and columns, a multiple of the kernels' units
static const double coefficient_a = 3.4445, coefficient_b = -4.7750, coefficient_c = 2.0315;

// ---- room -----------------------------------------------------------------------------------------------------

bool muon_takes(const struct parameter *p)
{
    return p->role == ROLE_MATRIX && p->rows > 1 && p->cols > 1 && strcmp(p->name, "output.weight");
}

static inline int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

// The largest number of numbers, of the smaller side, and of rows.
struct extent_max {
    int64_t numbers, side, rows;
};

static struct extent_max extent_of(const struct parameters *p)
{
    struct extent_max e = {0};
    for (int64_t i = 0; i < p->count; i++) {
        const struct parameter *item = &p->item[i];
        if (!muon_takes(item)) continue;
        e.numbers = larger(e.numbers, item->rows * item->cols);
        e.side = larger(e.side, smaller(item->rows, item->cols));
        e.rows = larger(e.rows, item->rows);
    }
    return e;
}

size_t muon_bytes(const struct parameters *p, int threads)
{
    struct extent_max e = extent_of(p);
    return 2 * align_up((size_t)e.numbers * sizeof(float), ARENA_ALIGN) +
           2 * align_up((size_t)(e.side * e.side) * sizeof(float), ARENA_ALIGN) +
           align_up((size_t)e.rows * sizeof(double), ARENA_ALIGN) + (size_t)threads * MATMUL_SCRATCH;
}

struct muon muon_make(struct arena *a, const struct parameters *p, const struct kernels *kernels,
                      struct threads *threads)
{
    struct extent_max e = extent_of(p);
    size_t matrix = (size_t)e.numbers * sizeof(float), square = (size_t)(e.side * e.side) * sizeof(float);
    TLM_ASSERT(kernels->matmul[DTYPE_F32].scratch <= MATMUL_SCRATCH &&
               kernels->matmul_nn[DTYPE_F32].scratch <= MATMUL_SCRATCH);
    return (struct muon){.x = arena_alloc(a, matrix),
                         .y = arena_alloc(a, matrix),
                         .square = arena_alloc(a, square),
                         .second = arena_alloc(a, square),
                         .squares = arena_alloc(a, (size_t)e.rows * sizeof(double)),
                         .scratch = arena_alloc(a, (size_t)threads_count(threads) * MATMUL_SCRATCH),
                         .kernels = kernels,
                         .threads = threads};
}

// ---- the work of one thread -----------------------------------------------------------------------------------

struct job {
    const struct muon *muon;
    const struct muon_update *update;
    float *value, *momentum; // of the matrix under way: a parameter may be a stack of them
    const float *gradient;
    int64_t rows, cols; // of it
    int64_t r, c;       // of X
    bool tall;
};

// Part `thread` of n things.
static void share(const struct job *j, int thread, int64_t n, int64_t *begin, int64_t *end)
{
    int64_t threads = threads_count(j->muon->threads);
    *begin = n * thread / threads, *end = n * (thread + 1) / threads;
}

// Momentum and u, row by row; u goes into y.
static void take_gradient(const struct job *j, int thread)
{
    const struct muon_update *u = j->update;
    float slow = (float)(1 - (double)u->beta);
    int64_t begin, end;
    share(j, thread, j->rows, &begin, &end);
    for (int64_t row = begin; row < end; row++) {
        const float *g = j->gradient + row * j->cols;
        float *m = j->momentum + row * j->cols, *out = j->muon->y + row * j->cols;
        for (int64_t i = 0; i < j->cols; i++) {
            float scaled = g[i] * u->factor;
            m[i] += slow * (scaled - m[i]);
            out[i] = u->nesterov ? scaled + u->beta * (m[i] - scaled) : m[i];
        }
        j->muon->squares[row] = j->muon->kernels->sum_squares(out, j->cols);
    }
}

// Columns begin .. end of (rows, cols) become rows of `to`.
static void transpose_part(const struct job *j, float *to, const float *from, int64_t rows, int64_t cols,
                           int64_t begin, int64_t end)
{
    if (begin < end)
        j->muon->kernels->transpose_fwd(to + begin * rows, (size_t)rows, DTYPE_F32, from + begin,
                                        (size_t)cols, rows, end - begin);
}

// X = u / ||u||, the transpose where u is tall
static void normalise(const struct job *j, int thread)
{
    const struct muon *m = j->muon;
    double sum = 0;
    for (int64_t row = 0; row < j->rows; row++) sum += m->squares[row];
    int64_t begin, end;
    share(j, thread, j->r, &begin, &end);
    float *x = m->x + begin * j->c;
    const float *from = x;
    if (j->tall)
        transpose_part(j, m->x, m->y, j->rows, j->cols, begin, end);
    else
        from = m->y + begin * j->c;
    m->kernels->scale_fwd(x, from, (end - begin) * j->c, 1 / (sqrt(sum) + 1e-7));
}

// Tile (t, n) of to = x x^T for x (r, k), n <= t, then where `base` is given b base + c to; and the tile across the diagonal.
static void square_tile(const struct job *j, float *to, const float *x, const float *base, int64_t k,
                        int64_t t, int64_t n, char *scratch)
{
    int64_t r = j->r, t_end = smaller(t + TILE, r), n_end = smaller(n + TILE, r);
    j->muon->kernels->matmul[DTYPE_F32].fwd(&(struct matmul_args){.y = to + t * r,
                                                                  .y_stride = (size_t)r,
                                                                  .x = x + t * k,
                                                                  .x_stride = (size_t)k,
                                                                  .w = x,
                                                                  .w_type = DTYPE_F32,
                                                                  .w_stride = (size_t)k * sizeof(float),
                                                                  .n_begin = n,
                                                                  .n_end = n_end,
                                                                  .t_count = t_end - t,
                                                                  .k_count = k,
                                                                  .scratch = scratch});
    for (int64_t row = t; row < t_end && base; row++)
        for (int64_t i = n; i < n_end; i++)
            to[row * r + i] =
                (float)coefficient_b * base[row * r + i] + (float)coefficient_c * to[row * r + i];
    if (n < t)
        j->muon->kernels->transpose_fwd(to + n * r + t, (size_t)r, DTYPE_F32, to + t * r + n, (size_t)r,
                                        t_end - t, n_end - n);
}

static void square(const struct job *j, int thread, float *to, const float *x, const float *base, int64_t k)
{
    char *scratch = j->muon->scratch + (size_t)thread * MATMUL_SCRATCH;
    int64_t tile = 0, threads = threads_count(j->muon->threads);
    for (int64_t t = 0; t < j->r; t += TILE)
        for (int64_t n = 0; n <= t; n += TILE)
            if (tile++ % threads == thread) square_tile(j, to, x, base, k, t, n, scratch);
}

// y = a x + second x
static void advance(const struct job *j, int thread, float *y, const float *x)
{
    const struct muon *m = j->muon;
    int64_t tile = 0, threads = threads_count(m->threads);
    for (int64_t t = 0; t < j->r; t += TILE) {
        for (int64_t n = 0; n < j->c; n += TILE) {
            if (tile++ % threads != thread) continue;
            int64_t t_end = smaller(t + TILE, j->r), n_end = smaller(n + TILE, j->c);
            for (int64_t row = t; row < t_end; row++)
                m->kernels->scale_fwd(y + row * j->c + n, x + row * j->c + n, n_end - n, coefficient_a);
            m->kernels->matmul_nn[DTYPE_F32].fwd(
                &(struct matmul_args){.y = y + t * j->c,
                                      .y_stride = (size_t)j->c,
                                      .x = m->second + t * j->r,
                                      .x_stride = (size_t)j->r,
                                      .w = x,
                                      .w_type = DTYPE_F32,
                                      .w_stride = (size_t)j->c * sizeof(float),
                                      .n_begin = n,
                                      .n_end = n_end,
                                      .t_count = t_end - t,
                                      .k_count = j->r,
                                      .add = true,
                                      .scratch = m->scratch + (size_t)thread * MATMUL_SCRATCH});
        }
    }
}

// value = value * keep - rate * scale * x, and x's transpose where u was tall, by way of y
static void write_values(const struct job *j, int thread, const float *x, float *y)
{
    int64_t begin, end;
    share(j, thread, j->rows, &begin, &end);
    if (j->tall) transpose_part(j, y, x, j->r, j->c, begin, end);
    const float *from = j->tall ? y : x;
    float step = (float)(j->update->rate * sqrt(fmax(1, (double)j->rows / (double)j->cols)));
    for (int64_t i = begin * j->cols; i < end * j->cols; i++)
        j->value[i] = j->value[i] * j->update->keep - step * from[i];
}

static void work(void *user, int thread)
{
    const struct job *j = user;
    const struct muon *m = j->muon;
    float *x = m->x, *y = m->y;
    take_gradient(j, thread);
    threads_barrier(m->threads);
    normalise(j, thread);
    for (int i = 0; i < j->update->iterations; i++) {
        threads_barrier(m->threads);
        square(j, thread, m->square, x, NULL, j->c);
        threads_barrier(m->threads);
        square(j, thread, m->second, m->square, m->square, j->r);
        threads_barrier(m->threads);
        advance(j, thread, y, x);
        float *next = y;
        y = x, x = next;
    }
    threads_barrier(m->threads);
    write_values(j, thread, x, y);
}

void muon_update(const struct muon *m, const struct muon_update *u)
{
    const struct parameter *p = u->parameter;
    int64_t size = p->rows * p->cols;
    for (int64_t i = 0; i < p->depth; i++) {
        struct job j = {.muon = m,
                        .update = u,
                        .value = p->value + i * size,
                        .momentum = u->momentum + i * size,
                        .gradient = p->gradient + i * size,
                        .rows = p->rows,
                        .cols = p->cols,
                        .r = smaller(p->rows, p->cols),
                        .c = larger(p->rows, p->cols),
                        .tall = p->rows > p->cols};
        threads_run(m->threads, work, &j);
    }
}

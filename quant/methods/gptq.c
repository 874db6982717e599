// quant/methods/gptq.c -- see quant/methods/gptq.h.
//
// A thread takes TILE rows through all columns. Columns come in panels: what a panel's columns should be follows from all that was rounded
// before in one product, x = w + change u; within the panel sub-blocks pass their changes on at once.
#include "quant/methods/gptq.h"

#include <math.h>
#include <stdatomic.h>

#include "quant/methods/gptq_sub.h"

enum { TILE = 32, PANEL = QUANT_SUPER };

struct tile {                // of a thread
    float *x, *change, *row; // (TILE, K) in the hessian's order; (K) in the matrix's
    void *scratch;
};

struct run {
    const struct gptq *p;
    const struct grid *grid;
    struct tile *tiles; // [threads]
    atomic_bool *refused;
};

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

// ---- a panel of FIT_LANES rows ------------------------------------------------------------------------

struct panel {
    const struct run *run;
    int64_t first;        // row of the tile, to which the lanes count
    int64_t begin, count; // columns, in the hessian's order
    float x[PANEL][FIT_LANES], change[PANEL][FIT_LANES];
};

// Columns are at - at + block - 1 of the panel: the scales that the search without feedback would take.
static void fit_block(const struct panel *p, int64_t at, struct grid_block *blocks)
{
    const struct hessian *h = p->run->p->hessian;
    const int block = p->run->grid->block;
    float x[FIT_LANES * QUANT_SUPER], w[FIT_LANES * QUANT_SUPER];
    for (int i = 0; i < block; i++) {
        int64_t column = p->begin + at + i, place = h->order[column] % block;
        for (int l = 0; l < FIT_LANES; l++) {
            x[l * block + place] = p->x[at + i][l];
            w[l * block + place] = h->d[column];
        }
    }
    grid_fit(p->run->grid, x, w, FIT_LANES, blocks);
}

// Rounds the sub-block at - at + sub - 1 of the panel, and tells the columns behind it.
static void round_sub(struct panel *p, int64_t at, struct grid_block *blocks)
{
    const struct hessian *h = p->run->p->hessian;
    const struct grid *grid = p->run->grid;
    const int32_t *order = h->order + p->begin + at;
    struct gptq_sub s = {.grid = grid, .n = grid->sub};
    struct gptq_levels best;
    struct grid_block *lane[FIT_LANES];
    memcpy(s.x, p->x[at], (size_t)s.n * sizeof *s.x);
    for (int j = 0; j < s.n; j++) {
        const float *u = h->u + (p->begin + at + j) * h->n + p->begin + at;
        s.d[j] = h->d[p->begin + at + j];
        memcpy(s.u[j], u, (size_t)s.n * sizeof *u);
    }
    gptq_sub_prepare(&s);
    for (int l = 0; l < FIT_LANES; l++) lane[l] = &blocks[l];
    gptq_sub_round(&s, lane, order[0] % grid->block / grid->sub, &best);
    for (int j = 0; j < s.n; j++) {
        const float *u = h->u + (p->begin + at + j) * h->n + p->begin;
        for (int l = 0; l < FIT_LANES; l++) {
            blocks[l].code[order[j] % grid->block] = best.code[j][l];
            p->change[at + j][l] = best.change[j][l];
        }
        for (int64_t k = at + s.n; k < p->count; k++)
            for (int l = 0; l < FIT_LANES; l++) p->x[k][l] += best.change[j][l] * u[k];
    }
}

static void round_panel(struct panel *p, int64_t rows)
{
    const struct gptq *job = p->run->p;
    const struct grid *grid = p->run->grid;
    const int64_t k = job->hessian->n;
    const size_t block_bytes = (size_t)dtype_traits[job->type].block_bytes,
                 row_bytes = dtype_row_bytes(job->type, k);
    for (int64_t at = 0; at < p->count; at += grid->block) {
        struct grid_block blocks[FIT_LANES] = {0};
        fit_block(p, at, blocks);
        for (int64_t sub = at; sub < at + grid->block; sub += grid->sub) round_sub(p, sub, blocks);
        int64_t place = job->hessian->order[p->begin + at] / grid->block;
        for (int64_t l = 0; l < rows; l++)
            grid_pack(grid,
                      (char *)job->out + (size_t)(p->first + l) * row_bytes + (size_t)place * block_bytes,
                      &blocks[l]);
    }
}

// ---- a tile of rows -----------------------------------------------------------------------------------

// Scales are f16: larger numbers have none, and a NaN would spread.
static bool all_within(const float *x, int64_t count)
{
    bool within = true;
    for (int64_t i = 0; i < count; i++) within &= fabsf(x[i]) <= 65504;
    return within;
}

static bool read_rows(const struct gptq *p, const struct tile *t, int64_t first, int64_t rows)
{
    const int64_t k = p->hessian->n;
    bool within = true;
    for (int64_t r = 0; r < TILE; r++) {
        float *x = t->x + r * k;
        if (r < rows) {
            quant_types[p->w_type].dequantize(t->row, (const char *)p->w + (size_t)(first + r) * p->w_stride,
                                              k);
            within &= all_within(t->row, k);
            for (int64_t c = 0; c < k; c++) x[c] = t->row[p->hessian->order[c]];
        } else {
            memset(x, 0, (size_t)k * sizeof *x);
        }
    }
    return within;
}

// What columns begin ... end - 1 should be, for all that was rounded before them.
static void make_up(const struct gptq *p, const struct tile *t, int64_t rows, int64_t begin, int64_t end)
{
    const struct hessian *h = p->hessian;
    struct matmul_args a = {
        .y = t->x,
        .y_stride = (size_t)h->n,
        .x = t->change,
        .x_stride = (size_t)h->n,
        .w = h->u,
        .w_type = DTYPE_F32,
        .w_stride = (size_t)h->n * sizeof *h->u,
        .n_begin = begin,
        .n_end = end,
        .t_count = rows,
        .k_count = begin,
        .add = true,
        .scratch = t->scratch,
    };
    if (begin) h->kernels->matmul_nn[DTYPE_F32].fwd(&a);
}

static void round_tile(void *user, int64_t i, int thread)
{
    const struct run *run = user;
    const struct tile *t = &run->tiles[thread];
    const int64_t k = run->p->hessian->n, first = i * TILE, rows = least(TILE, run->p->rows - first);
    if (!read_rows(run->p, t, first, rows)) {
        atomic_store(run->refused, true);
        return;
    }
    for (int64_t begin = 0; begin < k; begin += PANEL) {
        int64_t count = least(PANEL, k - begin);
        make_up(run->p, t, rows, begin, begin + count);
        for (int64_t r = 0; r < rows; r += FIT_LANES) {
            struct panel p = {.run = run, .first = first + r, .begin = begin, .count = count};
            for (int64_t c = 0; c < count; c++)
                for (int l = 0; l < FIT_LANES; l++) p.x[c][l] = t->x[(r + l) * k + begin + c];
            round_panel(&p, least(FIT_LANES, rows - r));
            for (int64_t c = 0; c < count; c++)
                for (int l = 0; l < FIT_LANES; l++) t->change[(r + l) * k + begin + c] = p.change[c][l];
        }
    }
}

enum tlm_status gptq_round(const struct gptq *p, struct tlm_error *err)
{
    const struct hessian *h = p->hessian;
    size_t threads = (size_t)threads_count(h->threads), rows = TILE * (size_t)h->n;
    size_t numbers = 2 * rows + (size_t)h->n, scratch = h->kernels->matmul_nn[DTYPE_F32].scratch;
    struct tile tiles[THREADS_MAX];
    float *memory = malloc(threads * numbers * sizeof *memory);
    if (!memory)
        return error_set(err, TLM_ERR_MEMORY, "no memory for %zu rows of %lld numbers", threads * 2 * TILE,
                         (long long)h->n);
    for (size_t t = 0; t < threads; t++) {
        tiles[t].x = memory + t * numbers;
        tiles[t].change = tiles[t].x + rows;
        tiles[t].row = tiles[t].change + rows;
        tiles[t].scratch = (char *)h->scratch + t * scratch;
    }
    atomic_bool refused = false;
    struct run run = {p, quant_types[p->type].grid, tiles, &refused};
    threads_each(h->threads, (p->rows + TILE - 1) / TILE, round_tile, &run);
    free(memory);
    if (!refused) return TLM_OK;
    return error_set(err, TLM_ERR_FORMAT,
                     "expected numbers from -65504 to 65504, found a larger one or a NaN");
}

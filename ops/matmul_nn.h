// ops/matmul_nn.h -- the nn form: y[t][n] (+)= sum over k of x[t][k] * w[k][n], with the register tiles of ops/matmul_tile.h.
//
// A panel is 64 columns of w and DEPTH steps of k, put into scratch as [tile][step][column]: w's rows have the numbers side by side that a
// vector wants, so nothing is transposed; pairs of bf16 are two rows interleaved. Outputs past the end are lanes of zeros, which are not stored.
//
// The file that includes this one has included ops/matmul_tile.h and defines before: nn_step(kind, row, next, count), the vector of one
// step of `count` <= LANES columns from the row's numbers and, for pairs, those of the next row (NULL: zeros).
#ifndef OPS_MATMUL_NN_H
#define OPS_MATMUL_NN_H

// Steps of columns 0 .. cols - 1 of w's rows 0 .. count - 1.
static UNCHECKED void nn_unpack(enum weights kind, float *panel, const char *w, size_t w_stride, int64_t cols,
                                int64_t count)
{
    const int64_t per_step = kind == WEIGHTS_PAIRS ? 2 : 1, tiles = (cols + TILE - 1) / TILE * TILE;
    const size_t bytes = weight_bytes(kind);
    for (int64_t k = 0; k < count; k += per_step, w += (size_t)per_step * w_stride, panel += TILE) {
        const bool pair = per_step == 2 && k + 1 < count;
        for (int64_t c = 0; c < tiles; c += LANES) {
            const char *row = w + (size_t)c * bytes;
            const int64_t left = cols > c ? min_i64(LANES, cols - c) : 0;
            vec_store(panel + c / TILE * (DEPTH * TILE) + c % TILE,
                      nn_step(kind, row, pair ? row + w_stride : NULL, left));
        }
    }
}

// A tile whose last columns are past the end: y's `own` numbers alone are read and written.
static UNCHECKED void nn_edge(int64_t cols, int64_t own, float *y, size_t y_stride, const char *x,
                              struct tile_job *job, bool odd)
{
    float edge[TILE_COLS * TILE] = {0};
    const size_t bytes = (size_t)own * sizeof *y;
    for (int64_t t = 0; t < cols && !job->first; t++)
        memcpy(edge + t * TILE, y + (size_t)t * y_stride, bytes);
    job->y_stride = TILE;
    tile_columns(cols, edge, x, job, odd);
    for (int64_t t = 0; t < cols; t++) memcpy(y + (size_t)t * y_stride, edge + t * TILE, bytes);
}

// The panel of `count` columns in scratch times all rows of x.
static UNCHECKED void nn_multiply(const struct matmul_args *a, struct tile_job *job, float *y, int64_t count,
                                  const char *x, bool odd)
{
    int64_t t = 0;
    for (int64_t tiles = (a->t_count + TILE_COLS - 1) / TILE_COLS; tiles > 0; tiles--) {
        const int64_t cols = (a->t_count - t + tiles - 1) / tiles; // as even as can be
        const char *xt = x + (size_t)t * job->x_stride;
        float *yt = y + (size_t)t * a->y_stride;
        for (int64_t n = 0; n < count; n += TILE) {
            job->panel = (const float *)a->scratch + n * DEPTH;
            job->y_stride = a->y_stride;
            if (n + TILE <= count)
                tile_columns(cols, yt + n, xt, job, odd);
            else
                nn_edge(cols, count - n, yt + n, a->y_stride, xt, job, odd);
        }
        t += cols;
    }
}

static UNCHECKED void nn_rows(const struct matmul_args *a, enum weights kind)
{
    const int64_t per_step = kind == WEIGHTS_PAIRS ? 2 : 1, depth = per_step * DEPTH;
    const size_t bytes = weight_bytes(kind);
    struct tile_job job = {.x_stride = a->x_stride * x_bytes(kind)};
    for (int64_t n = a->n_begin; n < a->n_end; n += PANEL) {
        const int64_t cols = min_i64(a->n_end - n, PANEL);
        for (int64_t k = 0; k < a->k_count; k += depth) {
            const int64_t count = min_i64(a->k_count - k, depth);
            nn_unpack(kind, a->scratch, (const char *)a->w + (size_t)k * a->w_stride + (size_t)n * bytes,
                      a->w_stride, cols, count);
            job.first = k == 0 && !a->add;
            job.steps = count / per_step;
            nn_multiply(a, &job, (float *)a->y + n, cols, (const char *)a->x + (size_t)k * x_bytes(kind),
                        count % per_step != 0);
        }
    }
}

#endif

// quant/methods/hessian.c -- see quant/methods/hessian.h.
//
// Products of blocks are those of the kernels in f32, whose rounding the damping outweighs; the blocks on the diagonal are factored in
// double.
#include "quant/methods/hessian.h"

#include <math.h>

enum {
    BLOCK = 64,        // columns that are factored together
    TILE = 128,        // rows of a product that a thread takes
    MOST_SUBS = 16,    // sub-blocks of a block
    MOST_COLUMNS = 32, // of a sub-block
};

enum tlm_status hessian_open(struct hessian *p, int64_t n, int64_t mats, int64_t most_rows,
                             const struct kernels *kernels, struct threads *threads, struct tlm_error *err)
{
    const struct matmul_kernel *k = &kernels->matmul_nn[DTYPE_F32];
    *p = (struct hessian){
        .n = n, .mats = mats, .most_rows = most_rows, .kernels = kernels, .threads = threads};
    size_t square = (size_t)n * (size_t)n * sizeof *p->h;
    p->rows = calloc((size_t)mats, sizeof *p->rows);
    p->all = calloc((size_t)mats, square);
    p->u = malloc(square);
    p->d = malloc((size_t)n * sizeof *p->d);
    p->order = malloc((size_t)n * sizeof *p->order);
    p->x = malloc((size_t)n * (size_t)most_rows * sizeof *p->x);
    p->panel = malloc((size_t)n * 2 * BLOCK * sizeof *p->panel);
    p->scratch = aligned_alloc(64, ((size_t)threads_count(threads) * k->scratch + 64) / 64 * 64);
    if (p->rows && p->all && p->u && p->d && p->order && p->x && p->panel && p->scratch) return TLM_OK;
    hessian_close(p);
    return error_set(err, TLM_ERR_MEMORY, "no memory for the moments of %lld columns, %zu bytes",
                     (long long)n, (size_t)(mats + 1) * square);
}

void hessian_close(struct hessian *p)
{
    free(p->rows);
    free(p->all);
    free(p->u);
    free(p->d);
    free(p->order);
    free(p->x);
    free(p->panel);
    free(p->scratch);
    *p = (struct hessian){0};
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

// y (t, n_begin .. n_end) (+)= x (t, k) w (k, n): rows of y and w of `stride`, of x of `x_stride` floats.
static void product(const struct hessian *p, float *y, const float *x, size_t x_stride, const float *w,
                    size_t stride, int64_t t, int64_t n_begin, int64_t n_end, int64_t k, bool add, int thread)
{
    const struct matmul_kernel *nn = &p->kernels->matmul_nn[DTYPE_F32];
    struct matmul_args a = {
        .y = y,
        .y_stride = stride,
        .x = x,
        .x_stride = x_stride,
        .w = w,
        .w_type = DTYPE_F32,
        .w_stride = stride * sizeof *w,
        .n_begin = n_begin,
        .n_end = n_end,
        .t_count = t,
        .k_count = k,
        .add = add,
        .scratch = (char *)p->scratch + (size_t)thread * nn->scratch,
    };
    nn->fwd(&a);
}

// ---- adding rows --------------------------------------------------------------------------------------

struct rows {
    const struct hessian *p;
    float *h;
    const float *x;
    size_t stride;
    int64_t count;
};

static void transpose_part(void *user, int64_t i, int thread)
{
    const struct rows *r = user;
    const struct hessian *p = r->p;
    int64_t begin = i * TILE, cols = least(TILE, p->n - begin);
    (void)thread;
    p->kernels->transpose_fwd(p->x + begin * r->count, (size_t)r->count, DTYPE_F32, r->x + begin, r->stride,
                              r->count, cols);
}

// Rows TILE i ... of the upper triangle.
static void add_part(void *user, int64_t i, int thread)
{
    const struct rows *r = user;
    const struct hessian *p = r->p;
    const struct matmul_kernel *nn = &p->kernels->matmul_nn[DTYPE_F32];
    int64_t begin = i * TILE, n = p->n;
    struct matmul_args a = {
        .y = r->h + begin * n,
        .y_stride = (size_t)n,
        .x = p->x + begin * r->count,
        .x_stride = (size_t)r->count,
        .w = r->x,
        .w_type = DTYPE_F32,
        .w_stride = r->stride * sizeof *r->x,
        .n_begin = begin,
        .n_end = n,
        .t_count = least(TILE, n - begin),
        .k_count = r->count,
        .add = true,
        .scratch = (char *)p->scratch + (size_t)thread * nn->scratch,
    };
    nn->fwd(&a);
}

void hessian_add(struct hessian *p, int64_t mat, const float *x, size_t stride, int64_t rows)
{
    struct rows r = {p, p->all + mat * p->n * p->n, x, stride, rows};
    int64_t parts = (p->n + TILE - 1) / TILE;
    TLM_ASSERT(rows <= p->most_rows);
    if (!rows) return;
    threads_each(p->threads, parts, transpose_part, &r);
    threads_each(p->threads, parts, add_part, &r);
    p->rows[mat] += (double)rows;
}

void hessian_select(struct hessian *p, int64_t mat)
{
    float factor = p->rows[mat] > 0 ? (float)(1 / p->rows[mat]) : 0;
    p->h = p->all + mat * p->n * p->n;
    for (int64_t r = 0; r < p->n; r++)
        for (int64_t c = r; c < p->n; c++) p->h[c * p->n + r] = p->h[r * p->n + c] *= factor;
}

// ---- the order ----------------------------------------------------------------------------------------

struct sized {
    double size;
    int64_t at;
};

static int larger_first(const void *a, const void *b)
{
    const struct sized *x = a, *y = b;
    if (x->size != y->size) return x->size < y->size ? 1 : -1;
    return x->at < y->at ? -1 : x->at > y->at;
}

// The parts of `size` columns between begin and end, the largest by the diagonal first.
static void sort_parts(const struct hessian *p, int64_t begin, int64_t end, int64_t size, struct sized *out)
{
    for (int64_t i = 0, at = begin; at < end; i++, at += size) {
        out[i] = (struct sized){0, at};
        for (int64_t c = at; c < at + size; c++) out[i].size += p->h[c * p->n + c];
    }
    qsort(out, (size_t)((end - begin) / size), sizeof *out, larger_first);
}

static void find_order(struct hessian *p, int64_t block, int64_t sub, struct sized *blocks)
{
    int32_t *order = p->order;
    sort_parts(p, 0, p->n, block, blocks);
    for (int64_t b = 0; b < p->n / block; b++) {
        struct sized subs[MOST_SUBS], columns[MOST_COLUMNS];
        sort_parts(p, blocks[b].at, blocks[b].at + block, sub, subs);
        for (int64_t s = 0; s < block / sub; s++) {
            sort_parts(p, subs[s].at, subs[s].at + sub, 1, columns);
            for (int64_t c = 0; c < sub; c++) *order++ = (int32_t)columns[c].at;
        }
    }
}

// ---- H = V D V^T --------------------------------------------------------------------------------------

// The block on the diagonal that begins at row and column `at`, and its D.
static void factor_block(struct hessian *p, int64_t at, int64_t count, double least_d)
{
    double v[BLOCK][BLOCK];
    float *a = p->u + at * p->n + at;
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = i; j < count; j++) v[i][j] = a[i * p->n + j];
    for (int64_t j = count - 1; j >= 0; j--) {
        double d = v[j][j];
        for (int64_t k = j + 1; k < count; k++) d -= v[j][k] * v[j][k] * p->d[at + k];
        d = d > least_d ? d : least_d; // in exact numbers it is
        p->d[at + j] = (float)d;
        for (int64_t i = 0; i < j; i++) {
            double sum = v[i][j];
            for (int64_t k = j + 1; k < count; k++) sum -= v[i][k] * p->d[at + k] * v[j][k];
            v[i][j] = sum / d;
        }
    }
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = i; j < count; j++) a[i * p->n + j] = i == j ? 1 : (float)v[i][j];
}

struct step { // of the factorization, or of the inversion
    struct hessian *p;
    int64_t at, count;    // the block's columns
    float *left, *across; // (n, BLOCK), (BLOCK, n)
    const double *inverse;
};

// Rows TILE i ... above the block: V from  V D V_block^T = what is left of H.
static void solve_rows(void *user, int64_t i, int thread)
{
    const struct step *s = user;
    struct hessian *p = s->p;
    const float *block = p->u + s->at * p->n + s->at;
    (void)thread;
    for (int64_t r = i * TILE; r < least((i + 1) * TILE, s->at); r++) {
        float *a = p->u + r * p->n + s->at, *vd = s->left + r * BLOCK;
        for (int64_t j = s->count - 1; j >= 0; j--) {
            double sum = a[j];
            for (int64_t k = j + 1; k < s->count; k++) sum += (double)vd[k] * block[j * p->n + k];
            vd[j] = (float)-sum;
            a[j] = (float)(sum / p->d[s->at + j]);
            s->across[j * p->n + r] = a[j];
        }
    }
}

// Those rows of what is left of H in front of the block, which the block's part is taken off.
static void take_off(void *user, int64_t i, int thread)
{
    const struct step *s = user;
    int64_t begin = i * TILE, n = s->p->n;
    product(s->p, s->p->u + begin * n, s->left + begin * BLOCK, BLOCK, s->across, (size_t)n,
            least(TILE, s->at - begin), begin, s->at, s->count, true, thread);
}

static void factor(struct hessian *p, double least_d)
{
    struct step s = {.p = p, .left = p->panel, .across = p->panel + p->n * BLOCK};
    for (s.at = (p->n - 1) / BLOCK * BLOCK; s.at >= 0; s.at -= BLOCK) {
        int64_t parts = (s.at + TILE - 1) / TILE;
        s.count = least(BLOCK, p->n - s.at);
        factor_block(p, s.at, s.count, least_d);
        threads_each(p->threads, parts, solve_rows, &s);
        threads_each(p->threads, parts, take_off, &s);
    }
}

// ---- U = V^-1 -----------------------------------------------------------------------------------------

// Of an upper triangle with ones on its diagonal; below the diagonal there are zeros.
static void invert_block(const struct hessian *p, int64_t at, int64_t count, double *inverse)
{
    memset(inverse, 0, BLOCK * BLOCK * sizeof *inverse);
    for (int64_t j = 0; j < count; j++) {
        inverse[j * BLOCK + j] = 1;
        for (int64_t i = j - 1; i >= 0; i--) {
            double sum = 0;
            for (int64_t k = i + 1; k <= j; k++)
                sum -= p->u[(at + i) * p->n + at + k] * inverse[k * BLOCK + j];
            inverse[i * BLOCK + j] = sum;
        }
    }
}

// Rows TILE i ... of the block's columns: U_above,block = -U_above,above V_above,block V_block^-1. What is in front of a row's diagonal is zero.
static void invert_rows(void *user, int64_t i, int thread)
{
    const struct step *s = user;
    struct hessian *p = s->p;
    int64_t begin = i * TILE, rows = least(TILE, s->at - begin), n = p->n;
    float *out = s->across + begin * BLOCK; // (rows, BLOCK)
    product(p, out, p->u + begin * n + begin, (size_t)n, s->left + begin * BLOCK, BLOCK, rows, 0, s->count,
            s->at - begin, false, thread);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < s->count; j++) {
            double sum = 0;
            for (int64_t k = 0; k <= j; k++) sum -= (double)out[r * BLOCK + k] * s->inverse[k * BLOCK + j];
            p->u[(begin + r) * n + s->at + j] = (float)sum;
        }
}

static void invert(struct hessian *p)
{
    double inverse[BLOCK * BLOCK];
    struct step s = {.p = p, .left = p->panel, .across = p->panel + p->n * BLOCK, .inverse = inverse};
    for (int64_t r = 1; r < p->n; r++) memset(p->u + r * p->n, 0, (size_t)r * sizeof *p->u);
    for (s.at = 0; s.at < p->n; s.at += BLOCK) {
        s.count = least(BLOCK, p->n - s.at);
        invert_block(p, s.at, s.count, inverse);
        for (int64_t r = 0; r < s.at; r++)
            memcpy(s.left + r * BLOCK, p->u + r * p->n + s.at, (size_t)s.count * sizeof *p->u);
        threads_each(p->threads, (s.at + TILE - 1) / TILE, invert_rows, &s);
        for (int64_t i = 0; i < s.count; i++)
            for (int64_t j = i; j < s.count; j++)
                p->u[(s.at + i) * p->n + s.at + j] = (float)inverse[i * BLOCK + j];
    }
}

void hessian_factor(struct hessian *p, double damping, int64_t block, int64_t sub)
{
    double mean = 0;
    for (int64_t c = 0; c < p->n; c++) mean += p->h[c * p->n + c];
    mean /= (double)p->n;
    double more = mean > 0 ? damping * mean : 1;
    TLM_ASSERT(p->n % block == 0 && block % sub == 0 && block / sub <= MOST_SUBS && sub <= MOST_COLUMNS);
    find_order(p, block, sub, (struct sized *)p->panel); // which has room for n of them
    for (int64_t r = 0; r < p->n; r++) {
        const float *from = p->h + (int64_t)p->order[r] * p->n;
        float *to = p->u + r * p->n;
        for (int64_t c = 0; c < p->n; c++) to[c] = from[p->order[c]];
        to[r] += (float)more;
    }
    factor(p, more);
    invert(p);
}

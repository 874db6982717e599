// tests/cuda_emu/hopper.cc -- what tests/cuda_emu/hopper.h declares: barriers that count bytes, copies of tiles, products of a warpgroup.
#include "cuda/hopper.h"

#include <stdlib.h>

#include "cuda/runtime.h"

namespace emu
{

enum { TILE_BYTES = 1024, ROW_BYTES = 128, PIECE = 16 };

// The 128-byte swizzle: bits 4 to 6 of an address change with bits 7 to 9.
static int64_t swizzled(int64_t at)
{
    return at ^ (at >> 7 & 7) << 4;
}

// ---- barriers ---------------------------------------------------------------------------------------------

// The thread's own block, or another of its cluster, whose shared memory is about to be reached.
static struct block *block_at(int rank, int region, const char *file, int line)
{
    struct block *own = self->block, *b = own - own->rank + rank;
    if (rank == own->rank) return own;
    if (grid.how != CLUSTERS || rank < 0 || rank >= CUDA_CLUSTER || region)
        fail(file, line, "block %d of the cluster, its array %d: only dynamic memory of one of %d is reached",
             rank, region, (int)CUDA_CLUSTER);
    if (!b->live) fail(file, line, "block %d of the cluster is reached behind its end", rank);
    b->reached = grid.meetings;
    return b;
}

static struct barrier *barrier_at(struct block *b, int region, int64_t at, const char *file, int line)
{
    struct barrier *m = NULL;
    for (int i = 0; i < b->barrier_count && !m; i++)
        if (b->barriers[i].region == region && b->barriers[i].at == at) m = &b->barriers[i];
    if (b != self->block && (!m || m->met == grid.meetings))
        fail(file, line, "a barrier of block %d of the cluster, which has not met since it was made",
             b->rank);
    if (m) return m;
    fail(file, line, "a barrier that was never made: byte %lld of %s", (long long)at,
         b->regions[region].name);
}

void barrier_init(int region, int64_t at, int arrivals, const char *file, int line)
{
    struct block *b = self->block;
    const uint64_t nothing = 0;
    shared_write(region, at, &nothing, sizeof nothing, sizeof nothing, file, line);
    if (b->barrier_count == MAX_BARRIERS) fail(file, line, "more than %d barriers", (int)MAX_BARRIERS);
    b->barriers[b->barrier_count++] = {region, at, arrivals, arrivals, 0, 0, grid.meetings, {}};
}

// A phase that is complete orders what was in front of it, for the whole block: what it does not order is not seen to race.
static void complete(struct block *b, struct barrier *m)
{
    if (m->pending || m->bytes) return;
    m->pending = m->arrivals;
    m->phase++;
    b->epoch++;
    wake(b);
}

void barrier_arrive(int region, int64_t at, int rank, int bytes, const char *file, int line)
{
    struct block *own = self->block, *b = block_at(rank, region, file, line);
    struct barrier *m = barrier_at(b, region, at, file, line);
    if (!m->pending)
        fail(file, line, "more arrivals at a barrier than the %d that it was made for", m->arrivals);
    m->pending--;
    m->bytes += bytes;
    if (b != own) m->heard[own->rank] = own->clock++;
    wake(b);
    complete(b, m);
}

static void land(struct block *b, const struct tile_copy *c)
{
    if (!c->box_rows) {
        shared_land(b, c->region, c->at, c->base, (size_t)c->bytes);
        return;
    }
    for (int r = 0; r < c->box_rows; r++)
        for (int piece = 0; piece < ROW_BYTES / PIECE; piece++) {
            uint16_t number[PIECE / 2] = {};
            for (int i = 0; i < PIECE / 2; i++) {
                const int64_t row = c->row + r, column = c->column + piece * (PIECE / 2) + i;
                if (row < 0 || row >= c->rows || column < 0 || column >= c->columns) continue;
                number[i] = *(const uint16_t *)((const char *)c->base + (size_t)row * c->stride + column * 2);
            }
            shared_land(b, c->region, swizzled(c->at + r * ROW_BYTES + piece * PIECE), number, PIECE);
        }
}

void barrier_wait(int region, int64_t at, unsigned phase, const char *file, int line)
{
    struct block *b = self->block;
    struct barrier *m = barrier_at(b, region, at, file, line);
    self->file = file, self->line = line;
    while ((m->phase & 1) == phase) {
        int kept = 0;
        for (int i = 0; i < b->copy_count; i++) {
            const struct tile_copy c = b->copies[i];
            if (c.barrier != m) {
                b->copies[kept++] = c;
                continue;
            }
            land(b, &c);
            m->bytes -= c.bytes;
        }
        b->copy_count = kept;
        complete(b, m);
        if ((m->phase & 1) != phase) break;
        self->state = EVENT_WAIT;
        yield();
    }
    for (int i = 0; i < CUDA_CLUSTER; i++)
        if (b->known[i] < m->heard[i]) b->known[i] = m->heard[i];
}

void sync_some(int id, int threads, const char *file, int line)
{
    struct block *b = self->block;
    if (id <= 0 || id >= MAX_NAMED || threads % WARP || threads > b->count)
        fail(file, line, "barrier %d of %d threads: 1 to 15, whole warps of the block", id, threads);
    struct named *n = &b->named[id];
    const uint32_t turn = n->turn;
    self->file = file, self->line = line;
    if (++n->arrived == threads) {
        n->arrived = 0;
        n->turn++;
        b->epoch++;
        wake(b);
    }
    while (n->turn == turn) {
        self->state = EVENT_WAIT;
        yield();
    }
}

void shared_written(void)
{
    self->fences++;
}

// ---- copies -----------------------------------------------------------------------------------------------

void tile_copy(int region, int64_t at, const struct cuda_tile_map *map, int64_t column, int64_t row,
               int barrier_region, int64_t barrier, unsigned ranks, const char *file, int line)
{
    const struct cuda_tile_map m = *map;
    const int bytes = m.box_rows * ROW_BYTES;
    if (at % TILE_BYTES || self->block->regions[region].begin % TILE_BYTES)
        fail(file, line, "a tile at byte %lld: no multiple of 1024", (long long)at);
    for (int64_t r = row; r < row + m.box_rows; r++) {
        const int64_t end = column + TILE_COLUMNS < m.columns ? column + TILE_COLUMNS : m.columns;
        if (r >= 0 && r < m.rows && column >= 0 && column < end)
            global_check((const char *)m.base + (size_t)r * m.stride + column * 2, (size_t)(end - column) * 2,
                         2, "copy of a tile from", file, line);
    }
    self->file = file, self->line = line;
    for (int rank = 0; ranks >> rank; rank++) {
        if (!(ranks >> rank & 1)) continue;
        struct block *b = block_at(rank, region, file, line);
        struct barrier *counted = barrier_at(b, barrier_region, barrier, file, line);
        if (b->copy_count == MAX_TILE_COPIES)
            fail(file, line, "more than %d tiles on their way", (int)MAX_TILE_COPIES);
        shared_expect(b, region, at, (size_t)bytes, 128, file, line);
        b->copies[b->copy_count++] = {region, at,  m.base,     m.columns, m.rows, m.stride,
                                      column, row, m.box_rows, bytes,     counted};
        wake(b);
    }
}

void byte_copy(int region, int64_t at, const void *from, int bytes, int barrier_region, int64_t barrier,
               const char *file, int line)
{
    struct block *b = self->block;
    global_check(from, (size_t)bytes, 16, "copy of bytes from", file, line);
    if (bytes % 16) fail(file, line, "a copy of %d bytes: no multiple of 16", bytes);
    if (b->copy_count == MAX_TILE_COPIES)
        fail(file, line, "more than %d copies on their way", (int)MAX_TILE_COPIES);
    shared_expect(b, region, at, (size_t)bytes, 16, file, line);
    b->copies[b->copy_count++] = {
        region, at, from, 0, 0, 0, 0, 0, 0, bytes, barrier_at(b, barrier_region, barrier, file, line)};
    self->file = file, self->line = line;
    wake(b);
}

// ---- products ---------------------------------------------------------------------------------------------

enum { MAX_PRODUCTS = 64, MAX_SUMS = 8, MOST_N = 256 };

struct product {
    struct operand a, b;
    float *c;
    int n, group;
    bool add;
    const char *file;
    int line;
};

// C as it stands between wgmma() and the wait: the thread's own variable is full of NaNs.
struct sums {
    float *c;
    int n;
    float value[MOST_N / 2];
};

struct warpgroup_work {
    struct product products[MAX_PRODUCTS];
    struct sums sums[MAX_SUMS];
    int product_count, sums_count, group;
    bool fenced;
};

static struct warpgroup_work *work_of(struct thread *t)
{
    if (!t->work && !(t->work = (struct warpgroup_work *)calloc(1, sizeof *t->work))) abort();
    return t->work;
}

void work_reset(struct thread *t)
{
    if (t->work) t->work->product_count = t->work->sums_count = t->work->group = 0, t->work->fenced = false;
}

bool work_left(const struct thread *t)
{
    return t->work && t->work->product_count;
}

void wgmma_begin(void)
{
    work_of(self)->fenced = true;
}

void wgmma_end(void)
{
    work_of(self)->group++;
}

static struct sums *sums_of(struct warpgroup_work *w, const float *c)
{
    for (int i = 0; i < w->sums_count; i++)
        if (w->sums[i].c == c) return &w->sums[i];
    return NULL;
}

static void check_operand(const struct operand *o, const char *file, int line)
{
    if (o->region < 0) return;
    if (self->block->regions[o->region].begin % TILE_BYTES)
        fail(file, line, "wgmma: a tile in an array that does not begin at a multiple of 1024");
    if (o->turned ? o->at % TILE_BYTES || o->apart % TILE_BYTES
                  : o->at % TILE_BYTES >= ROW_BYTES || o->at % (2 * PIECE))
        fail(file, line,
             "wgmma: an operand at byte %lld, tiles %lld apart: not where a tile begins, or a step of K",
             (long long)o->at, (long long)o->apart);
}

void wgmma_issue(float *c, int n, const struct operand *a, const struct operand *b, bool add,
                 const char *file, int line)
{
    struct warpgroup_work *w = work_of(self);
    if (!w->fenced) fail(file, line, "wgmma without a wgmma_begin() in front of it");
    if (w->product_count == MAX_PRODUCTS)
        fail(file, line, "wgmma: more than %d on their way", (int)MAX_PRODUCTS);
    check_operand(a, file, line);
    check_operand(b, file, line);
    if (!sums_of(w, c)) {
        if (w->sums_count == MAX_SUMS)
            fail(file, line, "wgmma: more than %d results on their way", (int)MAX_SUMS);
        struct sums *s = &w->sums[w->sums_count++];
        s->c = c, s->n = n;
        memcpy(s->value, c, (size_t)n / 2 * sizeof *c);
        memset(c, 0xff, (size_t)n / 2 * sizeof *c);
    }
    w->products[w->product_count++] = {*a, *b, c, n, w->group, add, file, line};
}

static float number_of(uint16_t bits, bool bf16)
{
    return bf16 ? f32_from_bf16(bits) : f32_from_f16(bits);
}

// `count` rows of M or N from `first` on, 16 of K each.
static void gather(float (*to)[16], const struct operand *o, int first, int count, const char *file, int line)
{
    uint16_t piece[PIECE / 2];
    if (o->turned)
        for (int k = 0; k < 16; k++)
            for (int r = first; r < first + count; r += PIECE / 2) {
                const int64_t at = o->at + r / TILE_COLUMNS * o->apart + k * ROW_BYTES + r % TILE_COLUMNS * 2;
                shared_read_async(piece, o->region, swizzled(at), PIECE, file, line);
                for (int i = 0; i < PIECE / 2; i++) to[r - first + i][k] = number_of(piece[i], o->bf16);
            }
    else
        for (int r = first; r < first + count; r++)
            for (int half = 0; half < 2; half++) {
                shared_read_async(piece, o->region, swizzled(o->at + r * ROW_BYTES + half * PIECE), PIECE,
                                  file, line);
                for (int i = 0; i < PIECE / 2; i++)
                    to[r - first][half * 8 + i] = number_of(piece[i], o->bf16);
            }
}

// The warp's 16 rows of A out of the registers of its lanes, as for mma
static void gather_registers(float (*to)[16], const struct thread *lanes, int product)
{
    for (int l = 0; l < WARP; l++) {
        const struct operand *o = &lanes[l].work->products[product].a;
        for (int r = 0; r < 4; r++)
            for (int i = 0; i < 2; i++)
                to[l / 4 + 8 * (r % 2)][2 * (l % 4) + 8 * (r / 2) + i] =
                    number_of((uint16_t)(o->registers[r] >> 16 * i), o->bf16);
    }
}

static void multiply(struct thread *lanes, int product)
{
    static float a[16][16], b[MOST_N][16];
    const struct product *p = &lanes[0].work->products[product];
    if (p->a.region < 0)
        gather_registers(a, lanes, product);
    else
        gather(a, &p->a, lanes->number / WARP % 4 * 16, 16, p->file, p->line);
    gather(b, &p->b, 0, p->n, p->file, p->line);
    for (int l = 0; l < WARP; l++) {
        struct sums *s = sums_of(lanes[l].work, lanes[l].work->products[product].c);
        for (int i = 0; i < p->n / 2; i++) {
            const float *x = a[l / 4 + 8 * (i / 2 % 2)], *y = b[8 * (i / 4) + 2 * (l % 4) + i % 2];
            double sum = p->add ? s->value[i] : 0;
            for (int k = 0; k < 16; k++) sum += (double)x[k] * y[k];
            s->value[i] = (float)sum;
        }
    }
}

// Gives the results back that no product on its way adds to: the thread may change them, so wgmma_begin() has to come again.
static void settle(struct warpgroup_work *w, int done)
{
    w->product_count -= done;
    memmove(w->products, w->products + done, (size_t)w->product_count * sizeof *w->products);
    for (int i = 0; i < w->sums_count; i++) {
        struct sums *s = &w->sums[i];
        bool busy = false;
        for (int j = 0; j < w->product_count; j++) busy |= w->products[j].c == s->c;
        if (busy) continue;
        memcpy(s->c, s->value, (size_t)s->n / 2 * sizeof *s->c);
        w->fenced = false;
        *s-- = w->sums[--w->sums_count];
        i--;
    }
}

// Of a warp: all but the last `groups` groups.
static void finish_products(struct thread *lanes, int groups)
{
    const struct warpgroup_work *first = lanes[0].work;
    int done = 0;
    for (; done < first->product_count; done++) {
        const struct product *p = &first->products[done];
        if (p->group >= first->group - groups) break;
        for (int l = 0; l < WARP; l++)
            if (done >= lanes[l].work->product_count || lanes[l].work->products[done].line != p->line)
                fail(p->file, p->line, "wgmma: lane %d does not come", l);
        multiply(lanes, done);
    }
    for (int l = 0; l < WARP; l++) settle(lanes[l].work, done);
}

// The products of a warpgroup end for all four warps at once.
void wgmma_wait(int groups, const char *file, int line)
{
    struct block *b = self->block;
    const int group = self->number / WARPGROUP;
    if ((group + 1) * WARPGROUP > b->count) fail(file, line, "wgmma in a part of a warpgroup");
    struct named *n = &b->warpgroup[group];
    const uint32_t turn = n->turn;
    work_of(self);
    self->file = file, self->line = line;
    if (++n->arrived == WARPGROUP) {
        for (int w = 0; w < WARPGROUP / WARP; w++)
            finish_products(b->threads + group * WARPGROUP + w * WARP, groups);
        n->arrived = 0;
        n->turn++;
        wake(b);
    }
    while (n->turn == turn) {
        self->state = EVENT_WAIT;
        yield();
    }
}

} // namespace emu

static bool tiles_there = true;

void emu_set_tiles(bool there)
{
    tiles_there = there;
}

bool cuda_tile_map_make(struct cuda_tile_map *out, const void *base, int64_t columns, int64_t rows,
                        size_t stride, int box_rows)
{
    if (!tiles_there || !aligned_to(base, 16) || stride % 16 || box_rows < 1 || box_rows > 256) return false;
    *out = {base, columns, rows, stride, box_rows};
    return true;
}

// tests/cuda_emu/warp.cc -- what the lanes of a warp do together: shuffles, votes, ldmatrix and mma, in the lanes' layout that the PTX
// ISA documents ("Warp-level matrix instructions", version 8).
#include "core/dtype.h"
#include "tests/cuda_emu/emu.h"

namespace emu
{

static void check_lane(const struct thread *lanes, int lane, const struct meeting *m)
{
    const struct thread *t = &lanes[lane];
    if (lane >= self->block->count - self->number / WARP * WARP)
        fail(m->file, m->line, "%s: lane %d of the mask %08x is not in the block", m->name, lane, m->mask);
    if (t->state == DONE)
        fail(m->file, m->line, "%s: lane %d of the mask %08x has ended", m->name, lane, m->mask);
    if (t->state != WARP_WAIT || (t->meeting.mask == m->mask && t->meeting.name == m->name)) return;
    if (t->meeting.mask != m->mask || strcmp(t->meeting.name, m->name))
        fail(m->file, m->line, "%s with the mask %08x: lane %d is at %s:%d in %s with the mask %08x", m->name,
             m->mask, lane, t->meeting.file, t->meeting.line, t->meeting.name, t->meeting.mask);
}

void meet(const char *name, uint32_t mask, finish_fn *finish, const char *file, int line)
{
    struct thread *lanes = self - self->number % WARP;
    struct meeting *m = &self->meeting;
    m->name = name, m->mask = mask, m->file = file, m->line = line;
    self->file = file, self->line = line;
    if (!(mask >> self->number % WARP & 1))
        fail(file, line, "%s: the mask %08x lacks the lane itself, %d", name, mask, self->number % WARP);
    self->state = WARP_WAIT;
    bool all = true;
    for (int i = 0; i < WARP; i++) {
        if (!(mask >> i & 1)) continue;
        check_lane(lanes, i, m);
        all &= lanes[i].state == WARP_WAIT;
    }
    if (!all) {
        yield();
        return;
    }
    finish(lanes, mask);
    for (int i = 0; i < WARP; i++)
        if (mask >> i & 1) lanes[i].state = READY;
}

void meet_words(const char *name, uint32_t mask, const void *in, void *out, size_t bytes, int option,
                finish_fn *finish, const char *file, int line)
{
    memcpy(self->meeting.in, in, bytes);
    self->meeting.option = option;
    meet(name, mask, finish, file, line);
    memcpy(out, self->meeting.out, bytes);
}

// option: the lane to read from, for each lane its own
void finish_shuffle(struct thread *lanes, uint32_t mask)
{
    for (int i = 0; i < WARP; i++) {
        if (!(mask >> i & 1)) continue;
        struct meeting *m = &lanes[i].meeting;
        if (!(mask >> m->option & 1)) {
            self = &lanes[i];
            fail(m->file, m->line, "%s: reads lane %d, which the mask %08x lacks", m->name, m->option, mask);
        }
        memcpy(m->out, lanes[m->option].meeting.in, 8);
    }
}

void finish_ballot(struct thread *lanes, uint32_t mask)
{
    uint32_t ballot = 0;
    for (int i = 0; i < WARP; i++)
        if (mask >> i & 1 && lanes[i].meeting.in[0]) ballot |= 1u << i;
    for (int i = 0; i < WARP; i++) lanes[i].meeting.out[0] = ballot;
}

void finish_sync(struct thread *lanes, uint32_t)
{
    lanes->block->warp_epoch[lanes->number / WARP]++;
}

// ---- ldmatrix ---------------------------------------------------------------------------------------------

enum { TRANSPOSED = 16 };
static uint32_t pack_place(int region, int64_t at)
{
    return (uint32_t)region << 20 | (uint32_t)at;
}

// Lane 8 i + r gives where row r of matrix i begins; lane l takes numbers 2 (l % 4) and the next of row l / 4, or of column l / 4.
static void finish_matrices(struct thread *lanes, uint32_t)
{
    for (int l = 0; l < WARP; l++) {
        struct meeting *m = &lanes[l].meeting;
        const int count = m->option & 7;
        const bool transposed = m->option & TRANSPOSED;
        for (int i = 0; i < count; i++) {
            const int first = 8 * i + (transposed ? 2 * (l % 4) : l / 4);
            m->out[2 * i] = lanes[first].meeting.in[0];
            m->out[2 * i + 1] = lanes[first + transposed].meeting.in[0];
        }
    }
}

void load_matrices(uint32_t *out, int count, bool transposed, int region, int64_t at, const char *file,
                   int line)
{
    const int lane = self->number % WARP;
    uint32_t in[OP_WORDS] = {0}, from[OP_WORDS];
    if (lane < 8 * count) {
        const struct region *r = &self->block->regions[region];
        if (at < 0 || at + 16 > (int64_t)r->bytes || at % 16)
            fail(file, line, "ldmatrix from %s: a row at byte %lld of %zu", r->name, (long long)at, r->bytes);
        in[0] = pack_place(region, at);
    }
    meet_words("ldmatrix", ~0u, in, from, sizeof in, count | (transposed ? TRANSPOSED : 0), finish_matrices,
               file, line);
    for (int i = 0; i < count; i++) {
        uint16_t half[2];
        for (int j = 0; j < 2; j++) {
            const uint32_t row = from[2 * i + (transposed ? j : 0)];
            const int number = transposed ? lane / 4 : 2 * (lane % 4) + j;
            shared_read(&half[j], (int)(row >> 20), (row & 0xfffff) + 2 * number, 2, 2, file, line);
        }
        out[i] = half[0] | (uint32_t)half[1] << 16;
    }
}

// ---- mma --------------------------------------------------------------------------------------------------

// m16n8k16, halves: in[0..4) A, in[4..6) B, in[6..10) C, out[0..4) D. Of lane l, with g = l / 4 and t = l % 4:
//     A register r: row g + 8 (r % 2), columns 2t + 8 (r / 2) and the next
//     B register r: rows 2t + 8r and the next, column g
//     C number i: row g + 8 (i / 2), column 2t + i % 2
static float half_of(uint32_t word, int i, bool bf16)
{
    const uint16_t h = (uint16_t)(word >> 16 * i);
    return bf16 ? f32_from_bf16(h) : f32_from_f16(h);
}

static void finish_mma_halves(struct thread *lanes, bool bf16)
{
    float a[16][16], b[16][8];
    for (int l = 0; l < WARP; l++) {
        const struct meeting *m = &lanes[l].meeting;
        const int g = l / 4, t = l % 4;
        for (int r = 0; r < 4; r++)
            for (int i = 0; i < 2; i++)
                a[g + 8 * (r % 2)][2 * t + 8 * (r / 2) + i] = half_of(m->in[r], i, bf16);
        for (int r = 0; r < 2; r++)
            for (int i = 0; i < 2; i++) b[2 * t + 8 * r + i][g] = half_of(m->in[4 + r], i, bf16);
    }
    for (int l = 0; l < WARP; l++) {
        struct meeting *m = &lanes[l].meeting;
        for (int i = 0; i < 4; i++) {
            const int row = l / 4 + 8 * (i / 2), col = 2 * (l % 4) + i % 2;
            float c;
            memcpy(&c, &m->in[6 + i], 4);
            double sum = c;
            for (int k = 0; k < 16; k++) sum += (double)a[row][k] * b[k][col];
            c = (float)sum;
            memcpy(&m->out[i], &c, 4);
        }
    }
}

void finish_mma_bf16(struct thread *lanes, uint32_t)
{
    finish_mma_halves(lanes, true);
}

void finish_mma_f16(struct thread *lanes, uint32_t)
{
    finish_mma_halves(lanes, false);
}

// m16n8k32, bytes with a sign:
//     A register r: row g + 8 (r % 2), columns 4t + 16 (r / 2) and the next three
//     B register r: rows 4t + 16r and the next three, column g
//     C as above, whole numbers
void finish_mma_s8(struct thread *lanes, uint32_t)
{
    int a[16][32], b[32][8];
    for (int l = 0; l < WARP; l++) {
        const struct meeting *m = &lanes[l].meeting;
        const int g = l / 4, t = l % 4;
        for (int r = 0; r < 4; r++)
            for (int i = 0; i < 4; i++)
                a[g + 8 * (r % 2)][4 * t + 16 * (r / 2) + i] = (int8_t)(m->in[r] >> 8 * i);
        for (int r = 0; r < 2; r++)
            for (int i = 0; i < 4; i++) b[4 * t + 16 * r + i][g] = (int8_t)(m->in[4 + r] >> 8 * i);
    }
    for (int l = 0; l < WARP; l++) {
        struct meeting *m = &lanes[l].meeting;
        for (int i = 0; i < 4; i++) {
            const int row = l / 4 + 8 * (i / 2), col = 2 * (l % 4) + i % 2;
            int sum = (int)m->in[6 + i];
            for (int k = 0; k < 32; k++) sum += a[row][k] * b[k][col];
            m->out[i] = (uint32_t)sum;
        }
    }
}

} // namespace emu

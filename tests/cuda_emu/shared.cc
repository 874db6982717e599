// tests/cuda_emu/shared.cc -- shared memory and copies into it: every byte knows who wrote and read it last, and when.
#include "tests/cuda_emu/emu.h"

namespace emu
{

enum {
    NOBODY = -1,
    WHOLE_WARP = 1 << 12,
    ANYBODY = 1 << 13
}; // readers; WHOLE_WARP + w: several lanes of warp w
enum { UNWRITTEN, WRITTEN, ON_ITS_WAY };
enum { GAP = 16, STATIC_MOST = 48 * 1024 };

int region_find(const char *name, size_t bytes, const char *file, int line)
{
    struct block *b = self->block;
    for (int i = 1; i < b->region_count; i++) {
        const struct region *r = &b->regions[i];
        if (r->line == line && r->bytes == bytes && !strcmp(r->file, file) && !strcmp(r->name, name))
            return i;
    }
    const size_t begin = (b->used + 2 * GAP - 1) / GAP * GAP;
    if (b->region_count == MAX_REGIONS) fail(file, line, "%s: more than %d shared arrays", name, MAX_REGIONS);
    if (begin + bytes > MAX_SHARED || begin + bytes - b->regions[0].bytes > STATIC_MOST)
        fail(file, line, "%s: %zu bytes of shared memory in all: more than a block may have", name,
             begin + bytes);
    b->regions[b->region_count] = {file, name, line, begin, bytes};
    memset(b->shadow + begin, 0, bytes * sizeof *b->shadow);
    b->used = begin + bytes;
    return b->region_count++;
}

// The first of the bytes in the block's memory.
static size_t inside(int region, int64_t at, size_t bytes, size_t align, const char *what, const char *file,
                     int line)
{
    const struct region *r = &self->block->regions[region];
    if (at < 0 || (size_t)at + bytes > r->bytes)
        fail(file, line, "%s %s: bytes %lld to %lld of %zu", what, r->name, (long long)at,
             (long long)at + (long long)bytes - 1, r->bytes);
    if ((r->begin + (size_t)at) % align)
        fail(file, line, "%s %s: byte %lld is no multiple of %zu", what, r->name, (long long)at, align);
    return r->begin + (size_t)at;
}

static uint32_t warp_epoch(void)
{
    return self->block->warp_epoch[self->number / WARP];
}

// Nothing stands between what `who` did then and what this thread does now.
static bool unordered(int who, uint32_t block_epoch, uint32_t epoch)
{
    if (who == NOBODY || who == self->number || block_epoch != self->block->epoch) return false;
    if (who == ANYBODY) return true;
    int warp = who >= WHOLE_WARP ? who - WHOLE_WARP : who / WARP;
    return warp != self->number / WARP || epoch == warp_epoch();
}

static void check_writer(const struct shadow *s, const struct region *r, size_t at, const char *what,
                         const char *file, int line)
{
    if (s->state != UNWRITTEN && unordered(s->writer, s->write_block, s->write_warp))
        fail(file, line, "%s %s: byte %zu: thread %d wrote it in line %d, with no barrier between", what,
             r->name, at - r->begin, s->writer, s->writer_line);
}

static void note_reader(struct shadow *s)
{
    int reader = self->number;
    if (s->reader != NOBODY && s->read_block == self->block->epoch && s->reader != reader) {
        int warp = s->reader >= WHOLE_WARP ? s->reader - WHOLE_WARP : s->reader / WARP;
        if (s->reader == ANYBODY || warp != reader / WARP)
            reader = ANYBODY;
        else if (s->read_warp == warp_epoch())
            reader = WHOLE_WARP + warp;
    }
    s->reader = (int16_t)reader, s->clock = self->block->clock;
    s->read_block = self->block->epoch, s->read_warp = warp_epoch();
}

void shared_read(void *to, int region, int64_t at, size_t bytes, size_t align, const char *file, int line)
{
    struct block *b = self->block;
    const struct region *r = &b->regions[region];
    const size_t begin = inside(region, at, bytes, align, "read of", file, line);
    for (size_t i = begin; i < begin + bytes; i++) {
        struct shadow *s = &b->shadow[i];
        if (s->state == UNWRITTEN)
            fail(file, line, "read of %s: byte %zu was never written", r->name, i - r->begin);
        if (s->state == ON_ITS_WAY)
            fail(file, line, "read of %s: byte %zu is still on its way: its cp.async was not waited for",
                 r->name, i - r->begin);
        check_writer(s, r, i, "read of", file, line);
        note_reader(s);
    }
    memcpy(to, b->memory + begin, bytes);
}

static void take_over(struct shadow *s, const struct region *r, size_t at, int state, const char *file,
                      int line)
{
    check_writer(s, r, at, "write to", file, line);
    if (s->state != UNWRITTEN && unordered(s->reader, s->read_block, s->read_warp))
        fail(file, line, "write to %s: byte %zu: another thread has read it, with no barrier between",
             r->name, at - r->begin);
    if (s->state == ON_ITS_WAY && state != ON_ITS_WAY && s->writer != self->number)
        fail(file, line, "write to %s: byte %zu: a cp.async to it is on its way", r->name, at - r->begin);
    s->state = (uint8_t)state;
    s->writer = (int16_t)self->number, s->writer_line = (uint16_t)line, s->reader = NOBODY;
    s->write_block = self->block->epoch, s->write_warp = warp_epoch(), s->fence = self->fences;
    s->clock = self->block->clock;
}

void shared_write(int region, int64_t at, const void *from, size_t bytes, size_t align, const char *file,
                  int line)
{
    struct block *b = self->block;
    const size_t begin = inside(region, at, bytes, align, "write to", file, line);
    for (size_t i = begin; i < begin + bytes; i++)
        take_over(&b->shadow[i], &b->regions[region], i, WRITTEN, file, line);
    memcpy(b->memory + begin, from, bytes);
}

// ---- copies of tiles, and wgmma: by nobody's hand ----------------------------------------------------------

// Another block's byte may be written when its block has told so, behind all that it did with it.
static void take_over_elsewhere(struct shadow *s, const struct block *b, const struct region *r, size_t at,
                                const char *file, int line)
{
    if (s->state != UNWRITTEN && s->clock > self->block->known[b->rank])
        fail(file, line, "copy of a tile to %s of block %d of the cluster: byte %zu: it may still be in use",
             r->name, b->rank, at - r->begin);
    s->state = ON_ITS_WAY;
    s->reader = NOBODY;
}

void shared_expect(struct block *b, int region, int64_t at, size_t bytes, size_t align, const char *file,
                   int line)
{
    const size_t begin = inside(region, at, bytes, align, "copy of a tile to", file, line);
    for (size_t i = begin; i < begin + bytes; i++) {
        struct shadow *s = &b->shadow[i];
        if (s->state == ON_ITS_WAY)
            fail(file, line, "copy of a tile to %s: byte %zu: another copy to it is on its way",
                 b->regions[region].name, i - b->regions[region].begin);
        if (b == self->block)
            take_over(s, &b->regions[region], i, ON_ITS_WAY, file, line);
        else
            take_over_elsewhere(s, b, &b->regions[region], i, file, line);
        s->writer = NOBODY;
    }
}

void shared_land(struct block *b, int region, int64_t at, const void *from, size_t bytes)
{
    const size_t begin = b->regions[region].begin + (size_t)at;
    for (size_t i = begin; i < begin + bytes; i++)
        b->shadow[i].state = WRITTEN, b->shadow[i].clock = b->clock;
    memcpy(b->memory + begin, from, bytes);
}

// What a thread wrote is seen by wgmma only behind shared_written().
void shared_read_async(void *to, int region, int64_t at, size_t bytes, const char *file, int line)
{
    const struct block *b = self->block;
    shared_read(to, region, at, bytes, 16, file, line);
    for (size_t i = 0; i < bytes; i++) {
        const struct shadow *s = &b->shadow[b->regions[region].begin + (size_t)at + i];
        if (s->writer != NOBODY && b->threads[s->writer].fences == s->fence)
            fail(file, line,
                 "wgmma reads %s: byte %lld: thread %d wrote it in line %d, with no shared_written() since",
                 b->regions[region].name, (long long)at + (long long)i, s->writer, s->writer_line);
    }
}

// ---- cp.async ---------------------------------------------------------------------------------------------

void shared_copy_async(int region, int64_t at, const void *from, int bytes, const char *file, int line)
{
    struct block *b = self->block;
    const size_t begin = inside(region, at, (size_t)bytes, (size_t)bytes, "cp.async to", file, line);
    if (self->copy_count == MAX_COPIES)
        fail(file, line, "cp.async: more than %d copies on their way", MAX_COPIES);
    for (size_t i = begin; i < begin + (size_t)bytes; i++)
        take_over(&b->shadow[i], &b->regions[region], i, ON_ITS_WAY, file, line);
    self->copies[self->copy_count++] = {at, region, from, bytes, self->group};
    self->file = file, self->line = line;
}

void copy_commit(void)
{
    self->group++;
}

// Lands what belongs to groups before `group`.
void copy_land(struct thread *t, int group, const char *file, int line)
{
    int kept = 0;
    for (int i = 0; i < t->copy_count; i++) {
        const struct copy c = t->copies[i];
        if (c.group >= group) {
            t->copies[kept++] = c;
            continue;
        }
        char zeros[16] = {0};
        shared_write(c.region, c.to, c.from ? c.from : zeros, (size_t)c.bytes, 1, file, line);
    }
    t->copy_count = kept;
}

void copy_wait(int groups, const char *file, int line)
{
    copy_land(self, self->group - groups, file, line);
}

} // namespace emu

// tests/cuda_emu/hopper.h -- cuda/hopper.h on the emulation.
//
// A copy of a tile lands when somebody waits for its barrier; a product is carried out when it is waited for, and reads shared memory then. So a
// wait that is missing, or a tile that is written again too early, shows: as bytes that are still on their way, or as NaNs, of which C
// is full between wgmma() and the wait.
#ifndef TESTS_CUDA_EMU_HOPPER_H
#define TESTS_CUDA_EMU_HOPPER_H

#include "cuda/hopper.h"

#define __grid_constant__
#define SHARED_TILES(T, name) SHARED_DYNAMIC(T, name)

struct cuda_tile_map {
    const void *base;
    int64_t columns, rows;
    size_t stride;
    int box_rows;
};

namespace emu
{

// An operand of wgmma in shared memory, or registers (region -1).
struct operand {
    int region;
    bool turned, bf16;
    int64_t at, apart;
    uint32_t registers[4];
};

void barrier_init(int region, int64_t at, int arrivals, const char *file, int line);
void barrier_arrive(int region, int64_t at, int rank, int bytes, const char *file, int line);
void barrier_wait(int region, int64_t at, unsigned phase, const char *file, int line);
void tile_copy(int region, int64_t at, const struct cuda_tile_map *map, int64_t column, int64_t row,
               int barrier_region, int64_t barrier_at, unsigned ranks, const char *file, int line);
void byte_copy(int region, int64_t at, const void *from, int bytes, int barrier_region, int64_t barrier_at,
               const char *file, int line);
void sync_some(int id, int threads, const char *file, int line);
void shared_written(void);
void wgmma_begin(void);
void wgmma_issue(float *c, int n, const struct operand *a, const struct operand *b, bool add,
                 const char *file, int line);
void wgmma_end(void);
void wgmma_wait(int groups, const char *file, int line);

template <class T> constexpr bool is_bf16();
template <> constexpr bool is_bf16<bf16>()
{
    return true;
}
template <> constexpr bool is_bf16<f16>()
{
    return false;
}

} // namespace emu

inline void barrier_init(shared<uint64_t> b, int arrivals, EMU_HERE)
{
    emu::barrier_init(b.region, b.at, arrivals, file, line);
}

inline void barriers_made()
{
}

inline void barrier_expect(shared<uint64_t> b, int bytes, EMU_HERE)
{
    emu::barrier_arrive(b.region, b.at, emu::self->block->rank, bytes, file, line);
}

inline void barrier_arrive(shared<uint64_t> b, EMU_HERE)
{
    emu::barrier_arrive(b.region, b.at, emu::self->block->rank, 0, file, line);
}

inline void barrier_arrive_in(shared<uint64_t> b, int rank, EMU_HERE)
{
    emu::barrier_arrive(b.region, b.at, rank, 0, file, line);
}

inline void barrier_wait(shared<uint64_t> b, unsigned phase, EMU_HERE)
{
    emu::barrier_wait(b.region, b.at, phase, file, line);
}

inline void sync_cluster(EMU_HERE)
{
    emu::sync_cluster(file, line);
}

template <int ID, int THREADS> void sync_some(EMU_HERE)
{
    emu::sync_some(ID, THREADS, file, line);
}

inline void shared_written()
{
    emu::shared_written();
}

template <int N> void registers_take()
{
}

template <int N> void registers_give()
{
}

inline float exp2_fast(float x)
{
    return exp2f(x);
}

template <class T>
void copy_tile(shared<T> to, const struct cuda_tile_map *map, int64_t column, int64_t row, shared<uint64_t> b,
               EMU_HERE)
{
    emu::tile_copy(to.region, to.at, map, column, row, b.region, b.at, 1u << emu::self->block->rank, file,
                   line);
}

template <class T>
void copy_tile_to(unsigned ranks, shared<T> to, const struct cuda_tile_map *map, int64_t column, int64_t row,
                  shared<uint64_t> b, EMU_HERE)
{
    emu::tile_copy(to.region, to.at, map, column, row, b.region, b.at, ranks, file, line);
}

template <class T> void copy_bytes(shared<T> to, const void *from, int bytes, shared<uint64_t> b, EMU_HERE)
{
    emu::byte_copy(to.region, to.at, from, bytes, b.region, b.at, file, line);
}

template <class T, bool TURNED> struct tile_operand {
    emu::operand operand;
};

template <class T> tile_operand<T, false> tile_rows(shared<T> at)
{
    return {{at.region, false, emu::is_bf16<T>(), at.at, 0, {}}};
}

template <class T> tile_operand<T, true> tile_columns(shared<T> at, unsigned apart)
{
    return {{at.region, true, emu::is_bf16<T>(), at.at, apart, {}}};
}

inline void wgmma_begin()
{
    emu::wgmma_begin();
}

inline void wgmma_end()
{
    emu::wgmma_end();
}

template <int GROUPS> void wgmma_wait(EMU_HERE)
{
    emu::wgmma_wait(GROUPS, file, line);
}

template <int N, class T, bool A, bool B>
void wgmma(float (&c)[N / 2], tile_operand<T, A> a, tile_operand<T, B> b, bool add, EMU_HERE)
{
    emu::wgmma_issue(c, N, &a.operand, &b.operand, add, file, line);
}

template <int N, class T, bool B>
void wgmma(float (&c)[N / 2], const uint32_t (&a)[4], tile_operand<T, B> b, bool add, EMU_HERE)
{
    const emu::operand registers = {-1, false, emu::is_bf16<T>(), 0, 0, {a[0], a[1], a[2], a[3]}};
    emu::wgmma_issue(c, N, &registers, &b.operand, add, file, line);
}

#endif

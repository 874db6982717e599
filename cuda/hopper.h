// cuda/hopper.h -- the words of kernels for compute capability 9.0: copies of tiles that the device carries out by itself (TMA), barriers that
// count bytes, and products of 64 rows by four warps at once (wgmma). The same for nvcc and for the emulation of tests/cuda_emu/.
//
//   SHARED_TILES(char, memory)          dynamic shared memory on a boundary of 1024, which tiles need
//   barrier_init(b, n), barriers_made() a barrier in shared memory that n arrivals and the bytes which they announced complete
//   barrier_expect(b, bytes)            an arrival that announces bytes
//   barrier_wait(b, phase)              until phase 0, 1, 0, ... is complete; phase 1 of a new barrier is
//   copy_tile(to, &map, column, row, b) a box of a matrix on its way (cuda_tile_map of cuda/runtime.h), which the barrier will count
//   copy_bytes(to, from, bytes, b)      bytes that stand side by side, multiples of 16
//   CUDA_LAUNCH_CLUSTERS(...)           like CUDA_LAUNCH(); blocks CUDA_CLUSTER i and following run at once, and reach each other's dynamic
//                                       shared memory, where all is at the same place
//   cluster_rank(), sync_cluster()      the block's number in its cluster; a barrier of all threads of the cluster: behind the making of
//                                       barriers that other blocks reach, and in front of the end of a block that others reach
//   copy_tile_to(ranks, to, ...)        like copy_tile(), to the blocks whose bits `ranks` has, and counted by the barrier of each of them
//   barrier_arrive_in(b, rank)          an arrival at the barrier of that block: the thread's reads have ended; of its writes it says nothing
//   wgmma_begin(); wgmma<N>(c, a, b, add) ...; wgmma_end(); wgmma_wait<GROUPS>()
//   shared_written()                    what threads wrote to shared memory may be read by wgmma behind the next barrier
//   sync_some<ID, THREADS>()            a barrier of a part of the block, whole warps
//   exp2_fast(x)                        2^x to 2 units of the last place, 0 below the smallest normal number
//   registers_take<N>(), registers_give<N>()   of a warpgroup, from and to those of the block
//
// A tile is rows of 64 numbers of 16 bits, 128 bytes, which stand in shared memory with their 16-byte pieces exchanged: piece c of row r at
// place c ^ (r % 8) ("128-byte swizzle"). That is what copy_tile() writes and wgmma reads without conflicts of banks. A tile begins at a
// multiple of 1024. wgmma takes K by 16; an operand is
//   tile_rows(at)             rows are M or N, 16 numbers from `at` on are K: (64, 16) or (N, 16); steps of K are 16 numbers apart
//   tile_columns(at, apart)   rows are K, 16 of them from `at` on, columns M or N; a tile of the next 64 columns is `apart` bytes further;
//                             steps of K are 16 rows apart
// Numbers of C (64, N): lane l of warp w has C[i] of row 16 (w % 4) + l / 4 + 8 (i / 2 % 2), column 8 (i / 4) + 2 (l % 4) + i % 2.
//
// Sources: PTX ISA 8.5, "Asynchronous warpgroup level matrix instructions", "cp.async.bulk.tensor", "mbarrier", "barrier.cluster".
#ifndef CUDA_HOPPER_H
#define CUDA_HOPPER_H

#include "cuda/device.h"

// The code is there for 9.0a alone, and in the emulation; a kernel's body stands behind #if CUDA_HOPPER.
#if !defined(__CUDACC__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define CUDA_HOPPER 1
#else
#define CUDA_HOPPER 0
#endif

constexpr int TILE_COLUMNS = 64, WARPGROUP = 128;

// A K-major or M/N-major operand; `turned` is a part of the type, for the instruction wants it as a constant.
template <class T, bool TURNED> struct tile_operand;

#ifdef __CUDACC__
#include "cuda/hopper_ptx.h"
#else
#include "tests/cuda_emu/hopper.h"
#endif

__device__ inline int cluster_rank()
{
    return (int)blockIdx.x % CUDA_CLUSTER;
}

// The stages of a ring of tiles, and the phase of the barriers of the one that is next: it changes with every round.
template <int STAGES> struct ring {
    int stage = 0;
    unsigned phase = 0;

    __device__ void next()
    {
        if (++stage == STAGES) stage = 0, phase ^= 1;
    }
};

#endif

// tests/cuda_emu/control.h -- what a test says to the emulation, and hears from it.
#ifndef TESTS_CUDA_EMU_CONTROL_H
#define TESTS_CUDA_EMU_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Is this the emulation, which sees what a device does not, and whose memory is the host's? (A device: tests/gpu/device.cu.)
bool emu_here(void);

// The order in which the threads of a block, and the blocks of a grid, get their turns.
enum emu_order { EMU_FORWARD, EMU_BACKWARD, EMU_RANDOM, EMU_ORDERS };
void emu_set_order(enum emu_order order, uint64_t seed);

// From now on there are so many devices; at first there is one. Returns how many a test gets: of a real machine no more than it has.
enum { EMU_DEVICES = 4 };
int emu_set_devices(int count);
void emu_set_free(int device, size_t bytes); // memory that cuda_open() finds free there

// What was wrong with the first launch that failed since emu_forget(), or NULL. Until then no launch runs: as with a device,
// an error sticks.
const char *emu_error(void);
void emu_forget(void);
// Does the device copy tiles by itself (compute capability 9.0)? It does unless a test says otherwise.
void emu_set_tiles(bool there);
// Shared memory that a block may have, of the 227 KiB that it has at first.
void emu_set_shared(size_t bytes);
// Has the machine the library that adds up over devices? At first it has not.
void emu_set_nccl(bool there);
int64_t emu_nccl_sums(void);  // that it has made
size_t emu_bytes(int device); // of the device's memory, that are in use
// Launches since the program began that have run.
int64_t emu_launches(void);
// How often the host has waited for work and left the devices without any.
int64_t emu_idle(void);

#ifdef __cplusplus
}
#endif

#endif

// tests/cuda_emu/fiber.h -- stacks of their own that are switched by hand: the threads of an emulated block.
#ifndef TESTS_CUDA_EMU_FIBER_H
#define TESTS_CUDA_EMU_FIBER_H

#include <stddef.h>

enum { FIBER_STACK = 64 * 1024 };

// Where a stack was left. The caller of the first fiber_enter() is one too: its stack is the operating system's.
struct fiber {
    void *sp;
    char *stack; // FIBER_STACK bytes above a page that faults; of the caller: as AddressSanitizer knows it
    size_t bytes;
    void *fake_stack; // AddressSanitizer's
};

// `count` stacks, whose pages cost nothing until they are touched. Aborts where there is no room.
void fiber_stacks(struct fiber *fibers, size_t count);
// The fiber begins anew, at `entry`, when it is next entered. Whatever it was doing is forgotten.
void fiber_reset(struct fiber *f, void (*entry)(void));
// Leaves `from` and goes on where `to` was left.
void fiber_switch(struct fiber *from, struct fiber *to);
// The first thing that `entry` does; `from` is the fiber that was left.
void fiber_arrived(struct fiber *self, struct fiber *from);

#endif

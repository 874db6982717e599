#include "tests/cuda_emu/fiber.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

// A switch saves what the System V ABI wants kept by a callee, and swaps the stacks.
extern "C" void cuda_emu_switch(void **save, void *load);
__asm__(".text\n"
        ".globl cuda_emu_switch\n"
        ".type cuda_emu_switch, @function\n"
        "cuda_emu_switch:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size cuda_emu_switch, . - cuda_emu_switch\n");

// AddressSanitizer must know on which stack the program is, and that the remains of an abandoned one are nobody's.
#if defined(__SANITIZE_ADDRESS__)
#define ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ADDRESS_SANITIZER 1
#endif
#endif
#ifdef ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
static void leaving(struct fiber *from, struct fiber *to)
{
    __sanitizer_start_switch_fiber(&from->fake_stack, to->stack, to->bytes);
}
static void back(struct fiber *self)
{
    __sanitizer_finish_switch_fiber(self->fake_stack, NULL, NULL);
}
static void begun(struct fiber *self, struct fiber *from)
{
    const void *bottom;
    __sanitizer_finish_switch_fiber(self->fake_stack, &bottom, &from->bytes);
    from->stack = (char *)bottom;
}
static void forget(struct fiber *f)
{
    __asan_unpoison_memory_region(f->stack, f->bytes);
}
#else
static void leaving(struct fiber *, struct fiber *)
{
}
static void back(struct fiber *)
{
}
static void begun(struct fiber *, struct fiber *)
{
}
static void forget(struct fiber *)
{
}
#endif

enum { PAGE = 4096 };

void fiber_stacks(struct fiber *fibers, size_t count)
{
    const size_t apart = (size_t)FIBER_STACK + PAGE;
    char *memory = (char *)mmap(NULL, count * apart, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        fprintf(stderr, "cuda_emu: no room for the stacks of %zu threads\n", count);
        abort();
    }
    for (size_t i = 0; i < count; i++) {
        mprotect(memory + i * apart, PAGE, PROT_NONE);
        fibers[i] = {NULL, memory + i * apart + PAGE, FIBER_STACK, NULL};
    }
}

// As cuda_emu_switch leaves a stack: six registers, where to return to, and at a boundary of 16 what the entry would return to.
void fiber_reset(struct fiber *f, void (*entry)(void))
{
    forget(f);
    uintptr_t *top = (uintptr_t *)(f->stack + f->bytes);
    *--top = 0;
    *--top = (uintptr_t)entry;
    for (int i = 0; i < 6; i++) *--top = 0;
    f->sp = top;
    f->fake_stack = NULL;
}

void fiber_switch(struct fiber *from, struct fiber *to)
{
    leaving(from, to);
    cuda_emu_switch(&from->sp, to->sp);
    back(from);
}

void fiber_arrived(struct fiber *self, struct fiber *from)
{
    begun(self, from);
}

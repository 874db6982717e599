// tests/alloc.h -- the allocator under tests: counts what the program asks for, and fails when told to.
//
// The test program is linked with --wrap for malloc, calloc, realloc, aligned_alloc and mmap, so that calls from the
// program's objects (not from the C library) come here.
#ifndef TESTS_ALLOC_H
#define TESTS_ALLOC_H

// Allocations since the start of the process.
long alloc_count(void);
// The n-th allocation from now (0 is the next) and all behind it fail; -1: none.
void alloc_fail_after(long n);

#endif

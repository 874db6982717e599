// cli/bench_profile.h -- where the time of a pass goes: an op and type of weights a line, and a trace for a timeline viewer.
#ifndef CLI_BENCH_PROFILE_H
#define CLI_BENCH_PROFILE_H

#include "generate/forward.h"

struct bench_profile;

// Watches the passes of `f` from now on. Errors: MEMORY.
enum tlm_status bench_profile_open(struct bench_profile **out, struct forward *f, struct tlm_error *err);
// Says on stderr, under the test's name, what was seen in `seconds` of passes.
void bench_profile_report(const struct bench_profile *p, const char *test, double seconds);
// Writes what was seen in the trace event format that Chrome and Perfetto open. Errors: IO.
enum tlm_status bench_profile_trace(const struct bench_profile *p, const char *path, struct tlm_error *err);
void bench_profile_close(struct bench_profile *p); // NULL is allowed; f is no longer watched

#endif

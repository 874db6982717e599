// train/schedule.h -- the learning rate of a step, a pure function of its number.
//
//     rate |      ____________
//          |    /              \        constant | linear | cosine | warmup-stable-decay
//          |  /                  \___ minimum
//          |/___________________________ steps
//           warmup             decay
#ifndef TRAIN_SCHEDULE_H
#define TRAIN_SCHEDULE_H

#include "core/error.h"

enum schedule_kind {
    SCHEDULE_CONSTANT,
    SCHEDULE_LINEAR,   // from the end of the warmup to the last step in a straight line
    SCHEDULE_COSINE,   // in half a wave (Loshchilov and Hutter, arXiv 1608.03983, without restarts)
    SCHEDULE_WSD,      // constant, then in a straight line over the last steps (Hu et al., arXiv 2404.06395)
    SCHEDULE_WSD_SQRT, // constant, then by 1 - sqrt (Hägele et al., arXiv 2405.18392)
};

struct schedule {
    enum schedule_kind kind;
    double peak;    // learning rate at the end of the warmup
    double minimum; // where it ends, as a share of the peak
    int64_t steps;  // of the run; unused when constant
    int64_t warmup; // steps in which it rises from peak / warmup in a straight line
    int64_t decay;  // of warmup-stable-decay: the last steps, in which it falls
};

// Errors: ARGUMENT where the numbers make no schedule.
enum tlm_status schedule_check(const struct schedule *s, struct tlm_error *err);
// Of step 0, 1 ... The step behind the last has exactly peak * minimum, and so have all behind it.
double schedule_rate(const struct schedule *s, int64_t step);

#endif

// generate/shift.h -- keys and values that have moved to other positions.
#ifndef GENERATE_SHIFT_H
#define GENERATE_SHIFT_H

#include "generate/forward.h"

// Copies the keys and values of `count` positions of sequence `from` to those of sequence `to`, which kv_reserve() has added: the keys are
// turned by the difference of the positions, the values stay. What they say of the tokens that stood in front of them stays, too, so this
// is not what a pass would compute. F64 caches cannot be shifted: TLM_ASSERT.
void shift_rows(struct forward *f, int32_t to, int32_t to_position, int32_t from, int32_t from_position,
                int32_t count);

#endif

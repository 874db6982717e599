#include "ops/step.h"

enum tlm_status step_init(struct step *s, int32_t max_rows, int32_t max_outputs, int32_t max_sequences,
                          int32_t blocks_per_sequence, int32_t groups, size_t more, struct tlm_error *err)
{
    *s = (struct step){.max_rows = max_rows,
                       .max_outputs = max_outputs,
                       .max_sequences = max_sequences,
                       .blocks_per_sequence = blocks_per_sequence,
                       .groups = groups};
    TLM_ASSERT(groups >= 1 && groups <= STEP_GROUPS);
    size_t rows = align_up((size_t)max_rows * 4, ARENA_ALIGN),
           outputs = align_up((size_t)max_outputs * 4, ARENA_ALIGN);
    // Every row may be a sequence of its own, so there may be as many tiles as rows.
    size_t tiles = align_up((size_t)max_rows * sizeof *s->tiles, ARENA_ALIGN);
    size_t tables = align_up((size_t)max_sequences * (size_t)blocks_per_sequence * 4, ARENA_ALIGN);
    enum tlm_status status = arena_init(
        &s->memory, ARENA_ALIGN + 2 * rows + outputs + 2 * tiles + (size_t)groups * (rows + tables) + more,
        "step data", err);
    if (status) return status;
    s->counts = arena_alloc(&s->memory, EXTENT_COUNT * sizeof *s->counts);
    s->tokens = arena_alloc(&s->memory, rows);
    s->positions = arena_alloc(&s->memory, rows);
    s->outputs = arena_alloc(&s->memory, outputs);
    s->tiles = arena_alloc(&s->memory, tiles);
    s->prefix_tiles = arena_alloc(&s->memory, tiles);
    for (int32_t g = 0; g < groups; g++) {
        s->slots[g] = arena_alloc(&s->memory, rows);
        s->block_tables[g] = arena_alloc(&s->memory, tables);
    }
    return TLM_OK;
}

void step_free(struct step *s)
{
    arena_free(&s->memory);
}

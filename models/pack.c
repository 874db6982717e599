// models/pack.c -- brings weights into the order that integer kernels read (ops/packed.h), when a model is opened.
//
// All threads share the groups of 16 rows of all matrices. The packed copy is the one that runs: the pages of the file are given
// back behind it. Embeddings stay in the file, for rows are read from them; an output that is tied to them gets a copy of its own.
#include <stdatomic.h>
#include <sys/mman.h>

#include "core/threads.h"
#include "models/model.h"
#include "ops/packed.h"

struct job {
    const struct tensor *from;
    struct tensor *to;
    int64_t first; // unit
};

struct packer {
    struct tlm_model *m;
    struct job *jobs;
    int64_t count, units; // matrices; groups of them all
    atomic_llong next;
};

enum { CHUNK = 32 }; // groups that a thread takes at once

static int64_t groups_of(const struct tensor *t)
{
    return (t->ne[1] + PACKED_ROWS - 1) / PACKED_ROWS;
}

static bool is_packed(const struct tlm_model *m, const struct tensor *t)
{
    return t && t->place == 0 && m->kernels.matmul[t->type].packed;
}

// Calls `found` for every slot whose matrix is to be packed: of what the CPU computes.
static void each_matrix(struct packer *p, void (*found)(struct packer *p, const struct tensor **slot))
{
    struct tlm_model *m = p->m;
    for (size_t i = 0; i < m->arch->weight_count; i++) {
        const struct weight_spec *spec = &m->arch->weights[i];
        const bool in_layer = strstr(spec->gguf, "%d") != NULL;
        // What is multiplied head by head takes rows of the file (ops/nodes.c).
        if ((spec->role != ROLE_MATRIX && spec->role != ROLE_ROUTER) || spec->depth == DIM_HEADS) continue;
        for (int64_t l = 0; l < (in_layer ? m->hparams.layers : 1); l++) {
            char *base = in_layer ? (char *)&m->weights.layer[l] : (char *)&m->weights;
            const struct tensor **slot = (const struct tensor **)(base + spec->slot);
            if (is_packed(m, *slot)) found(p, slot);
        }
    }
    if (!m->weights.out && is_packed(m, m->head.weight)) found(p, &m->head.weight);
}

static void count_matrix(struct packer *p, const struct tensor **slot)
{
    (void)slot;
    p->count++;
}

static void add_job(struct packer *p, const struct tensor **slot)
{
    struct tensor *to = arena_alloc(&p->m->packed, sizeof *to);
    p->jobs[p->count++] = (struct job){*slot, to, p->units};
    p->units += groups_of(*slot) * (*slot)->ne[2];
    *slot = to;
}

static size_t bytes_of(const struct tensor *t)
{
    return packed_group_bytes(t->type, t->ne[0]) * (size_t)(groups_of(t) * t->ne[2]);
}

static void pack_groups(void *user, int thread)
{
    (void)thread;
    struct packer *p = user;
    for (int64_t begin; (begin = atomic_fetch_add(&p->next, CHUNK)) < p->units;) {
        int64_t low = 0, high = p->count - 1, end = begin + CHUNK < p->units ? begin + CHUNK : p->units;
        while (low < high) { // the last job that begins at or before the unit
            int64_t middle = (low + high + 1) / 2;
            if (p->jobs[middle].first <= begin)
                low = middle;
            else
                high = middle - 1;
        }
        for (int64_t u = begin; u < end; u++) {
            if (low + 1 < p->count && p->jobs[low + 1].first <= u) low++;
            const struct tensor *from = p->jobs[low].from, *to = p->jobs[low].to;
            int64_t groups = groups_of(from), at = u - p->jobs[low].first, row = at % groups * PACKED_ROWS;
            int64_t rows = from->ne[1] - row < PACKED_ROWS ? from->ne[1] - row : PACKED_ROWS;
            const char *source =
                (const char *)from->data + (size_t)(at / groups) * from->nb[2] + (size_t)row * from->nb[1];
            packed_group((char *)to->data + (size_t)at * to->nb[1], from->type, source, from->nb[1], rows,
                         from->ne[0]);
        }
    }
}

enum tlm_status model_pack(struct tlm_model *m, struct tlm_error *err)
{
    struct packer p = {.m = m};
    each_matrix(&p, count_matrix);
    if (!p.count) return TLM_OK;
    enum tlm_status status = TLM_ERR_MEMORY;
    struct threads *threads = NULL;
    size_t headers = (size_t)p.count * align_up(sizeof(struct tensor), ARENA_ALIGN), bytes = 0;
    p.jobs = malloc((size_t)p.count * sizeof *p.jobs);
    if (!p.jobs)
        return error_set(err, TLM_ERR_MEMORY, "weights: no memory to pack %lld matrices", (long long)p.count);
    p.count = 0;
    if ((status = arena_init(&m->packed, headers, "packed weights", err))) goto out;
    each_matrix(&p, add_job);
    for (int64_t i = 0; i < p.count; i++) bytes += align_up(bytes_of(p.jobs[i].from), ARENA_ALIGN);
    if ((status = arena_init(&m->packed_data, bytes, "packed weights", err))) goto out;
    madvise(m->packed_data.base, m->packed_data.size, MADV_HUGEPAGE); // a hint
    for (int64_t i = 0; i < p.count; i++) {
        const struct tensor *from = p.jobs[i].from;
        struct tensor *to = p.jobs[i].to;
        *to = *from;
        to->data = arena_alloc(&m->packed_data, bytes_of(from));
        to->nb[1] = packed_group_bytes(from->type, from->ne[0]); // of a group
        to->nb[2] = to->nb[1] * (size_t)groups_of(from);
        to->nb[3] = to->nb[2] * (size_t)from->ne[2];
    }
    if ((status = threads_open(&threads, cpu_count(), err))) goto out;
    threads_run(threads, pack_groups, &p);
    if (m->weights.out) m->head.weight = m->weights.out;
    for (int64_t i = 0; i < p.count; i++) gguf_drop_pages(m->gguf, p.jobs[i].from);
out:
    threads_close(threads);
    free(p.jobs);
    return status;
}

// cuda/backend.c -- the device behind ops/backend.h: weights are brought there once, a pass's data when it begins, logits back.
#include "cuda/backend.h"

#include <stdlib.h>
#include <string.h>

#include "cuda/planes.h"

static enum tlm_status no_memory(const char *what, size_t bytes, struct tlm_error *err)
{
    return error_set(err, TLM_ERR_MEMORY, "cuda: %s: cannot take %.1f MiB of the device's memory", what,
                     (double)bytes / 0x1p20);
}

// ---- runners ----------------------------------------------------------------------------------------------

static void runner_close(struct runner *r)
{
    if (!r) return;
    for (int64_t i = 0; i < r->memory_count; i++) cuda_free(r->memory[i]);
    cuda_stream_close(r->stream);
    free(r->memory);
    free(r);
}

static enum tlm_status runner_alloc(struct runner *r, void **out, size_t bytes, const char *what,
                                    struct tlm_error *err)
{
    void **more = realloc(r->memory, (size_t)(r->memory_count + 1) * sizeof *more);
    if (!more) return error_set(err, TLM_ERR_MEMORY, "cuda: %s: no memory", what);
    r->memory = more;
    if (!(*out = cuda_alloc(bytes ? bytes : 1))) return no_memory(what, bytes, err);
    r->memory[r->memory_count++] = *out;
    return TLM_OK;
}

static enum tlm_status runner_open(struct backend *b, struct runner **out, struct tlm_error *err)
{
    struct runner *r = *out = calloc(1, sizeof *r);
    if (!r) return error_set(err, TLM_ERR_MEMORY, "cuda: no memory for a pass");
    r->backend = (struct cuda_backend *)b;
    r->stream = cuda_stream_open();
    return TLM_OK;
}

static enum tlm_status runner_set_step(struct runner *r, const struct arena *step, struct tlm_error *err)
{
    void *copy = NULL;
    enum tlm_status s = runner_alloc(r, &copy, step->used, "step data", err);
    r->step = step;
    r->device_step = copy;
    return s;
}

static void runner_copy(struct runner *r, void *to, const void *from, size_t bytes)
{
    cuda_copy(r->stream, to, from, bytes);
}

static enum tlm_status runner_run(struct runner *r, const struct graph *g, void *scratch, void *to,
                                  const void *from, size_t bytes, struct tlm_error *err)
{
    cuda_copy_in(r->stream, r->device_step, r->step->base, r->step->used);
    graph_run(g, NULL, scratch);
    if (bytes) cuda_copy_out(r->stream, to, from, bytes);
    return cuda_sync(r->stream, err);
}

// ---- placing ----------------------------------------------------------------------------------------------

static struct placed *find(const struct cuda_backend *b, const struct tensor *t)
{
    for (int64_t i = 0; i < b->placed_count; i++)
        if (b->placed[i].host == t->data && b->placed[i].type == t->type) return &b->placed[i];
    return NULL;
}

static enum tlm_status upload(const struct tensor *t, void *device, struct tlm_error *err)
{
    const size_t bytes = planes_bytes(t);
    char *planes = malloc(bytes);
    if (!planes)
        return error_set(err, TLM_ERR_MEMORY, "cuda: no memory to bring %.1f MiB of weights to the device",
                         (double)bytes / 0x1p20);
    planes_put(planes, t, 0, t->ne[1] * t->ne[2] * t->ne[3]);
    cuda_copy_in(NULL, device, planes, bytes);
    enum tlm_status s = cuda_sync(NULL, err);
    free(planes);
    return s;
}

// Turns the weight to the device, where it is brought if it is not there.
static enum tlm_status place_weight(struct cuda_backend *b, struct tensor *t, struct tlm_error *err)
{
    const struct placed *known = find(b, t);
    if (known) {
        t->data = known->device;
        return TLM_OK;
    }
    if (b->placed_count == b->placed_room) {
        int64_t room = b->placed_room ? 2 * b->placed_room : 64;
        struct placed *more = realloc(b->placed, (size_t)room * sizeof *more);
        if (!more) return error_set(err, TLM_ERR_MEMORY, "cuda: no memory for a list of weights");
        b->placed = more, b->placed_room = room;
    }
    const size_t bytes = planes_bytes(t);
    void *device = cuda_alloc(bytes);
    if (!device) return no_memory("weights", bytes, err);
    b->placed[b->placed_count++] = (struct placed){t->data, t->type, device};
    enum tlm_status s = upload(t, device, err);
    t->data = device;
    return s;
}

static bool in_step(const struct runner *r, const void *p)
{
    return (const char *)p >= r->step->base && (const char *)p < r->step->base + r->step->used;
}

// A leaf is an array of the step, whose copy has the same layout; the frequencies of rotation, which are the pass's own; or a weight.
static enum tlm_status place_leaf(struct runner *r, struct node *n, struct tlm_error *err)
{
    struct tensor *t = &n->out;
    if (in_step(r, t->data)) {
        t->data = r->device_step + ((char *)t->data - r->step->base);
        return TLM_OK;
    }
    if (t->type == DTYPE_F64) {
        const void *host = t->data;
        enum tlm_status s = runner_alloc(r, &t->data, tensor_bytes(t), "frequencies", err);
        if (s) return s;
        cuda_copy_in(r->stream, t->data, host, tensor_bytes(t));
        return cuda_sync(r->stream, err);
    }
    if (!planes_known(t->type))
        return error_set(err, TLM_ERR_UNSUPPORTED, "cuda: no kernel for weights of type %s yet",
                         dtype_traits[t->type].name);
    return place_weight(r->backend, t, err);
}

// Vectors that attention's parameters point to.
static enum tlm_status place_vector(struct runner *r, struct graph *g, const struct tensor **t,
                                    struct tlm_error *err)
{
    if (!*t) return TLM_OK;
    struct tensor *copy = arena_alloc(&g->params, sizeof *copy);
    *copy = **t;
    *t = copy;
    return place_weight(r->backend, copy, err);
}

static enum tlm_status runner_place(struct runner *r, struct graph *g, struct tlm_error *err)
{
    struct node *nodes = (struct node *)g->nodes.base;
    for (int64_t i = 0; i < g->node_count; i++) {
        struct node *n = &nodes[i];
        enum tlm_status s = n->op == GRAPH_LEAF ? place_leaf(r, n, err) : cuda_node_check(n, err);
        if (s) return s;
        if (n->op != OP_attention) continue;
        struct attention_params *p = arena_alloc(&g->params, sizeof *p);
        *p = *(const struct attention_params *)n->params;
        n->params = p;
        if ((s = place_vector(r, g, &p->sinks, err)) || (s = place_vector(r, g, &p->slopes, err))) return s;
    }
    return TLM_OK;
}

// ---- the backend ------------------------------------------------------------------------------------------

static void backend_close(struct backend *base)
{
    struct cuda_backend *b = (struct cuda_backend *)base;
    if (!b) return;
    for (int64_t i = 0; i < b->placed_count; i++) cuda_free(b->placed[i].device);
    cuda_close(&b->device);
    free(b->placed);
    free(b);
}

static const struct backend_class cuda_class = {
    .name = "cuda",
    .ops = cuda_op_table,
    .close = backend_close,
    .check = cuda_node_check,
    .runner_open = runner_open,
    .runner_close = runner_close,
    .alloc = runner_alloc,
    .copy = runner_copy,
    .set_step = runner_set_step,
    .place = runner_place,
    .run = runner_run,
};

enum tlm_status cuda_backend_open(struct backend **out, struct tlm_error *err)
{
    struct cuda_backend *b = calloc(1, sizeof *b);
    *out = NULL;
    if (!b) return error_set(err, TLM_ERR_MEMORY, "cuda: no memory");
    enum tlm_status s = cuda_open(&b->device, err);
    if (s) {
        free(b);
        return s;
    }
    b->base.class = &cuda_class;
    snprintf(b->base.device, sizeof b->base.device, "%s, %.0f GiB", b->device.name,
             (double)b->device.memory / 0x1p30);
    for (int type = 0; type < DTYPE_COUNT; type++) {
        const enum dtype input = cuda_matmul_input((enum dtype)type);
        b->base.kernels.matmul[type].x_type =
            input == DTYPE_COUNT ? DTYPE_F32 : input; // check() refuses the product
    }
    *out = &b->base;
    return TLM_OK;
}

// cuda/backend.c -- the device behind ops/backend.h: weights are brought there once, a pass's data when it begins, logits back.
#include "cuda/backend.h"

#include <stdlib.h>
#include <string.h>

#include "cuda/fuse.h"
#include "cuda/planes.h"

enum tlm_status cuda_no_memory(const char *what, size_t bytes, struct tlm_error *err)
{
    return error_set(err, TLM_ERR_MEMORY, "cuda: %s: cannot take %.1f MiB of the device's memory", what,
                     (double)bytes / 0x1p20);
}

struct cublas *cuda_backend_cublas(struct cuda_backend *b)
{
    struct tlm_error why;
    if (!b->cublas_sought && cublas_open(&b->cublas, &why))
        snprintf(b->base.note, sizeof b->base.note, "%.200s; products of many rows are our own", why.text);
    b->cublas_sought = true;
    return b->cublas;
}

// ---- placing ----------------------------------------------------------------------------------------------

static struct placed *find(const struct cuda_backend *b, const struct tensor *t)
{
    for (int64_t i = 0; i < b->placed_count; i++)
        if (b->placed[i].host == t->data && b->placed[i].type == t->type &&
            b->placed[i].count == tensor_elements(t))
            return &b->placed[i];
    return NULL;
}

// A matrix may be made up; vectors are the model's.
static enum tlm_status upload(struct cuda_backend *b, const struct tensor *t, void *device,
                              struct tlm_error *err)
{
    if (!b->ring.memory.base) {
        enum tlm_status s = upload_open(&b->ring, err);
        if (s) return s;
    }
    const bool matrix = t->ne[1] * t->ne[2] * t->ne[3] > 1;
    return b->base.stand_in && matrix ? upload_stand_in(&b->ring, t, device, err)
                                      : upload_weight(&b->ring, t, device, err);
}

enum tlm_status cuda_place(struct cuda_backend *b, struct tensor *t, struct tlm_error *err)
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
    cuda_use(&b->device);
    void *device = cuda_alloc(bytes);
    if (!device) return cuda_no_memory("weights", bytes, err);
    b->placed[b->placed_count++] = (struct placed){t->data, t->type, tensor_elements(t), device};
    enum tlm_status s = upload(b, t, device, err);
    t->data = device;
    return s;
}

static bool in_step(const struct runner *r, const void *p)
{
    return (const char *)p >= r->step->base && (const char *)p < r->step->base + r->step->used;
}

static bool is_own(const struct runner *r, const void *p)
{
    for (int64_t i = 0; i < r->memory_count; i++)
        if (r->memory[i] == p) return true;
    return false;
}

// A leaf is an array of the step, whose copy has the same layout; the frequencies of rotation, which are the pass's own; memory of the
// device already; or a weight.
static enum tlm_status place_leaf(struct runner *r, struct node *n, struct tlm_error *err)
{
    struct tensor *t = &n->out;
    if (is_own(r, t->data)) return TLM_OK;
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
    return cuda_place(r->backend, t, err);
}

// Vectors that attention's parameters point to.
static enum tlm_status place_vector(struct runner *r, struct graph *g, const struct tensor **t,
                                    struct tlm_error *err)
{
    if (!*t) return TLM_OK;
    struct tensor *copy = arena_alloc(&g->params, sizeof *copy);
    *copy = **t;
    *t = copy;
    return cuda_place(r->backend, copy, err);
}

// The conversion whose rows experts multiply, and how many of them a row becomes; NULL where there is none.
static struct node *conversion_of_experts(const struct node *n, int64_t *used)
{
    struct node *x = n->in[0];
    *used = 1;
    if (x->op == OP_gather_experts) *used = x->out.ne[1] / x->in[0]->out.ne[1], x = x->in[0];
    return x->op == OP_convert && x->out.type == DTYPE_Q8_1 ? x : NULL;
}

// Many rows' activations of quantized weights are bf16, which takes less than two times the codes; where experts read them, from more rows on.
static void prepare_many_rows(struct graph *g, struct node *n)
{
    if (n->out.ne[1] < CUDA_MANY_ROWS || n->op == GRAPH_LEAF) return;
    if (n->out.type == DTYPE_Q8_1) n->out = tensor_shape(DTYPE_Q8_1, n->out.ne[0], n->out.ne[1], 2, 1);
    int64_t used;
    struct node *x = n->op == OP_matmul_experts ? conversion_of_experts(n, &used) : NULL;
    if (!x) return;
    const int64_t rows = CUDA_MANY_EXPERT_ROWS * n->in[1]->out.ne[2] / used;
    if (rows <= many_rows(x)) return;
    struct many_rows_params *p = arena_alloc(&g->params, sizeof *p);
    p->rows = rows;
    x->params = p;
}

static enum tlm_status runner_place(struct runner *r, struct graph *g, struct tlm_error *err)
{
    struct node *nodes = (struct node *)g->nodes.base;
    cuda_use(&r->backend->device);
    cuda_join_gradients(g);
    cuda_narrow_graph(g);
    for (int64_t i = 0; i < g->node_count; i++) {
        struct node *n = &nodes[i];
        enum tlm_status s = n->op == GRAPH_LEAF ? place_leaf(r, n, err) : cuda_node_check(n, err);
        if (!s && n->effect == EFFECT_GRADIENT) s = cuda_place(r->backend, &n->out, err);
        if (s) return s;
        prepare_many_rows(g, n);
        if (n->op == OP_matmul && cublas_wins(n->in[1]->out.type, n->out.ne[1]))
            cuda_backend_cublas(r->backend);
        if (n->op != OP_attention && n->op != OP_attention_prefix) continue;
        const size_t bytes =
            n->op == OP_attention ? sizeof(struct attention_params) : sizeof(struct attention_prefix_params);
        struct attention_params *p = arena_alloc(&g->params, bytes); // those of a prefix begin with them
        memcpy(p, n->params, bytes);
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
    cuda_use(&b->device);
    for (int64_t i = 0; i < b->placed_count; i++) cuda_free(b->placed[i].device);
    upload_close(&b->ring);
    cublas_close(b->cublas);
    jit_close(b->jit);
    cuda_close(&b->device);
    free(b->placed);
    free(b);
}

static void make_kernels(struct backend *base, const char *folder)
{
    struct cuda_backend *b = (struct cuda_backend *)base;
    cuda_use(&b->device);
    jit_close(b->jit);
    b->jit = jit_open(&b->device, folder, base->note, sizeof base->note);
}

static void made(const struct backend *base, char *text, size_t size)
{
    const struct cuda_backend *b = (const struct cuda_backend *)base;
    const struct jit_counts c = b->jit ? jit_counts(b->jit) : (struct jit_counts){0};
    *text = '\0';
    if (c.compiled || c.found)
        snprintf(text, size,
                 "kernels for the model's sizes: %d compiled, %d found, in %.2f s; %d are faster than the "
                 "program's own",
                 c.compiled, c.found, c.seconds, c.chosen);
}

static const struct backend_class cuda_class = {
    .name = "cuda",
    .ops = cuda_op_table,
    .close = backend_close,
    .make_kernels = make_kernels,
    .made = made,
    .check = cuda_node_check,
    .runner_open = runner_open,
    .runner_close = runner_close,
    .alloc = runner_alloc,
    .copy = runner_copy,
    .bring = runner_bring,
    .take = runner_take,
    .hand_over = runner_hand_over,
    .set_step = runner_set_step,
    .place = runner_place,
    .fuse = cuda_fuse,
    .pin = runner_pin,
    .keep = runner_keep,
    .begin = runner_begin,
    .launch = runner_launch,
    .wait = runner_wait,
    .mark = runner_mark,
    .reach = runner_reach,
    .draw_open = runner_draw_open,
    .bring_draws = runner_bring_draws,
    .take_draws = runner_take_draws,
    .follow = runner_follow,
    .adder_open = cuda_adder_open,
    .adder_close = cuda_adder_close,
    .add_up = cuda_add_up,
    .measure = cuda_measure,
    .training = &cuda_training,
};

int cuda_backend_count(void)
{
    return cuda_count();
}

enum tlm_status cuda_backend_open(struct backend **out, int number, struct tlm_error *err)
{
    struct cuda_backend *b = calloc(1, sizeof *b);
    *out = NULL;
    if (!b) return error_set(err, TLM_ERR_MEMORY, "cuda: no memory");
    enum tlm_status s = cuda_open(&b->device, number, err);
    if (s) {
        free(b);
        return s;
    }
    b->base.class = &cuda_class;
    b->base.number = number;
    b->base.memory = b->device.memory, b->base.available = b->device.available;
    snprintf(b->base.device, sizeof b->base.device, "%s, %.0f GiB", b->device.name,
             (double)b->device.memory / 0x1p30);
    for (int type = 0; type < DTYPE_COUNT; type++) {
        const enum dtype input = cuda_matmul_input((enum dtype)type);
        b->base.kernels.matmul[type].x_type =
            input == DTYPE_COUNT ? DTYPE_F32 : input; // check() refuses the product
        b->base.kernels.matmul_nn[type].x_type = type == DTYPE_BF16 ? DTYPE_BF16 : DTYPE_F32;
    }
    *out = &b->base;
    return TLM_OK;
}

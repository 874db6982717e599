// cuda/nodes_fused.c -- the fused ops as launches (cuda/fuse.c makes them).
#include "cuda/fuse.h"
#include "cuda/nodes.h"
#include "cuda/planes.h"
#include "cuda/products.h"

#define RUN(name) CUDA_DECLARE(name)

struct cuda_fused_shape cuda_fused_shape_of(const struct cuda_matrix *w)
{
    return (struct cuda_fused_shape){.type = w->type,
                                     .inputs = (int32_t)w->inputs,
                                     .parts = 1,
                                     .outputs = {(int32_t)w->outputs},
                                     .code_stride = (int32_t)w->code_stride,
                                     .scale_stride = (int32_t)w->scale_stride};
}

RUN(product)
{
    UNUSED;
    const struct fused_product_params *p = n->params;
    struct cuda_fused_product launch = p->launch;
    launch.rows = rows(g, n);
    launch.jit = cuda_runner_of(g)->backend->jit;
    launch.x = input(n, 0);
    launch.base = p->added ? input(n, 1) : NULL;
    for (int32_t i = 0; i < launch.shape.parts; i++) launch.part[i].y = p->out[i]->out.data;
    cuda_fused_product(stream_of(g), &launch, cuda_runner_of(g)->backend->device.processors);
}

// What is added stands where results go, most times. So where the product cannot add it, its results go behind its own scratch.
size_t cuda_scratch_linear(const struct graph *g, const struct node *n)
{
    return align_up(cuda_multiply_scratch(g, n), 256) + (n->base ? tensor_bytes(&n->out) : 0);
}

// The library adds no bias, and a residual only where its results go: elsewhere these are passes of 8 bytes a number, for which the product
// has 2 K operations. On an H200 (4 TB/s, 700 TFLOPS in bf16) such a pass takes as long as a product of K = 700, and on an A100 the same; up to
// 4096 that is more than the library may be faster by than a product of our own that makes its results with both.
enum { LIBRARY_INPUTS = 4096 };

static bool library_adds(const struct node *n, const float *bias, const float *base)
{
    return n->in[0]->out.ne[0] > LIBRARY_INPUTS || !(bias || (base && base != n->out.data));
}

RUN(linear)
{
    (void)begin, (void)end;
    const float *bias = ((const struct fused_linear_params *)n->params)->bias,
                *base = n->base ? n->base->out.data : NULL;
    const size_t own = cuda_multiply_scratch(g, n);
    struct cuda_matrix w = planes_matrix(&n->in[1]->out, input(n, 1), 0);
    struct cuda_stream *s = stream_of(g);
    const int64_t cols = n->out.ne[0];
    float *y = n->out.data;
    w.jit = cuda_runner_of(g)->backend->jit;
    if (library_adds(n, bias, base) && cuda_multiply_library(g, n, &w, base)) {
        if (bias) cuda_bias(s, y, y, bias, rows(g, n), cols);
        return;
    }
    const struct cuda_rows all = {NULL, graph_rows(g, n)};
    const struct cuda_addends addends = {base, bias};
    if (has_many_rows(g, n->in[0]) && matmul_many_added(s, y, input(n, 0), &w, all, addends, scratch, own))
        return;
    struct node apart = *n;
    if (base) apart.out.data = y = (float *)(void *)((char *)scratch + align_up(own, 256));
    cuda_multiply(g, &apart, input(n, 0), n->in[0], &w, (struct cuda_groups){1, NULL}, scratch);
    if (bias) cuda_bias(s, y, y, bias, rows(g, n), cols);
    if (base) cuda_add(s, n->out.data, base, y, rows(g, n), cols);
}

RUN(norm_add)
{
    UNUSED;
    struct cuda_fused_norm_add launch = ((const struct fused_norm_add_params *)n->params)->launch;
    launch.rows = rows(g, n);
    launch.cols = n->out.ne[0];
    launch.y = n->out.data, launch.x = input(n, 0), launch.base = input(n, 1);
    cuda_fused_norm_add(stream_of(g), &launch);
}

RUN(heads)
{
    UNUSED;
    const struct fused_heads_params *p = n->params;
    struct cuda_fused_heads launch = p->launch;
    launch.rows = rows_of(g, p->x[1]->extent, p->x[1]->out.ne[1]);
    launch.table = p->table ? p->table->out.data : NULL;
    for (int i = 0; i < 3; i++) launch.kind[i].x = p->x[i] ? p->x[i]->out.data : NULL;
    if (p->q) launch.kind[0].y = p->q->out.data;
    cuda_fused_heads(stream_of(g), &launch);
}

// cuda/follow.cu -- a pass that begins before the host knows what the pass in front draws: its tokens are put where this one reads them, and
// counted among those that the penalties of its draws look at.
#include "cuda/sample.h"

constexpr int THREADS = 128;

// The counts of a row's changes (generate/draws.c) are of the tokens in front of this one, without what it pushes out of the window.
__device__ static void count_token(struct draws *data, int64_t row, const int32_t *drawn, shared<int> part)
{
    struct draw_row &r = data->rows[row];
    if (!r.behind) return;
    struct draw_change *changes = (struct draw_change *)((char *)data + r.changes);
    const int32_t token = load(drawn + r.behind - 1), count = r.change_count;
    int found = 0;
    for (int32_t i = (int32_t)threadIdx.x; i < count; i += THREADS)
        if (changes[i].token == token) {
            store(&changes[i].count, changes[i].count + 1);
            found = 1;
        }
    found = sample::fold(found, part, sample::either);
    if (found || token < 0 || threadIdx.x) return;
    store(&changes[count].token, token);
    store(&changes[count].bias, 0.0f);
    store(&changes[count].count, 1);
    store(&r.change_count, count + 1);
}

// A token that the device could not draw is the host's, which runs this pass anew; any other will do here.
static __global__ void follow_kernel(int32_t *tokens, int64_t rows, struct draws *data, const int32_t *drawn)
{
    SHARED(int, part, WARP_LANES);
    const int64_t row = blockIdx.x;
    if (row < rows && threadIdx.x == 0) {
        const int32_t token = load(tokens + row);
        const int32_t known = token < 0 ? load(drawn + ~token) : token;
        if (token < 0) store(tokens + row, known < 0 ? 0 : known);
    }
    if (row < data->count) count_token(data, row, drawn, part);
}

void cuda_follow(struct cuda_stream *s, int32_t *tokens, int64_t rows, const struct cuda_sample *a)
{
    CUDA_LAUNCH(follow_kernel, blocks_for(rows, 1), THREADS, 0, s, tokens, rows, (struct draws *)a->data,
                a->drawn);
}

// cuda/update.cu -- one step of AdamW, Lion or SGD, bit for bit that of ops/update.c, with moments of f32, bf16 or 8 bits.
//
// Bound by memory: value, gradient and moments are read once, and value, moments and the bf16 copy written. A warp takes the 256 numbers that
// share a scale of 8-bit codes, a lane two times four of them, 16 bytes of f32 at an access.
#include "cuda/device.h"
#include "cuda/update.h"
#include "ops/update_codes.h"

enum { THREADS = 128, WARPS = THREADS / WARP_LANES, PIECE = 4, PIECES = 2, EACH = PIECE * PIECES };
static_assert(WARP_LANES * EACH == UPDATE_BLOCK, "a warp takes a block");

// ---- 8-bit codes: ops/update.c's, with the maps in shared memory ------------------------------------------

enum { MAP_FLOATS = sizeof(struct code_map) / sizeof(float) };
__device__ static const struct code_map maps[2] = {MAP(1), MAP(2)}; // unsigned, signed

// Where a member stands among the map's floats.
#define FLOAT_OF(member) (int)(offsetof(struct code_map, member) / sizeof(float))

__device__ static float number_at(shared<float> map, int32_t j)
{
    const float place = (float)j;
    const int row = (int)(f32_to_bits(place) >> 23 & 7);
    return fmaf(place, map[FLOAT_OF(slope) + row], map[FLOAT_OF(offset) + row]);
}

__device__ static int32_t place_of(shared<float> map, float x, float chance)
{
    const float decades = fmaf((float)(int32_t)f32_to_bits(x), DECADE_SCALE, DECADE_START);
    int32_t decade = (int32_t)fmaxf(decades, 0) & 7;
    decade += x > map[FLOAT_OF(next) + decade];
    float place = fmaf(x, map[FLOAT_OF(inverse) + decade], map[FLOAT_OF(start) + decade]);
    const float last = map[FLOAT_OF(last) + decade];
    place = fmaf(fmaxf(place - last, 0), map[FLOAT_OF(behind) + decade], fminf(place, last));
    place = fminf(place, fmaf(x, map[FLOAT_OF(rise)], map[FLOAT_OF(zero)]));
    return (int32_t)fminf(place + chance, map[FLOAT_OF(most)]);
}

// A number of [-1, 1], or of [0, 1] where the map is the unsigned one.
template <bool SIGNED> __device__ static uint8_t code_of(shared<float> map, float x, float chance)
{
    if (SIGNED) {
        const int32_t p = place_of(map, fabsf(x), chance), code = CODE_ZERO + (f32_to_bits(x) >> 31 ? -p : p);
        return (uint8_t)(code > 0 ? code : 0);
    }
    const int32_t p = place_of(map, x, chance), least = 1 + (x > 0);
    return (uint8_t)((p > least ? p : least) - 1);
}

template <bool SIGNED> __device__ static float number_of(shared<float> map, uint8_t code)
{
    if (!SIGNED) return number_at(map, code + 1);
    const int32_t p = code - CODE_ZERO, size = 2 * (p < 0 ? -p : p);
    const float x = number_at(map, size > 1 ? size : 1);
    return p < 0 ? -x : x;
}

// ---- moments ----------------------------------------------------------------------------------------------

// 32 bits of chance for number i of a tensor, as in ops/update.c.
__device__ static uint32_t chance_bits(uint32_t key, int64_t i)
{
    uint32_t x = (uint32_t)i * 0x9E3779B9u + key;
    x ^= x >> 16, x *= 0x7feb352du;
    x ^= x >> 15, x *= 0x846ca68bu;
    return x ^ x >> 16;
}

// A lane's share of a block: which numbers of the tensor, and how many there are.
struct place {
    int64_t at, count; // the block's first number, the call's numbers
    __device__ bool whole() const
    {
        return at + UPDATE_BLOCK <= count;
    }
    __device__ int64_t number(int i) const
    {
        return at + i / PIECE * (WARP_LANES * PIECE) + lane_id() * PIECE + i % PIECE;
    }
};

template <class T> __device__ static void load_each(T (&x)[EACH], const T *from, const struct place &p)
{
    for (int i = 0; i < EACH; i += PIECE) {
        vec<T, PIECE> piece = {};
        if (p.whole())
            piece = load((const vec<T, PIECE> *)(from + p.number(i)));
        else
            for (int j = 0; j < PIECE; j++)
                if (p.number(i + j) < p.count) piece.x[j] = load(from + p.number(i + j));
        for (int j = 0; j < PIECE; j++) x[i + j] = piece.x[j];
    }
}

template <class T> __device__ static void store_each(T *to, const T (&x)[EACH], const struct place &p)
{
    for (int i = 0; i < EACH; i += PIECE) {
        vec<T, PIECE> piece;
        for (int j = 0; j < PIECE; j++) piece.x[j] = x[i + j];
        if (p.whole())
            store((vec<T, PIECE> *)(to + p.number(i)), piece);
        else
            for (int j = 0; j < PIECE; j++)
                if (p.number(i + j) < p.count) store(to + p.number(i + j), piece.x[j]);
    }
}

enum moment_kind { MOMENT_FAST, MOMENT_SLOW, MOMENT_ROOT }; // as in ops/update.c

// Rounded by chance: the upper half of the bits, after the lower have been added to.
__device__ static void round_up_or_down(bf16 *h, float x, uint32_t chance)
{
    h->bits = (uint16_t)((f32_to_bits(x) + (chance & 0xffff)) >> 16);
}

template <enum moment_kind KIND>
__device__ static void moment_load(float (&x)[EACH], const struct moment &m, const struct place &p, float,
                                   shared<float>)
{
    load_each(x, (const float *)m.data, p);
}

template <enum moment_kind KIND>
__device__ static void moment_load(float (&x)[EACH], const struct moment &m, const struct place &p, bf16,
                                   shared<float>)
{
    bf16 narrow[EACH];
    load_each(narrow, (const bf16 *)m.data, p);
    for (int i = 0; i < EACH; i++) x[i] = to_f32(narrow[i]);
}

template <enum moment_kind KIND>
__device__ static void moment_load(float (&x)[EACH], const struct moment &m, const struct place &p, uint8_t,
                                   shared<float> map)
{
    uint8_t code[EACH];
    load_each(code, (const uint8_t *)m.data, p);
    const float scale = load(m.scale + p.at / UPDATE_BLOCK);
    for (int i = 0; i < EACH; i++) {
        const float number = number_of<KIND != MOMENT_ROOT>(map, code[i]) * scale;
        x[i] = KIND == MOMENT_ROOT ? number * number : number;
    }
}

template <enum moment_kind KIND>
__device__ static void moment_store(const struct moment &m, const float (&x)[EACH], const struct place &p,
                                    const struct update_args &, uint32_t, float, shared<float>)
{
    store_each((float *)m.data, x, p);
}

template <enum moment_kind KIND>
__device__ static void moment_store(const struct moment &m, const float (&x)[EACH], const struct place &p,
                                    const struct update_args &a, uint32_t key, bf16, shared<float>)
{
    bf16 narrow[EACH];
    for (int i = 0; i < EACH; i++)
        if (KIND == MOMENT_FAST)
            from_f32(&narrow[i], x[i]);
        else
            round_up_or_down(&narrow[i], x[i], chance_bits(key, a.first + p.number(i)));
    store_each((bf16 *)m.data, narrow, p);
}

template <enum moment_kind KIND>
__device__ static void moment_store(const struct moment &m, const float (&x)[EACH], const struct place &p,
                                    const struct update_args &a, uint32_t key, uint8_t, shared<float> map)
{
    constexpr float NORMAL = 0x1p-126f; // below, the reciprocal would overflow: such a block becomes zero
    float number[EACH], most = 0;
    for (int i = 0; i < EACH; i++) {
        number[i] = KIND == MOMENT_ROOT ? sqrtf(x[i]) : x[i];
        if (p.number(i) < p.count) most = fmaxf(most, fabsf(number[i]));
    }
    most = warp_max(most);
    const float inverse = most >= NORMAL ? 1 / most : 0;
    uint8_t code[EACH];
    for (int i = 0; i < EACH; i++) {
        const uint32_t chance = KIND == MOMENT_FAST ? 0x80000000u : chance_bits(key, a.first + p.number(i));
        code[i] =
            code_of<KIND != MOMENT_ROOT>(map, number[i] * inverse, (float)(int32_t)(chance >> 8) * 0x1p-24f);
    }
    store_each((uint8_t *)m.data, code, p);
    if (lane_id() == 0) store(m.scale + p.at / UPDATE_BLOCK, most);
}

// ---- updates ----------------------------------------------------------------------------------------------

// T: of the moments, uint8_t for codes. `a` has what is the same in every step.
template <enum update_rule RULE, class T>
__global__ void __launch_bounds__(THREADS) update_kernel(struct update_launch u)
{
    constexpr enum moment_kind KIND_M = RULE == UPDATE_LION ? MOMENT_SLOW : MOMENT_FAST;
    SHARED(float, map, 2 * MAP_FLOATS);
    const struct update_args &a = u.of;
    if (!load(&u.verdict->taken)) return; // none of the threads goes on
    if (sizeof(T) == 1) {
        for (int i = (int)threadIdx.x; i < 2 * MAP_FLOATS; i += THREADS) map[i] = ((const float *)maps)[i];
        __syncthreads();
    }
    const struct update_numbers now = load(u.now);
    const float factor = load(&u.verdict->factor);
    const struct place p = {((int64_t)blockIdx.x * WARPS + warp_id()) * UPDATE_BLOCK, a.count};
    const shared<float> roots = map, plain = map + MAP_FLOATS;
    if (p.at >= a.count) return; // a whole warp
    float value[EACH], g[EACH], m[EACH], v[EACH];
    load_each(g, a.gradient, p);
    load_each(value, (const float *)a.value, p);
    moment_load<KIND_M>(m, a.m, p, T(), plain);
    if (RULE == UPDATE_ADAMW) moment_load<MOMENT_ROOT>(v, a.v, p, T(), roots);
    for (int i = 0; i < EACH; i++) {
        g[i] *= factor;
        if (RULE == UPDATE_ADAMW) {
            m[i] = fmaf(g[i] - m[i], a.slow1, m[i]);
            v[i] = fmaf(g[i] * a.slow2, g[i], v[i] * a.beta2);
            const float ratio = m[i] / fmaf(sqrtf(v[i]), now.root_factor, a.eps);
            value[i] = fmaf(-now.rate, ratio, value[i] * now.keep);
        } else if (RULE == UPDATE_LION) {
            const float away = g[i] - m[i], c = fmaf(away, a.slow1, m[i]);
            value[i] = fmaf(-now.rate, (float)((c > 0) - (c < 0)), value[i] * now.keep);
            m[i] = fmaf(away, a.slow2, m[i]);
        } else {
            const float step = fmaf(value[i], a.decay, g[i]);
            m[i] = fmaf(a.beta1, m[i], step);
            value[i] = fmaf(-now.rate, a.nesterov ? fmaf(a.beta1, m[i], step) : m[i], value[i]);
        }
    }
    store_each(a.value, value, p);
    if (a.copy) {
        bf16 copy[EACH];
        for (int i = 0; i < EACH; i++) from_f32(&copy[i], value[i]);
        store_each((bf16 *)a.copy, copy, p);
    }
    moment_store<KIND_M>(a.m, m, p, a, now.key, T(), plain);
    if (RULE == UPDATE_ADAMW) moment_store<MOMENT_ROOT>(a.v, v, p, a, now.key, T(), roots);
}

template <enum update_rule RULE> static void launch(struct cuda_stream *s, const struct update_launch *u)
{
    const dim3 grid = blocks_for(u->of.count, (int64_t)WARPS * (int64_t)UPDATE_BLOCK);
    switch (u->of.moments) {
    case DTYPE_F32: CUDA_LAUNCH((update_kernel<RULE, float>), grid, THREADS, 0, s, *u); return;
    case DTYPE_BF16: CUDA_LAUNCH((update_kernel<RULE, bf16>), grid, THREADS, 0, s, *u); return;
    default:
        TLM_ASSERT(u->of.moments == DTYPE_I8);
        CUDA_LAUNCH((update_kernel<RULE, uint8_t>), grid, THREADS, 0, s, *u);
    }
}

void cuda_update(struct cuda_stream *s, const struct update_launch *u)
{
    if (!u->of.count) return;
    switch (u->rule) {
    case UPDATE_ADAMW: launch<UPDATE_ADAMW>(s, u); return;
    case UPDATE_LION: launch<UPDATE_LION>(s, u); return;
    case UPDATE_SGD: launch<UPDATE_SGD>(s, u); return;
    }
}

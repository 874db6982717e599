// ops/update_simd.h -- the updates of ops/update.h over vectors: one source for AVX2 and AVX-512, which define LANES, the types vf
// and vi, and the functions on them before they include this. Operations and order are those of ops/update.c.
//
// Whole blocks of 256 numbers alone; the rest of a tensor is filled up to one.

enum { BLOCK = UPDATE_BLOCK };

// ---- 8-bit codes ------------------------------------------------------------------------------------------

static inline ALWAYS vf number_at(const struct code_map *map, vi j)
{
    vf place = vf_of_int(j);
    vi row = vi_shift_right(vi_bits(place), 23);
    return vf_fma(place, vf_lookup(map->slope, row), vf_lookup(map->offset, row));
}

static inline ALWAYS vi place_of(const struct code_map *map, vf x, vf chance)
{
    vf decades = vf_fma(vf_of_int(vi_bits(x)), vf_set(DECADE_SCALE), vf_set(DECADE_START));
    vi decade = vi_of_float(vf_max(decades, vf_set(0)));
    decade = vi_count_greater(decade, x, vf_lookup(map->next, decade));
    vf place = vf_fma(x, vf_lookup(map->inverse, decade), vf_lookup(map->start, decade));
    vf last = vf_lookup(map->last, decade), more = vf_max(vf_sub(place, last), vf_set(0));
    place = vf_fma(more, vf_lookup(map->behind, decade), vf_min(place, last));
    place = vf_min(place, vf_fma(x, vf_set(map->rise), vf_set(map->zero)));
    return vi_of_float(vf_min(vf_add(place, chance), vf_set(map->most)));
}

static inline ALWAYS vi code_of_signed(vf x, vf chance)
{
    vi p = place_of(&code_map_signed, vf_abs(x), chance), sign = vi_sign(vi_bits(x));
    return vi_max(vi_add(vi_set(CODE_ZERO), vi_sub(vi_xor(p, sign), sign)), vi_set(0));
}

static inline ALWAYS vi code_of_unsigned(vf x, vf chance)
{
    vi p = place_of(&code_map_unsigned, x, chance);
    return vi_sub(vi_max(p, vi_count_greater(vi_set(1), x, vf_set(0))), vi_set(1));
}

static inline ALWAYS vf number_of_signed(vi code)
{
    vi p = vi_sub(code, vi_set(CODE_ZERO)), sign = vi_sign(p), size = vi_sub(vi_xor(p, sign), sign);
    vf x = number_at(&code_map_signed, vi_max(vi_add(size, size), vi_set(1)));
    return vf_of_bits(vi_xor(vi_bits(x), vi_and(sign, vi_set(INT32_MIN))));
}

static inline ALWAYS vf number_of_unsigned(vi code)
{
    return number_at(&code_map_unsigned, vi_add(code, vi_set(1)));
}

// ---- moments ----------------------------------------------------------------------------------------------

// of number `first` and those behind it
static inline ALWAYS vi chance_bits(uint32_t key, int64_t first)
{
    vi x = vi_add(vi_counting(), vi_set((int32_t)(uint32_t)first));
    x = vi_add(vi_mul(x, vi_set((int32_t)0x9E3779B9u)), vi_set((int32_t)key));
    x = vi_mul(vi_xor(x, vi_shift_right(x, 16)), vi_set((int32_t)0x7feb352du));
    x = vi_mul(vi_xor(x, vi_shift_right(x, 15)), vi_set((int32_t)0x846ca68bu));
    return vi_xor(x, vi_shift_right(x, 16));
}

enum moment_kind { MOMENT_FAST, MOMENT_SLOW, MOMENT_ROOT }; // ops/update.c

// Numbers i, i + 1 ... of a moment; of v in 8 bits, their roots times themselves.
static inline ALWAYS vf moment_load(const struct moment *s, enum dtype type, enum moment_kind kind, int64_t i)
{
    if (type == DTYPE_F32) return vf_load((const float *)s->data + i);
    if (type == DTYPE_BF16) return vf_of_bits(vi_shift_left(vi_load_u16((const uint16_t *)s->data + i), 16));
    vi code = vi_load_u8((const uint8_t *)s->data + i);
    vf scale = vf_set(s->scale[i / BLOCK]);
    if (kind != MOMENT_ROOT) return vf_mul(number_of_signed(code), scale);
    vf root = vf_mul(number_of_unsigned(code), scale);
    return vf_mul(root, root);
}

// bf16_from_f32 of core/dtype.h, each in 32 bits
static inline ALWAYS vi bf16_of(vf x)
{
    vi u = vi_bits(x), odd = vi_and(vi_shift_right(u, 16), vi_set(1));
    vi rounded = vi_shift_right(vi_add(u, vi_add(odd, vi_set(0x7fff))), 16);
    return vi_where_nan(x, vi_or(vi_shift_right(u, 16), vi_set(0x40)), rounded);
}

static inline ALWAYS void store_bf16(const struct update_args *a, const struct moment *s, vf x,
                                     enum moment_kind kind, int64_t i)
{
    vi bits = bf16_of(x);
    if (kind != MOMENT_FAST) {
        vi chance = vi_and(chance_bits(a->key, a->first + i), vi_set(0xffff));
        bits = vi_shift_right(vi_add(vi_bits(x), chance), 16);
    }
    vi_store_u16((uint16_t *)s->data + i, bits);
}

// x: the numbers of the block at `at`, of v their roots; most: the largest magnitudes in them, lane by lane.
static inline ALWAYS void store_codes(const struct update_args *a, const struct moment *s, const float *x,
                                      vf most, enum moment_kind kind, int64_t at)
{
    float scale = vf_reduce_max(most);
    s->scale[at / BLOCK] = scale;
    vf inverse = vf_set(scale >= FLT_MIN ? 1 / scale : 0);
    for (int64_t i = 0; i < BLOCK; i += LANES) {
        vf y = vf_mul(vf_load(x + i), inverse), chance = vf_set(0.5f);
        if (kind != MOMENT_FAST)
            chance = vf_mul(vf_of_int(vi_shift_right(chance_bits(a->key, a->first + at + i), 8)),
                            vf_set(0x1p-24f));
        vi code = kind == MOMENT_ROOT ? code_of_unsigned(y, chance) : code_of_signed(y, chance);
        vi_store_u8((uint8_t *)s->data + at + i, code);
    }
}

// ---- updates of one block ---------------------------------------------------------------------------------

static inline ALWAYS void write_value(const struct update_args *a, int64_t i, vf value)
{
    vf_store(a->value + i, value);
    if (a->copy) vi_store_u16(a->copy + i, bf16_of(value));
}

// What a block keeps of a moment until its scale is known.
struct kept {
    float x[BLOCK] __attribute__((aligned(64)));
    vf most;
};

static inline ALWAYS void keep(const struct update_args *a, const struct moment *s, struct kept *k, vf x,
                               enum dtype type, enum moment_kind kind, int64_t at, int64_t i)
{
    if (type == DTYPE_F32) {
        vf_store((float *)s->data + at + i, x);
    } else if (type == DTYPE_BF16) {
        store_bf16(a, s, x, kind, at + i);
    } else {
        vf_store(k->x + i, x);
        k->most = vf_max(k->most, vf_abs(x));
    }
}

static inline ALWAYS void block_adamw(const struct update_args *a, int64_t at, enum dtype type)
{
    struct kept km, kv;
    km.most = kv.most = vf_set(0);
    const vf slow1 = vf_set(a->slow1), slow2 = vf_set(a->slow2), beta2 = vf_set(a->beta2);
    const vf rate = vf_set(-a->rate), root_factor = vf_set(a->root_factor), eps = vf_set(a->eps);
    for (int64_t i = 0; i < BLOCK; i += LANES) {
        vf g = vf_mul(vf_load(a->gradient + at + i), vf_set(a->factor));
        vf m = moment_load(&a->m, type, MOMENT_FAST, at + i);
        vf v = moment_load(&a->v, type, MOMENT_ROOT, at + i);
        m = vf_fma(vf_sub(g, m), slow1, m);
        v = vf_fma(vf_mul(g, slow2), g, vf_mul(v, beta2));
        vf root = vf_sqrt(v), ratio = vf_div(m, vf_fma(root, root_factor, eps));
        vf value = vf_mul(vf_load(a->value + at + i), vf_set(a->keep));
        write_value(a, at + i, vf_fma(rate, ratio, value));
        keep(a, &a->m, &km, m, type, MOMENT_FAST, at, i);
        keep(a, &a->v, &kv, type == DTYPE_I8 ? root : v, type, MOMENT_ROOT, at, i);
    }
    if (type == DTYPE_I8) {
        store_codes(a, &a->m, km.x, km.most, MOMENT_FAST, at);
        store_codes(a, &a->v, kv.x, kv.most, MOMENT_ROOT, at);
    }
}

static inline ALWAYS void block_lion(const struct update_args *a, int64_t at, enum dtype type)
{
    struct kept km;
    km.most = vf_set(0);
    const vf slow1 = vf_set(a->slow1), slow2 = vf_set(a->slow2), rate = vf_set(-a->rate);
    for (int64_t i = 0; i < BLOCK; i += LANES) {
        vf m = moment_load(&a->m, type, MOMENT_SLOW, at + i);
        vf away = vf_sub(vf_mul(vf_load(a->gradient + at + i), vf_set(a->factor)), m);
        vf sign = vf_sign(vf_fma(away, slow1, m));
        vf value = vf_mul(vf_load(a->value + at + i), vf_set(a->keep));
        write_value(a, at + i, vf_fma(rate, sign, value));
        keep(a, &a->m, &km, vf_fma(away, slow2, m), type, MOMENT_SLOW, at, i);
    }
    if (type == DTYPE_I8) store_codes(a, &a->m, km.x, km.most, MOMENT_SLOW, at);
}

static inline ALWAYS void block_sgd(const struct update_args *a, int64_t at, enum dtype type)
{
    struct kept km;
    km.most = vf_set(0);
    const vf momentum = vf_set(a->beta1), rate = vf_set(-a->rate);
    for (int64_t i = 0; i < BLOCK; i += LANES) {
        vf value = vf_load(a->value + at + i), g = vf_load(a->gradient + at + i);
        g = vf_fma(value, vf_set(a->decay), vf_mul(g, vf_set(a->factor)));
        vf m = vf_fma(momentum, moment_load(&a->m, type, MOMENT_FAST, at + i), g);
        write_value(a, at + i, vf_fma(rate, a->nesterov ? vf_fma(momentum, m, g) : m, value));
        keep(a, &a->m, &km, m, type, MOMENT_FAST, at, i);
    }
    if (type == DTYPE_I8) store_codes(a, &a->m, km.x, km.most, MOMENT_FAST, at);
}

// ---- whole calls ------------------------------------------------------------------------------------------

typedef void block_fn(const struct update_args *a, int64_t at);

// The last numbers, filled up with what stays zero and so changes no scale.
static void update_rest(const struct update_args *a, int64_t at, block_fn *block)
{
    float value[BLOCK] = {0}, gradient[BLOCK] = {0}, m[BLOCK] = {0}, v[BLOCK] = {0};
    uint16_t copy[BLOCK] = {0};
    struct update_args rest = *a;
    rest.value = value, rest.gradient = gradient, rest.copy = a->copy ? copy : NULL;
    rest.m.data = m, rest.v.data = v, rest.first = a->first + at;
    if (a->moments == DTYPE_I8) {
        memset(m, CODE_ZERO, sizeof m);
        rest.m.scale = a->m.scale + at / BLOCK;
        if (a->v.data) rest.v.scale = a->v.scale + at / BLOCK;
    }
    size_t n = (size_t)(a->count - at), width = dtype_row_bytes(a->moments, 1), skip = (size_t)at * width;
    memcpy(value, a->value + at, n * sizeof *value);
    memcpy(gradient, a->gradient + at, n * sizeof *gradient);
    memcpy(m, (const char *)a->m.data + skip, n * width);
    if (a->v.data) memcpy(v, (const char *)a->v.data + skip, n * width);
    block(&rest, 0);
    memcpy(a->value + at, value, n * sizeof *value);
    if (a->copy) memcpy(a->copy + at, copy, n * sizeof *copy);
    memcpy((char *)a->m.data + skip, m, n * width);
    if (a->v.data) memcpy((char *)a->v.data + skip, v, n * width);
}

static void update(const struct update_args *a, block_fn *f32, block_fn *bf16, block_fn *i8)
{
    block_fn *block = a->moments == DTYPE_F32 ? f32 : a->moments == DTYPE_BF16 ? bf16 : i8;
    int64_t at = 0;
    for (; at + BLOCK <= a->count; at += BLOCK) block(a, at);
    if (at < a->count) update_rest(a, at, block);
}

// The arguments are copied, as stores of codes could change them for all the compiler knows.
#define FORM(kind, name, type)                                                      \
    static UNCHECKED void kind##_##name(const struct update_args *args, int64_t at) \
    {                                                                               \
        struct update_args a = *args;                                               \
        block_##kind(&a, at, type);                                                 \
    }
#define FORMS(kind, isa)                                    \
    FORM(kind, f32, DTYPE_F32)                              \
    FORM(kind, bf16, DTYPE_BF16)                            \
    FORM(kind, i8, DTYPE_I8)                                \
    void update_##kind##_##isa(const struct update_args *a) \
    {                                                       \
        update(a, kind##_f32, kind##_bf16, kind##_i8);      \
    }

// models/create_init.c -- how new weights begin: norms at 1, biases at 0, all else normal.
//
// Norms that multiply by 1 + w begin at w = 0, and GGUF holds 1 + w: 1 as well.
#include "models/create_init.h"

#include <math.h>
#include <string.h>

#include "core/rng.h"

// Do the matrix's outputs join the residual stream?
static bool joins_residual(const struct weight_spec *spec)
{
    static const size_t slots[] = {offsetof(struct layer, wo), offsetof(struct layer, down),
                                   offsetof(struct layer, experts_down), offsetof(struct layer, shared_down)};
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++)
        if (spec->slot == slots[i] && strstr(spec->gguf, "%d")) return true;
    return false;
}

struct weight_init weight_init_of(const struct arch *arch, const struct hparams *h,
                                  const struct weight_spec *spec, double std)
{
    if (spec->role == ROLE_NORM) return (struct weight_init){.value = 1};
    bool sinks =
        spec->slot == offsetof(struct layer, sinks) && strstr(spec->gguf, "%d"); // normal in transformers
    if (spec->role == ROLE_BIAS && !sinks) return (struct weight_init){.value = 0};
    const struct create_defaults *d = &arch->create;
    double width = (double)h->width, layers = (double)h->layers;
    bool own =
        std < 0; // with a deviation of the user the scale of residual matrices is GPT-2's, where there is one
    if (own) std = d->variance > 0 ? sqrt(d->variance / width) : d->std > 0 ? d->std : 0.02;
    if (joins_residual(spec)) {
        if (own && d->residual == RESIDUAL_WANG)
            std = 2 / (layers * sqrt(width));
        else if (d->residual != RESIDUAL_SAME)
            std /= sqrt(2 * layers);
    }
    return (struct weight_init){.std = std};
}

// FNV-1a, 64 bits: a stream of random numbers for each name.
static uint64_t hash_name(const char *name)
{
    uint64_t h = 0xcbf29ce484222325;
    for (; *name; name++) h = (h ^ (uint8_t)*name) * 0x100000001b3;
    return h;
}

// Four normal numbers by Box and Muller, of draw `index`: r = sqrt(-2 ln u), r cos(2 pi v), r sin(2 pi v), twice.
static void normal4(uint64_t seed, uint64_t stream, uint64_t index, double out[4])
{
    uint32_t r[4];
    rng_philox(seed, stream, index, r);
    for (int i = 0; i < 4; i += 2) {
        double u = ((double)r[i] + 0.5) * 0x1p-32, turn = (double)r[i + 1] * 0x1p-32 * 2 * M_PI;
        double radius = sqrt(-2 * log(u));
        out[i] = radius * cos(turn);
        out[i + 1] = radius * sin(turn);
    }
}

struct fill {
    float *out;
    struct weight_init init;
    uint64_t seed, stream;
    int64_t first, count;
    int threads;
};

static void fill_part(void *user, int thread)
{
    const struct fill *f = user;
    int64_t from = f->count * thread / f->threads, to = f->count * (thread + 1) / f->threads, drawn = -1;
    double four[4] = {0};
    for (int64_t i = from; i < to; i++) {
        int64_t at = f->first + i;
        if (f->init.std > 0 && at / 4 != drawn) {
            drawn = at / 4;
            normal4(f->seed, f->stream, (uint64_t)drawn, four);
        }
        f->out[i] = f->init.std > 0 ? (float)(f->init.std * four[at % 4]) : f->init.value;
    }
}

void weight_init_fill(float *out, struct weight_init init, uint64_t seed, const char *name, int64_t first,
                      int64_t count, struct threads *pool)
{
    struct fill f = {out, init, seed, hash_name(name), first, count, threads_count(pool)};
    threads_run(pool, fill_part, &f);
}

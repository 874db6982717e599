#include "quant/methods/recipe.h"

#include <inttypes.h>
#include <math.h>

// ---- costs --------------------------------------------------------------------------------------------

static const double LEAST_SLOPE = 0.5, MOST_SLOPE = 1.5;

static bool measured(const struct recipe_choice *c)
{
    return !isnan(c->cost) && c->error > 0 && c->cost > 0;
}

// Of the measured choices the one whose error is nearest in ratio to `error`, other than `not`; NULL where there is none.
static const struct recipe_choice *nearest(const struct recipe_tensor *t, double error,
                                           const struct recipe_choice * not )
{
    const struct recipe_choice *best = NULL;
    for (int i = 0; i < t->count; i++) {
        const struct recipe_choice *c = &t->choices[i];
        if (c != not &&measured(c) && (!best || fabs(log(c->error / error)) < fabs(log(best->error / error))))
            best = c;
    }
    return best;
}

static double estimate(const struct recipe_tensor *t, double error)
{
    if (!(error > 0)) return 0;
    const struct recipe_choice *a = nearest(t, error, NULL), *b = nearest(t, error, a);
    double slope = 1;
    TLM_ASSERT(a);
    if (b && b->error != a->error) slope = log(b->cost / a->cost) / log(b->error / a->error);
    slope = fmin(fmax(slope, LEAST_SLOPE), MOST_SLOPE);
    return a->cost * pow(error / a->error, slope);
}

void recipe_estimate(struct recipe_tensor *t)
{
    double costs[RECIPE_CHOICES];
    for (int i = 0; i < t->count; i++)
        costs[i] = isnan(t->choices[i].cost) ? estimate(t, t->choices[i].error) : t->choices[i].cost;
    for (int i = 0; i < t->count; i++) t->choices[i].cost = costs[i];
}

// ---- the knapsack -------------------------------------------------------------------------------------

enum { MOST_SLOTS = 1 << 16, TABLE_BYTES = 1 << 28 };

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static uint64_t least_bytes(const struct recipe_tensor *t)
{
    uint64_t least = t->choices[0].bytes;
    for (int i = 1; i < t->count; i++) least = t->choices[i].bytes < least ? t->choices[i].bytes : least;
    return least;
}

struct knapsack {
    uint64_t unit;    // bytes of a slot
    size_t slots;     // what there is to share out beyond the smallest choices
    double *cost;     // (slots + 1) least cost of the tensors so far with at most so many slots
    double *next;     // likewise, with one tensor more
    uint8_t *choices; // (tensors, slots + 1) which of the tensor's gave it
};

// The slots that a choice takes beyond the tensor's smallest, rounded up.
static size_t slots_of(const struct knapsack *k, const struct recipe_tensor *t, int choice)
{
    return (size_t)((t->choices[choice].bytes - least_bytes(t) + k->unit - 1) / k->unit);
}

static void add_tensor(struct knapsack *k, const struct recipe_tensor *t, uint8_t *choices)
{
    for (size_t s = 0; s <= k->slots; s++) k->next[s] = INFINITY;
    for (int c = 0; c < t->count; c++)
        for (size_t s = slots_of(k, t, c), from = 0; s <= k->slots; s++, from++) {
            double cost = k->cost[from] + t->choices[c].cost;
            if (cost >= k->next[s]) continue;
            k->next[s] = cost;
            choices[s] = (uint8_t)c;
        }
    double *swap = k->cost;
    k->cost = k->next;
    k->next = swap;
}

// The largest unit that measures all differences exactly, if the slots are few enough with it.
static void choose_unit(struct knapsack *k, const struct recipe_tensor *tensors, size_t count, uint64_t spare)
{
    uint64_t unit = 0, most = MOST_SLOTS;
    for (size_t i = 0; i < count; i++)
        for (int c = 0; c < tensors[i].count; c++)
            unit = common_divisor(unit, tensors[i].choices[c].bytes - least_bytes(&tensors[i]));
    if (most > TABLE_BYTES / (count + 1)) most = TABLE_BYTES / (count + 1) + 1;
    if (!unit) unit = 1;
    k->unit = spare / unit > most ? (spare + most - 1) / most : unit;
    k->slots = (size_t)(spare / k->unit);
}

enum tlm_status recipe_choose(struct recipe_tensor *tensors, size_t count, uint64_t budget,
                              struct tlm_error *err)
{
    struct knapsack k = {0};
    uint64_t least = 0;
    for (size_t i = 0; i < count; i++) least += least_bytes(&tensors[i]);
    if (least > budget)
        return error_set(err, TLM_ERR_ARGUMENT,
                         "expected room for %" PRIu64
                         " bytes of matrices in the smallest types, found %" PRIu64,
                         least, budget);
    choose_unit(&k, tensors, count, budget - least);
    k.cost = calloc(k.slots + 1, sizeof *k.cost);
    k.next = calloc(k.slots + 1, sizeof *k.next);
    k.choices = calloc(count ? count : 1, k.slots + 1);
    enum tlm_status status = TLM_OK;
    if (!k.cost || !k.next || !k.choices) {
        status = error_set(err, TLM_ERR_MEMORY, "no memory for %zu matrices in %zu steps", count, k.slots);
    } else {
        for (size_t i = 0; i < count; i++) add_tensor(&k, &tensors[i], k.choices + i * (k.slots + 1));
        size_t left = k.slots;
        for (size_t i = count; i-- > 0;) {
            tensors[i].chosen = k.choices[i * (k.slots + 1) + left];
            left -= slots_of(&k, &tensors[i], tensors[i].chosen);
        }
    }
    free(k.cost), free(k.next), free(k.choices);
    return status;
}

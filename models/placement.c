#include "models/placement.h"

#include <math.h>
#include <stdlib.h>

#include "models/backend.h"
#include "models/rows.h"

struct choice {
    struct tlm_model *m;
    struct placement_rules *rules;
    double shares[PLACES -
                  1]; // of the devices by number, of what tensor_split says; none: all by their free memory
    int share_count, device_count;
    bool by_rows;        // devices share layers, too
    double *layer_bytes; // [layers] of matrices that go with their layer, to the devices
    enum tlm_status status;
    struct tlm_error *err;
};

// ---- devices ------------------------------------------------------------------------------------------

static enum tlm_status read_split(struct choice *c, const char *text)
{
    double sum = 0;
    for (const char *at = text; at; at = *at == ',' ? at + 1 : NULL) {
        char *end;
        const double share = strtod(at, &end);
        if (end == at || (*end && *end != ',') || !(share >= 0) || !isfinite(share))
            return error_set(c->err, TLM_ERR_ARGUMENT,
                             "tensor split: expected a share for each device, such as 3,1, found '%.200s'",
                             text);
        if (c->share_count == c->device_count)
            return error_set(c->err, TLM_ERR_ARGUMENT,
                             "tensor split: expected at most %d shares, one a device, found '%.200s'",
                             c->device_count, text);
        c->shares[c->share_count++] = share;
        sum += share;
        at = end;
    }
    return sum > 0 ? TLM_OK
                   : error_set(c->err, TLM_ERR_ARGUMENT,
                               "tensor split: expected a share above 0, found '%.200s'", text);
}

static enum tlm_status open_devices(struct choice *c)
{
    enum backend_wish wishes[PLACES - 1];
    for (int i = 0; i < c->device_count; i++)
        wishes[i] = (i < c->share_count && c->shares[i] > 0) || rules_name(c->rules, i) ? BACKEND_NAMED
                    : c->share_count                                                    ? BACKEND_UNUSED
                                                                                        : BACKEND_USED;
    return backend_open_devices(c->m, wishes, c->device_count, c->err);
}

// How much of the layers the place gets.
static double share_of(const struct choice *c, int place)
{
    const struct backend *b = c->m->devices[place];
    if (!c->share_count) return (double)b->available + 1;
    return b->number < c->share_count ? c->shares[b->number] : 0;
}

// ---- layers and matrices ------------------------------------------------------------------------------

// Of "blk.7.attn_q.weight"; of what stands in front of all layers the first, behind them the last.
static int64_t layer_of(const struct tlm_model *m, const char *name)
{
    if (!strncmp(name, "blk.", 4)) return strtoll(name + 4, NULL, 10);
    return strncmp(name, "output", 6) ? 0 : m->hparams.layers - 1;
}

// The place of a matrix, of which RULE_LAYER is that of its layer. A device that was not opened is an error.
static int rule_for(struct choice *c, const char *name)
{
    int device = RULE_LAYER;
    if (!rules_match(c->rules, name, &device) || device == RULE_LAYER) return RULE_LAYER;
    if (device == RULE_CPU) return 0;
    for (int i = 1; i < c->m->place_count; i++)
        if (c->m->devices[i]->number == device) return i;
    if (!c->status)
        c->status =
            error_set(c->err, TLM_ERR_ARGUMENT, "tensor placement: cuda:%d: expected a device from 0 to %d",
                      device, c->device_count - 1);
    return 0;
}

// spec: NULL of a head that is the embedding
typedef void matrix_fn(struct choice *c, const struct weight_spec *spec, const char *name, struct tensor *t);

static void sum_matrix(struct choice *c, const struct weight_spec *spec, const char *name, struct tensor *t)
{
    (void)spec;
    if (rule_for(c, name) == RULE_LAYER) c->layer_bytes[layer_of(c->m, name)] += (double)tensor_bytes(t);
}

static void place_matrix(struct choice *c, const struct weight_spec *spec, const char *name, struct tensor *t)
{
    (void)spec;
    const int place = rule_for(c, name);
    t->place = place == RULE_LAYER ? c->m->layer_places[layer_of(c->m, name)] : place;
}

// "cuda" says of a layer in front that its matrix is the first device's.
static void place_on_device(struct choice *c, const struct weight_spec *spec, const char *name,
                            struct tensor *t)
{
    (void)spec;
    int device = RULE_CPU;
    if (t->place == 0 && rules_match(c->rules, name, &device) && device == RULE_LAYER) t->place = 1;
}

static void place_here(struct choice *c, const struct weight_spec *spec, const char *name, struct tensor *t)
{
    (void)c, (void)spec, (void)name;
    t->place = 0;
    t->cut = NULL;
}

// In row mode: what no rule has placed, and is a device's.
static void cut_matrix(struct choice *c, const struct weight_spec *spec, const char *name, struct tensor *t)
{
    if (rule_for(c, name) == RULE_LAYER && t->place) rows_cut(c->m, spec, layer_of(c->m, name), t);
}

struct visit {
    struct choice *c;
    matrix_fn *fn;
};

static void visit(void *user, const struct weight_spec *spec, const char *name, const struct tensor **slot)
{
    const struct visit *v = user;
    if (weight_is_matrix(spec)) v->fn(v->c, spec, name, (struct tensor *)*slot); // the model's own header
}

// And the head, as "output.weight", where it is the embedding.
static void each_matrix(struct choice *c, matrix_fn *fn)
{
    struct visit v = {c, fn};
    model_each_weight(c->m, visit, &v);
    if (!c->m->weights.out) fn(c, NULL, "output.weight", (struct tensor *)c->m->head.weight);
}

// Layers first, first + 1, ... go to the devices in order, each to the one whose part of the whole its middle lies in.
static void share_layers(struct choice *c, int64_t first)
{
    const struct tlm_model *m = c->m;
    double all = 0, before = 0, shares = 0, share = share_of(c, 1);
    int place = 1;
    for (int64_t l = first; l < m->hparams.layers; l++) all += c->layer_bytes[l];
    for (int i = 1; i < m->place_count; i++) shares += share_of(c, i);
    for (int64_t l = first; l < m->hparams.layers; l++) {
        const double middle = all > 0 ? (before + c->layer_bytes[l] / 2) / all
                                      : ((double)(l - first) + 0.5) / (double)(m->hparams.layers - first);
        while (place + 1 < m->place_count && middle * shares > share) share += share_of(c, ++place);
        m->layer_places[l] = place;
        before += c->layer_bytes[l];
    }
}

static enum tlm_status place_all(struct choice *c, int64_t device_layers)
{
    struct tlm_model *m = c->m;
    const int64_t layers = m->hparams.layers;
    const int64_t first = device_layers && device_layers < layers ? layers - device_layers : 0;
    if (!m->weights.out) { // its place may be another one than the embedding's
        struct tensor *head = arena_alloc(&m->vectors, sizeof *head);
        *head = *m->head.weight;
        m->head.weight = head;
    }
    c->layer_bytes = calloc((size_t)layers, sizeof *c->layer_bytes);
    if (!c->layer_bytes)
        return error_set(c->err, TLM_ERR_MEMORY, "model: no memory for %lld layers", (long long)layers);
    each_matrix(c, sum_matrix);
    share_layers(c, first);
    each_matrix(c, place_matrix);
    each_matrix(c, place_on_device);
    if (c->by_rows && m->place_count > 2) {
        double shares[PLACES] = {0};
        for (int i = 1; i < m->place_count; i++) shares[i] = share_of(c, i);
        rows_choose(m, shares);
        each_matrix(c, cut_matrix);
    }
    free(c->layer_bytes);
    return c->status ? c->status : rules_check_used(c->rules, c->err);
}

// ---- in words -----------------------------------------------------------------------------------------

struct sum {
    int place;
    int64_t matrices;
    double bytes;
};

// All of it, or the place's part.
static void add_bytes(struct sum *s, const struct tensor *t)
{
    const int64_t *cut = t->cut;
    const double part =
        cut ? (double)(cut[s->place + 1] - cut[s->place]) / (double)cut[PLACES] : t->place == s->place;
    s->matrices += part > 0;
    s->bytes += part * (double)tensor_bytes(t);
}

static void add_matrix(void *user, const struct weight_spec *spec, const char *name,
                       const struct tensor **slot)
{
    struct sum *s = user;
    (void)name;
    if (weight_is_matrix(spec)) add_bytes(s, *slot);
}

// The head, where it is the embedding, is there once more unless that is in the same place.
static struct sum sum_place(const struct tlm_model *m, int place)
{
    struct sum sum = {.place = place};
    model_each_weight((struct tlm_model *)m, add_matrix, &sum); // which only reads
    const struct tensor *head = m->head.weight;
    if (!m->weights.out && (head->cut || m->weights.embed->place != head->place)) add_bytes(&sum, head);
    return sum;
}

// One line; tlm_model_place() has the rest.
static void describe(struct tlm_model *m)
{
    char note[sizeof m->backend_text];
    snprintf(note, sizeof note, "%s", m->backend_text);
    const char *beside = sum_place(m, 0).matrices ? ", and the CPU" : "";
    m->shared = m->place_count > 2 || *beside;
    if (m->place_count == 2)
        snprintf(m->backend_text, sizeof m->backend_text, "%s: %s%s%.300s", m->backend->class->name,
                 m->backend->device, beside, note);
    else
        snprintf(m->backend_text, sizeof m->backend_text, "%s: %d devices%s%s%.300s", m->backend->class->name,
                 m->place_count - 1, rows_chosen(m) ? " that share each layer" : "", beside, note);
}

bool tlm_model_place(const struct tlm_model *m, int32_t i, char *text, size_t size)
{
    char where[352] = "cpu", layers[96] = "";
    int64_t first = -1, last = -1;
    if (!m->arch || i < 0 || i >= m->place_count) return false;
    const struct sum sum = sum_place(m, i);
    const bool parts = m->rows.sharing[i];
    for (int64_t l = 0; l < m->hparams.layers; l++) {
        if (parts ? !m->layer_places[l] : m->layer_places[l] != i) continue;
        if (first < 0) first = l;
        last = l;
    }
    if (i)
        snprintf(where, sizeof where, "%s:%d (%s)", m->devices[i]->class->name, m->devices[i]->number,
                 m->devices[i]->device);
    if (first >= 0)
        snprintf(layers, sizeof layers, first < last ? "%slayers %lld to %lld, " : "%slayer %lld, ",
                 parts ? "parts of " : "", (long long)first, (long long)last);
    const struct tensor *head = m->head.weight;
    const bool has_head = head->cut ? parts : head->place == i;
    snprintf(text, size, "%s: %s%lld matrices, %.1f MiB%s", where, layers, (long long)sum.matrices,
             sum.bytes / 0x1p20,
             !has_head   ? ""
             : head->cut ? ", a part of the head"
                         : ", the head");
    return true;
}

// ---- choosing -----------------------------------------------------------------------------------------

// What a machine or a device may lack is told apart from options that make no sense: with "auto" the processor does without the former.
static enum tlm_status take_devices(struct choice *c, const struct tlm_model_options *options,
                                    struct tlm_error *lack)
{
    const int count = cuda_backend_count();
    struct tlm_error *err = c->err;
    enum tlm_status s = TLM_OK;
    c->device_count = count < 1            ? 1
                      : count < PLACES - 1 ? count
                                           : PLACES - 1; // without any, the first says why
    if (options->tensor_split && count && (s = read_split(c, options->tensor_split))) return s;
    c->err = lack;
    s = open_devices(c);
    c->err = err;
    if (s || (s = place_all(c, options->gpu_layers))) return s;
    return backend_check_model(c->m, lack);
}

static void take_processor(struct tlm_model *m, const char *reason)
{
    backend_close_devices(m);
    rows_forget(m);
    for (int64_t l = 0; l < m->hparams.layers; l++) m->layer_places[l] = 0;
    each_matrix(&(struct choice){.m = m}, place_here);
    snprintf(m->backend_text, sizeof m->backend_text, "cpu (%s)", reason);
}

enum tlm_status placement_choose(struct tlm_model *m, const struct tlm_model_options *options,
                                 struct tlm_error *err)
{
    const char *name = options->backend ? options->backend : "cpu";
    const bool any = !strcmp(name, "auto");
    struct tlm_error lack = {0};
    const char *mode = options->split_mode ? options->split_mode : "layer";
    struct choice c = {.m = m, .err = err, .by_rows = !strcmp(mode, "row")};
    if (!c.by_rows && strcmp(mode, "layer") != 0)
        return error_set(err, TLM_ERR_ARGUMENT, "split mode: expected layer or row, found '%s'", mode);
    if (c.by_rows && !strcmp(name, "cpu"))
        return error_set(
            err, TLM_ERR_ARGUMENT,
            "split mode: row shares layers among GPUs: expected cuda or auto as backend, found cpu");
    if (!any && strcmp(name, "cpu") != 0 && strcmp(name, "cuda") != 0)
        return error_set(err, TLM_ERR_ARGUMENT, "backend: expected auto, cpu or cuda, found '%s'", name);
    enum tlm_status s =
        rules_parse(&c.rules, options->tensor_placement, options->tensor_placement_count, err);
    if (s) return s;
    if (!strcmp(name, "cpu"))
        snprintf(m->backend_text, sizeof m->backend_text, "cpu");
    else if (!(s = take_devices(&c, options, &lack)))
        describe(m);
    else if (lack.code && any)
        take_processor(m, lack.text), s = TLM_OK;
    else if (lack.code)
        error_set(err, lack.code, "%s", lack.text);
    rules_free(c.rules);
    return s;
}

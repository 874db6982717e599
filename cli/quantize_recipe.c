// cli/quantize_recipe.c -- see cli/quantize_recipe.h.
//
// Rounding one matrix alone is measured at two types, one of less and one of more bits than the target; what the other types cost follows
// from the error that they leave in the weights (quant/methods/recipe.h). Then the types are chosen together.
#include "cli/quantize_recipe.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "cli/common.h"
#include "cli/eval_text.h"
#include "quant/methods/recipe.h"
#include "quant/methods/trial.h"
#include "quant/mix.h"
#include "quant/quant.h"

// Of rows that can be cut into blocks of 256, and of others.
static const enum dtype wide_types[] = {DTYPE_Q2_K, DTYPE_Q3_K, DTYPE_IQ4_XS, DTYPE_Q4_K,
                                        DTYPE_Q5_K, DTYPE_Q6_K, DTYPE_Q8_0,   DTYPE_F16};
static const enum dtype narrow_types[] = {DTYPE_IQ4_NL, DTYPE_Q4_1, DTYPE_Q5_0,
                                          DTYPE_Q5_1,   DTYPE_Q8_0, DTYPE_F16};
#define COUNT_OF(a) ((int)(sizeof(a) / sizeof *(a)))

struct search {
    const struct recipe_request *q;
    struct tlm_model *model;
    struct trial trial;
    struct recipe_tensor *tensors;
    size_t count;
    enum dtype *types; // of all tensors, for trials: their own, but for those that are tried
};

static double bits_of(enum dtype type)
{
    return 8.0 * dtype_traits[type].block_bytes / dtype_traits[type].block_size;
}

static const struct tensor *tensor_of(const struct search *s, const struct recipe_tensor *t)
{
    return &s->model->gguf->tensors[t->index].tensor;
}

// ---- the choices --------------------------------------------------------------------------------------

static void add_choice(struct recipe_tensor *t, const struct tensor *of, enum dtype type)
{
    size_t rows = (size_t)(of->ne[1] * of->ne[2] * of->ne[3]);
    for (int i = 0; i < t->count; i++)
        if (t->choices[i].type == type) return;
    t->choices[t->count++] =
        (struct recipe_choice){.type = type, .bytes = rows * dtype_row_bytes(type, of->ne[0]), .cost = NAN};
}

// What a matrix may become: smaller types, and what it is, which costs nothing.
static void list_choices(struct recipe_tensor *t, const struct tensor *of)
{
    bool wide = of->ne[0] % QUANT_SUPER == 0;
    const enum dtype *types = wide ? wide_types : narrow_types;
    int count = wide ? COUNT_OF(wide_types) : COUNT_OF(narrow_types);
    for (int i = 0; i < count; i++)
        if (of->ne[0] % dtype_traits[types[i]].block_size == 0 && bits_of(types[i]) < bits_of(of->type))
            add_choice(t, of, types[i]);
    add_choice(t, of, of->type);
    t->choices[t->count - 1].cost = 0;
}
_Static_assert(sizeof wide_types / sizeof *wide_types < RECIPE_CHOICES, "and its own");
_Static_assert(sizeof narrow_types / sizeof *narrow_types < RECIPE_CHOICES, "and its own");

static enum tlm_status list_tensors(struct search *s, const bool *wanted, struct tlm_error *err)
{
    const struct gguf *g = s->model->gguf;
    s->tensors = calloc((size_t)g->tensor_count + 1, sizeof *s->tensors);
    s->types = calloc((size_t)g->tensor_count + 1, sizeof *s->types);
    if (!s->tensors || !s->types)
        return error_set(err, TLM_ERR_MEMORY, "no memory for the types of all tensors");
    for (uint64_t i = 0; i < g->tensor_count; i++) {
        s->types[i] = g->tensors[i].tensor.type;
        if (!wanted[i]) continue;
        s->tensors[s->count].index = i;
        list_choices(&s->tensors[s->count++], &g->tensors[i].tensor);
    }
    return TLM_OK;
}

// ---- costs --------------------------------------------------------------------------------------------

static enum tlm_status measure_choice(struct search *s, const struct recipe_tensor *t,
                                      struct recipe_choice *c, struct tlm_error *err)
{
    struct divergence d;
    s->types[t->index] = c->type;
    enum tlm_status status = trial_run(&s->trial, s->types, eval_silent, NULL, &d, err);
    s->types[t->index] = tensor_of(s, t)->type;
    if (!status) c->cost = d.kl.value;
    return status;
}

// The choice of about so many bits that is not measured yet; NULL where there is none.
static struct recipe_choice *choice_near(struct recipe_tensor *t, double bits)
{
    struct recipe_choice *best = NULL;
    for (int i = 0; i < t->count; i++) {
        struct recipe_choice *c = &t->choices[i];
        if (isnan(c->cost) && (!best || fabs(bits_of(c->type) - bits) < fabs(bits_of(best->type) - bits)))
            best = c;
    }
    return best;
}

static enum tlm_status measure_tensor(struct search *s, struct recipe_tensor *t, struct tlm_error *err)
{
    static const double around[] = {-1, 1}; // bits
    enum tlm_status status = TLM_OK;
    for (int i = 0; i < t->count && !status; i++)
        if (isnan(t->choices[i].cost))
            status = rounded_error(&t->choices[i].error, tensor_of(s, t), t->choices[i].type,
                                   s->trial.threads, err);
    for (int i = 0; i < COUNT_OF(around) && !status; i++) {
        struct recipe_choice *c = choice_near(t, (double)s->q->bpw + around[i]);
        if (c) status = measure_choice(s, t, c, err);
    }
    return status;
}

// A matrix that the text does not need at all costs nothing, whatever it becomes.
static void estimate_costs(struct recipe_tensor *t)
{
    bool any = false;
    for (int i = 0; i < t->count; i++) any |= t->choices[i].cost > 0;
    for (int i = 0; i < t->count && !any; i++) t->choices[i].cost = 0;
    recipe_estimate(t);
}

static enum tlm_status measure_costs(struct search *s, struct tlm_error *err)
{
    char name[] = "matrix";
    enum tlm_status status = TLM_OK;
    for (size_t i = 0; i < s->count && !status; i++) {
        status = measure_tensor(s, &s->tensors[i], err);
        if (!status) estimate_costs(&s->tensors[i]);
        if (!status && !eval_progress(name, (int64_t)i + 1, (int64_t)s->count))
            status = error_set(err, TLM_ERR_CANCELLED, "stopped");
    }
    return status;
}

// ---- the choice ---------------------------------------------------------------------------------------

// Bytes for the matrices whose types are searched.
static enum tlm_status budget_of(const struct search *s, const bool *wanted, const enum dtype *types,
                                 uint64_t *budget, struct tlm_error *err)
{
    const struct gguf *g = s->model->gguf;
    double numbers = 0, others = 0;
    for (uint64_t i = 0; i < g->tensor_count; i++) {
        const struct tensor *t = &g->tensors[i].tensor;
        numbers += (double)tensor_elements(t);
        if (!wanted[i])
            others += (double)(t->ne[1] * t->ne[2] * t->ne[3]) * (double)dtype_row_bytes(types[i], t->ne[0]);
    }
    double bytes = (double)s->q->bpw / 8 * numbers - others;
    *budget = bytes > 0 ? (uint64_t)bytes : 0;
    if (bytes > 0) return TLM_OK;
    return error_set(err, TLM_ERR_ARGUMENT, "--target-bpw: expected more than %.3f, which other tensors take",
                     8 * others / numbers);
}

static enum tlm_status choose(struct search *s, const bool *wanted, enum dtype *types, struct tlm_error *err)
{
    uint64_t budget;
    double predicted = 0;
    struct divergence d;
    enum tlm_status status = budget_of(s, wanted, types, &budget, err);
    if (!status && (status = recipe_choose(s->tensors, s->count, budget, err)))
        error_prefix(err, "--target-bpw");
    if (status) return status;
    for (size_t i = 0; i < s->count; i++) {
        const struct recipe_choice *c = &s->tensors[i].choices[s->tensors[i].chosen];
        s->types[s->tensors[i].index] = types[s->tensors[i].index] = c->type;
        predicted += c->cost;
    }
    if ((status = trial_run(&s->trial, s->types, eval_silent, NULL, &d, err))) return status;
    fprintf(stderr,
            "KL divergence on this text: %.6f expected, %.6f +- %.6f measured with all weights rounded\n",
            predicted, d.kl.value, d.kl.error);
    return TLM_OK;
}

// ---- the text -----------------------------------------------------------------------------------------

// Windows that the model writes itself, drawn as its distributions have it, each from the token that begins or ends a text, or any.
static enum tlm_status draw_window(struct tlm_session *session, struct tlm_sampler *sampler, int32_t *window,
                                   int32_t size, int32_t start, struct tlm_error *err)
{
    window[0] = start;
    for (int32_t i = 1; i < size; i++) {
        enum tlm_status status = tlm_session_sync(session, window, (size_t)i, err);
        if (status) return status;
        window[i] = tlm_sampler_next(sampler, tlm_session_logits(session));
    }
    return TLM_OK;
}

static enum tlm_status draw_windows(const struct search *s, int32_t size, int32_t *tokens,
                                    struct tlm_error *err)
{
    const struct tlm_model *m = s->model;
    struct tlm_session *session = NULL;
    struct tlm_sampler *sampler = NULL;
    struct tlm_session_options how = {.context = size, .threads = s->q->threads};
    struct tlm_sampler_options draw = tlm_sampler_defaults();
    draw.samplers = "temperature";
    draw.temperature = 1;
    char name[] = "writing";
    int32_t start = tlm_token_bos(m) >= 0 ? tlm_token_bos(m) : tlm_token_eos(m);
    enum tlm_status status = tlm_session_open(&session, m, &how, err);
    if (!status) status = tlm_sampler_open(&sampler, m, &draw, err);
    for (int32_t w = 0; w < s->q->chunks && !status; w++) {
        int32_t first = start >= 0 ? start : w % tlm_model_vocab_size(m);
        status = draw_window(session, sampler, tokens + (int64_t)w * size, size, first, err);
        if (!status && !eval_progress(name, w + 1, s->q->chunks))
            status = error_set(err, TLM_ERR_CANCELLED, "stopped");
    }
    tlm_sampler_close(sampler);
    tlm_session_close(session);
    return status;
}

// The windows that costs are measured on; free() *tokens.
static enum tlm_status find_text(const struct search *s, int32_t **tokens, struct compare_text *text,
                                 struct tlm_error *err)
{
    const struct recipe_request *q = s->q;
    int32_t trained = tlm_model_context_length(s->model),
            size = trained < EVAL_WINDOW && trained >= SCAN_LEAST ? trained : EVAL_WINDOW;
    if (q->text) return eval_read_windows(s->model, q->text, size, q->chunks, tokens, text, err);
    *tokens =
        q->chunks <= INT32_MAX / size ? malloc((size_t)q->chunks * (size_t)size * sizeof **tokens) : NULL;
    if (!*tokens)
        return error_set(err, TLM_ERR_MEMORY, "no memory for %d windows of %d tokens", q->chunks, size);
    *text = (struct compare_text){*tokens, q->chunks, size};
    return draw_windows(s, size, *tokens, err);
}

enum tlm_status quantize_recipe_find(const struct recipe_request *q, const struct gguf *in,
                                     const bool *search, enum dtype *types, struct tlm_error *err)
{
    struct search s = {.q = q};
    struct scan_config config = {.threads = q->threads};
    struct compare_text text;
    int32_t *tokens = NULL;
    char path[512], name[] = "window";
    eval_scratch_path(path, sizeof path, "logits");
    enum tlm_status status = tlm_model_open(&s.model, q->model, NULL, err);
    if (!status) status = find_text(&s, &tokens, &text, err);
    TLM_ASSERT(status || s.model->gguf->tensor_count == in->tensor_count); // one file, opened twice
    if (!status) status = list_tensors(&s, search, err);
    if (!status) status = trial_open(&s.trial, s.model, &config, &text, path, eval_progress, name, err);
    if (!status) status = measure_costs(&s, err);
    if (!status) status = choose(&s, search, types, err);
    trial_close(&s.trial);
    free(s.tensors);
    free(s.types);
    free(tokens);
    tlm_model_close(s.model);
    return status;
}

// ---- as a file ----------------------------------------------------------------------------------------

// The name as a regular expression that finds it alone.
static void write_regex(struct file_writer *w, struct gguf_string name)
{
    file_writer_write(w, "^", 1);
    for (uint64_t i = 0; i < name.length; i++) {
        bool special = strchr(".[]()*+?{}|^$\\", name.data[i]) && name.data[i];
        if (special) file_writer_write(w, "\\", 1);
        file_writer_write(w, &name.data[i], 1);
    }
    file_writer_write(w, "$=", 2);
}

enum tlm_status quantize_recipe_save(const char *path, const struct gguf *in, const enum dtype *types,
                                     struct tlm_error *err)
{
    struct file_writer *w;
    enum tlm_status status = file_writer_open(&w, path, err);
    if (status) return status;
    for (uint64_t i = 0; i < in->tensor_count; i++) {
        const char *type = dtype_traits[types[i]].name;
        if (!mix_applies(&in->tensors[i])) continue;
        write_regex(w, in->tensors[i].name);
        file_writer_write(w, type, strlen(type));
        file_writer_write(w, "\n", 1);
    }
    return file_writer_finish(w, err);
}

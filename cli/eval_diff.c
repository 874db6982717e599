// cli/eval_diff.c -- tinylm eval diff: where two models, or one model on two instruction sets, begin to part.
//
// Both run the same tokens in one pass, on one thread, and the output of every node is compared with its partner: the same op, the
// same layer, the same turn within it. The graph's planner gives outputs' bytes away again, so the first model's are copied
// as they appear. What only one of the two has (conversions to a kernel's own type) is left out.
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/common.h"
#include "core/file.h"
#include "generate/forward.h"

struct diff_args {
    const char *ids, *file, *isa_a, *isa_b;
    int32_t tokens;
};

static const struct option options[] = {
    {"--ids", "LIST", OPTION_STRING, offsetof(struct diff_args, ids),
     .help = "token ids, separated by spaces. Default: 1 2 3 4 5 6 7 8, as far as the vocabulary goes."},
    {"-f, --file", "FILE", OPTION_STRING, offsetof(struct diff_args, file),
     .help = "a text whose first tokens (by the first model's vocabulary) are taken. Default: none."},
    {"-n, --tokens", "N", OPTION_INT, offsetof(struct diff_args, tokens), .low = 1, .high = 4096,
     .help = "tokens of the text. Default: 32."},
    {"--isa-a", "NAME", OPTION_STRING, offsetof(struct diff_args, isa_a),
     .help = "instruction sets of the first model: auto, ref, avx2, avx512, f64 ... Default: auto."},
    {"--isa-b", "NAME", OPTION_STRING, offsetof(struct diff_args, isa_b),
     .help = "those of the second. Default: auto; f64 where only one model is named."},
};

static const char notes[] =
    "error: ||a - b|| / ||b|| of a node's output, b being the second model's. A layer's line names the first "
    "node\n"
    "whose bits differ, and the node with the largest error. Below stand the logits: their error, the mean\n"
    "Kullback-Leibler divergence of A's distributions from B's in nats, and how often both like the same "
    "token best.\n"
    "With one MODEL, the model against itself in double precision.\n";

struct captured { // a node's output as numbers, or the result of its comparison
    int layer, op, turn;
    int64_t count;
    double *values;
    const void *weight; // data of what the op multiplies or adds, NULL for none
};

struct capture {
    const struct tlm_model *model;
    struct captured *items;
    size_t count, capacity;
    int *turns;  // (layers + 2, OP_COUNT) outputs so far: in front of the layers, of each, and behind them
    bool behind; // a layer has been seen
    bool no_memory;
};

// Outputs that both sides have in the same form.
static bool comparable(const struct node *n)
{
    bool numbers = n->out.type == DTYPE_F32 || n->out.type == DTYPE_F64;
    return numbers && n->effect == EFFECT_NONE && n->op != OP_convert && n->op != OP_rope_table &&
           n->op != OP_route;
}

static void copy_values(double *to, const struct tensor *t, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        to[i] = t->type == DTYPE_F64 ? ((const double *)t->data)[i] : (double)((const float *)t->data)[i];
}

static void take(void *user, const struct graph *g, const struct node *n, int thread, double begin,
                 double end)
{
    struct capture *c = user;
    (void)thread, (void)begin, (void)end;
    if (!comparable(n) || c->no_memory) return;
    c->behind |= n->layer >= 0;
    int layer = n->layer < 0 && c->behind ? (int)c->model->hparams.layers : n->layer;
    if (c->count == c->capacity) {
        size_t capacity = c->capacity ? 2 * c->capacity : 256;
        struct captured *items = reallocarray(c->items, capacity, sizeof *items);
        if (!items) {
            c->no_memory = true;
            return;
        }
        c->items = items;
        c->capacity = capacity;
    }
    int64_t count = graph_rows(g, n) * n->out.ne[0];
    int *turn = &c->turns[(layer + 1) * OP_COUNT + n->op];
    struct captured item = {layer,
                            n->op,
                            (*turn)++,
                            count,
                            malloc((size_t)count * sizeof(double) + 1),
                            n->input_count > 1 && n->in[1]->op == GRAPH_LEAF ? n->in[1]->out.data : NULL};
    if (!item.values) {
        c->no_memory = true;
        return;
    }
    copy_values(item.values, &n->out, count);
    c->items[c->count++] = item;
}

// ---- running ------------------------------------------------------------------------------------------------------------------

static enum tlm_status run_model(struct capture *c, const int32_t *ids, int32_t count, float **logits,
                                 struct tlm_error *err)
{
    const struct tlm_model *m = c->model;
    enum dtype kv = m->real == DTYPE_F64 ? DTYPE_F64 : DTYPE_F32;
    struct forward_config config = {.context = count,
                                    .sequences = 1,
                                    .max_rows = count,
                                    .max_outputs = count,
                                    .threads = 1,
                                    .type_k = kv,
                                    .type_v = kv};
    struct forward f;
    struct forward_row *rows = calloc((size_t)count, sizeof *rows);
    c->turns = calloc((size_t)((m->hparams.layers + 2) * OP_COUNT), sizeof *c->turns);
    *logits = malloc((size_t)count * (size_t)m->hparams.vocab * sizeof **logits);
    if (!rows || !*logits || !c->turns) {
        free(rows);
        return error_set(err, TLM_ERR_MEMORY, "no memory for the logits of %d tokens", count);
    }
    for (int32_t i = 0; i < count; i++) rows[i] = (struct forward_row){ids[i], i, 0, true};
    enum tlm_status status = forward_open(&f, m, &config, err);
    if (!status) {
        const struct graph_watch watch = {take, c};
        forward_watch(&f, &watch);
        status = forward_run(&f, rows, count, err);
        for (int32_t i = 0; i < count && !status; i++)
            memcpy(*logits + i * m->hparams.vocab, forward_logits(&f, i),
                   (size_t)m->hparams.vocab * sizeof **logits);
        if (!status && c->no_memory)
            status = error_set(err, TLM_ERR_MEMORY, "no memory for the outputs of all nodes");
        forward_close(&f);
    }
    free(rows);
    return status;
}

// ---- comparing ----------------------------------------------------------------------------------------------------------------

static int by_key(const void *a, const void *b)
{
    const struct captured *x = a, *y = b;
    if (x->layer != y->layer) return x->layer - y->layer;
    return x->op != y->op ? x->op - y->op : x->turn - y->turn;
}

static double relative_error(const double *a, const double *b, int64_t count)
{
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < count; i++) {
        difference += (a[i] - b[i]) * (a[i] - b[i]);
        norm += b[i] * b[i];
    }
    return difference == 0 ? 0 : sqrt(difference / norm);
}

struct layer_line {
    int compared;
    const struct captured *first, *worst; // NULL: no node differs
    double first_error, worst_error;
};

// "ffn_gate.weight" of the weight table's "blk.%d.ffn_gate.weight"; NULL where no slot holds the data.
static const char *weight_name(const struct tlm_model *m, int layer, const void *data)
{
    bool inside = layer >= 0 && layer < m->hparams.layers;
    for (size_t i = 0; i < m->arch->weight_count && data; i++) {
        const struct weight_spec *spec = &m->arch->weights[i];
        const char *hole = strstr(spec->gguf, "%d.");
        if ((hole != NULL) != inside) continue;
        const struct tensor *t;
        memcpy(&t, (inside ? (const char *)&m->weights.layer[layer] : (const char *)&m->weights) + spec->slot,
               sizeof t);
        if (t && t->data == data) return inside ? hole + 3 : spec->gguf;
    }
    return NULL;
}

static void name_of(const struct tlm_model *m, const struct captured *c, char *text, size_t size)
{
    const char *weight = c ? weight_name(m, c->layer, c->weight) : NULL;
    if (!c)
        snprintf(text, size, "-");
    else if (weight)
        snprintf(text, size, "%s %.*s", m->ops[c->op].name, (int)(strrchr(weight, '.') - weight), weight);
    else
        snprintf(text, size, "%s %d", m->ops[c->op].name, c->turn + 1);
}

// A line a layer, in the order in which layers run. Returns the nodes that had no partner.
static size_t print_layers(const struct capture *a, struct capture *b)
{
    size_t strangers = 0;
    int64_t layers = b->model->hparams.layers;
    struct captured *sorted = malloc((a->count + 1) * sizeof *sorted);
    if (!sorted) return a->count;
    memcpy(sorted, a->items, a->count * sizeof *sorted);
    qsort(sorted, a->count, sizeof *sorted, by_key);
    printf("| %-7s | %5s | %-28s | %9s | %-28s | %9s |\n| ------- | ----: | ---------------------------- | "
           "--------: | "
           "---------------------------- | --------: |\n",
           "layer", "nodes", "first that differs", "error", "largest error at", "error");
    for (int64_t l = -1; l <= layers; l++) { // -1: in front; layers: behind
        struct layer_line line = {0};
        for (size_t i = 0; i < b->count; i++) {
            const struct captured *y = &b->items[i];
            if (y->layer != l) continue;
            const struct captured *x = bsearch(y, sorted, a->count, sizeof *sorted, by_key);
            if (!x || x->count != y->count) {
                strangers++;
                continue;
            }
            double error = relative_error(x->values, y->values, y->count);
            line.compared++;
            if (error == 0) continue; // NaN is a difference
            if (!line.first) line.first = y, line.first_error = error;
            if (!line.worst || !(error <= line.worst_error)) line.worst = y, line.worst_error = error;
        }
        if (!line.compared) continue;
        char name[24], first[48], worst[48];
        snprintf(name, sizeof name, "%" PRId64, l);
        name_of(b->model, line.first, first, sizeof first);
        name_of(b->model, line.worst, worst, sizeof worst);
        printf("| %-7s | %5d | %-28s | %9.2e | %-28s | %9.2e |\n",
               l < 0         ? "input"
               : l == layers ? "output"
                             : name,
               line.compared, first, line.first_error, worst, line.worst_error);
    }
    free(sorted);
    return strangers;
}

static void print_logits(const float *a, const float *b, int32_t count, int64_t vocab)
{
    double difference = 0, norm = 0, divergence = 0;
    int32_t same = 0;
    for (int32_t t = 0; t < count; t++, a += vocab, b += vocab) {
        double sum_a = 0, sum_b = 0, kl = 0;
        int64_t best_a = 0, best_b = 0;
        for (int64_t i = 0; i < vocab; i++) {
            difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
            norm += (double)b[i] * b[i];
            if (a[i] > a[best_a]) best_a = i;
            if (b[i] > b[best_b]) best_b = i;
        }
        for (int64_t i = 0; i < vocab; i++)
            sum_a += exp((double)a[i] - a[best_a]), sum_b += exp((double)b[i] - b[best_b]);
        for (int64_t i = 0; i < vocab; i++) {
            double log_a = (double)a[i] - a[best_a] - log(sum_a),
                   log_b = (double)b[i] - b[best_b] - log(sum_b);
            kl += exp(log_a) * (log_a - log_b);
        }
        divergence += kl;
        same += best_a == best_b;
    }
    printf("\nlogits: error %.2e, divergence %.2e nats, same best token %d of %d\n",
           difference == 0 ? 0 : sqrt(difference / norm), divergence / count, same, count);
}

// ---- the command --------------------------------------------------------------------------------------------------------

static enum tlm_status read_tokens(const struct diff_args *args, const struct tlm_model *m, int32_t **ids,
                                   size_t *count, struct tlm_error *err)
{
    char *text = NULL, *end;
    size_t bytes;
    enum tlm_status status = TLM_OK;
    if (args->file) {
        if ((status = file_read(args->file, &text, &bytes, err))) return status;
        status = common_encode(m, text, bytes, TLM_ADD_BOS, ids, count, err);
        free(text);
        if (!status && *count > (size_t)args->tokens) *count = (size_t)args->tokens;
        return status;
    }
    const char *list = args->ids ? args->ids : "1 2 3 4 5 6 7 8";
    *ids = malloc((strlen(list) + 1) * sizeof **ids);
    if (!*ids) return error_set(err, TLM_ERR_MEMORY, "--ids: no memory");
    for (const char *at = list; *(at += strspn(at, " ,")); at = end) {
        long id = strtol(at, &end, 10);
        if (!args->ids && id >= m->hparams.vocab) break;
        if (end == at || id < 0 || id >= m->hparams.vocab)
            return error_set(err, TLM_ERR_ARGUMENT, "--ids: expected numbers below %" PRId64 ", found '%s'",
                             m->hparams.vocab, at);
        (*ids)[(*count)++] = (int32_t)id;
    }
    return TLM_OK;
}

static enum tlm_status compare(struct capture *a, struct capture *b, const struct diff_args *args,
                               struct tlm_error *err)
{
    int32_t *ids = NULL;
    size_t count = 0;
    float *logits_a = NULL, *logits_b = NULL;
    if (a->model->hparams.vocab != b->model->hparams.vocab)
        return error_set(err, TLM_ERR_ARGUMENT,
                         "expected two models of one vocabulary, found %" PRId64 " and %" PRId64 " tokens",
                         a->model->hparams.vocab, b->model->hparams.vocab);
    enum tlm_status status = read_tokens(args, a->model, &ids, &count, err);
    if (!status && !count) status = error_set(err, TLM_ERR_ARGUMENT, "expected a token at least, found none");
    if (!status) status = run_model(a, ids, (int32_t)count, &logits_a, err);
    if (!status) status = run_model(b, ids, (int32_t)count, &logits_b, err);
    if (!status) {
        printf("A: %s, isa %s\nB: %s, isa %s\n%zu tokens\n\n", tlm_model_description(a->model),
               tlm_model_isa(a->model), tlm_model_description(b->model), tlm_model_isa(b->model), count);
        size_t strangers = print_layers(a, b);
        if (strangers) printf("\n%zu nodes of B have no partner of the same shape in A\n", strangers);
        print_logits(logits_a, logits_b, (int32_t)count, a->model->hparams.vocab);
    }
    free(ids), free(logits_a), free(logits_b);
    return status;
}

static void free_capture(struct capture *c)
{
    for (size_t i = 0; i < c->count; i++) free(c->items[i].values);
    free(c->items);
    free(c->turns);
}

int eval_diff(int argc, char **argv)
{
    struct diff_args args = {.tokens = 32};
    const struct option_group groups[] = {OPTION_GROUP("Options:", options, &args)};
    const struct command_line line = {
        "eval diff",
        "MODEL_A [MODEL_B] [OPTION ...]",
        "Shows, layer by layer, where two models or two instruction sets part, and by how much.",
        groups,
        1,
        notes};
    const char *paths[2];
    size_t count;
    int code = options_parse(&line, argc, argv, paths, 2, &count);
    if (code != OPTIONS_GO) return code == EXIT_DONE ? common_finish_output(&line, code) : code;
    if (!count) return options_wrong(&line, "no model: expected MODEL_A");
    if (args.ids && args.file) return options_wrong(&line, "expected one of --ids and -f, found both");
    struct model_args how_a = {.path = paths[0], .isa = args.isa_a};
    struct model_args how_b = {.path = paths[count - 1],
                               .isa = args.isa_b || count == 2 ? args.isa_b : "f64"};
    struct tlm_model *a = NULL, *b = NULL;
    code = common_open_model(&line, &how_a, false, &a);
    if (code == OPTIONS_GO) code = common_open_model(&line, &how_b, false, &b);
    if (code == OPTIONS_GO) {
        struct tlm_error err;
        struct capture side_a = {.model = a}, side_b = {.model = b};
        code = compare(&side_a, &side_b, &args, &err) ? common_failed(&line, &err) : EXIT_DONE;
        free_capture(&side_a);
        free_capture(&side_b);
    }
    tlm_model_close(a);
    tlm_model_close(b);
    return common_finish_output(&line, code);
}

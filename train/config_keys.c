// train/config_keys.c -- the keys of a training run. Help, defaults, ranges and the order of written files come from this table.
#include "train/config_keys.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "models/create.h"

static const char *const precisions[] = {"f32", "bf16", "f16", NULL};
static const char *const recomputes[] = {"none", "attention", "layer", "auto", NULL};
static const char *const backends[] = {"cpu", "cuda", NULL};
static const char *const optimizers[] = {"adamw", "lion", "muon", "sgd", NULL};
static const char *const states[] = {"f32", "bf16", "q8", NULL};
static const char *const schedules[] = {"constant", "linear", "cosine", "wsd", NULL};

_Static_assert(sizeof(enum config_precision) == sizeof(int) && sizeof(enum config_recompute) == sizeof(int) &&
                   sizeof(enum optimizer_kind) == sizeof(int) && sizeof(enum config_state) == sizeof(int) &&
                   sizeof(enum schedule_kind) == sizeof(int) && sizeof(enum config_backend) == sizeof(int),
               "choices are stored as an int");

#define KEY(s, n, type, text, about, ...)                                                               \
    {                                                                                                   \
        .section = #s, .name = #n, .kind = CONFIG_##type, .offset = offsetof(struct train_config, s.n), \
        .fallback = text, .help = about, __VA_ARGS__                                                    \
    }
#define ANY             .low = 0
#define RANGE(from, to) .low = from, .high = to
#define FROM(from)      .low = from, .high = INFINITY
#define ONE_OF(names)   .choices = names

// clang-format off
const struct config_key config_keys[] = {
    KEY(model, arch, TEXT, "", "architecture of a new model, as general.architecture of a GGUF names it", ANY),
    KEY(model, init, TEXT, "", "model to go on from, instead of a new one", ANY),
    KEY(model, tokenizer, TEXT, "", "GGUF whose vocabulary a new model takes", ANY),

    KEY(data, train, WORDS, "", "files to train on: tokenized shards, text, JSONL", ANY),
    KEY(data, val, WORDS, "", "files to validate on; none: no validation", ANY),
    KEY(data, context, INTEGER, "0", "tokens a sequence; 0: the model's context", FROM(0)),
    KEY(data, seed, SEED, "1", "chooses the order of the data", ANY),

    KEY(train, steps, INTEGER, "0", "how long: so many optimizer steps,", FROM(0)),
    KEY(train, tokens, INTEGER, "0", "or so many tokens,", FROM(0)),
    KEY(train, epochs, NUMBER, "1", "or so often through the data; of the three, one is not 0", FROM(0)),
    KEY(train, batch_tokens, INTEGER, "16384", "tokens an optimizer step, rounded to whole sequences", FROM(1)),
    KEY(train, micro_batch, INTEGER, "0", "sequences a pass; 0: as memory allows", RANGE(0, 65536)),
    KEY(train, precision, CHOICE, "f32", "of the matrices in products; the weights that are updated are f32, and f16 has a loss scale", ONE_OF(precisions)),
    KEY(train, quantize, TEXT, "", "a type or mix as `tinylm quantize` knows them: matrices are rounded to it in every step, and the model is written in it", ANY),
    KEY(train, quantize_warmup, NUMBER, "0.1", "steps in which that rounding is blended in; below 1: a share of all", FROM(0)),
    KEY(train, distill, NUMBER, "0", "share of the loss that is the KL divergence from a teacher's distributions; the rest is that of the tokens", RANGE(0, 1)),
    KEY(train, teacher, TEXT, "", "model with the same vocabulary that teaches; none: the one of model.init, as it was", ANY),
    KEY(train, recompute, CHOICE, "auto", "activations that the way back computes again, for less memory", ONE_OF(recomputes)),
    KEY(train, dropout, NUMBER, "0", "share of numbers set to 0 behind the embedding, attention and feed-forward part", RANGE(0, 0.95)),
    KEY(train, backend, CHOICE, "cpu", "what computes: cpu, or cuda, a GPU", ONE_OF(backends)),
    KEY(train, threads, INTEGER, "0", "threads; 0: the processors this process may run on", RANGE(0, 1024)),
    KEY(train, seed, SEED, "1", "chooses new weights, dropout and samples", ANY),
    KEY(train, eval_every, INTEGER, "250", "steps between validations; 0: at the end alone", FROM(0)),
    KEY(train, eval_batches, INTEGER, "0", "passes a validation; 0: all of the data", FROM(0)),
    KEY(train, sample_every, INTEGER, "0", "steps between samples of text; 0: none", FROM(0)),
    KEY(train, sample_prompt, TEXT, "", "what samples begin with", ANY),
    KEY(train, early_stop, INTEGER, "0", "validations without a better loss before training ends; 0: never", FROM(0)),

    KEY(optimizer, kind, CHOICE, "adamw", "the rule of the update", ONE_OF(optimizers)),
    KEY(optimizer, lr, NUMBER, "0.001", "learning rate at its highest", RANGE(0, 100)),
    KEY(optimizer, beta1, NUMBER, "0.9", "decay of the mean of gradients; of muon and sgd the momentum", RANGE(0, 0.999999)),
    KEY(optimizer, beta2, NUMBER, "0.95", "decay of the mean of their squares", RANGE(0, 0.999999)),
    KEY(optimizer, eps, NUMBER, "1e-08", "joins the divisor", RANGE(0, 1)),
    KEY(optimizer, weight_decay, NUMBER, "0.1", "of matrices, times the learning rate", RANGE(0, 100)),
    KEY(optimizer, clip, NUMBER, "1", "largest norm of all gradients together; 0: no limit", FROM(0)),
    KEY(optimizer, state, CHOICE, "f32", "type of what the optimizer keeps a weight", ONE_OF(states)),
    KEY(optimizer, skip_sigma, NUMBER, "0", "steps are skipped whose gradient norm is so many deviations above the recent ones; 0: only infinite ones", FROM(0)),

    KEY(schedule, kind, CHOICE, "cosine", "how the learning rate falls", ONE_OF(schedules)),
    KEY(schedule, warmup, NUMBER, "0.02", "steps in which it rises from 0; below 1: a share of all", FROM(0)),
    KEY(schedule, decay, NUMBER, "0.2", "of wsd: steps at the end in which it falls; below 1: a share of all", FROM(0)),
    KEY(schedule, min_ratio, NUMBER, "0.1", "where it ends, as a share of lr", RANGE(0, 1)),

    KEY(checkpoint, dir, TEXT, "run", "folder of checkpoints, log and the finished model", ANY),
    KEY(checkpoint, every, INTEGER, "1000", "steps between checkpoints; 0: at the end alone", FROM(0)),
    KEY(checkpoint, keep, INTEGER, "3", "checkpoints that stay; 0: all", FROM(0)),

    KEY(log, every, INTEGER, "10", "steps between lines of the log", FROM(1)),
    KEY(log, on_start, TEXT, "", "shell command at the start,", ANY),
    KEY(log, on_step, TEXT, "", "behind each line of the log,", ANY),
    KEY(log, on_eval, TEXT, "", "behind each validation,", ANY),
    KEY(log, on_end, TEXT, "", "and at the end", ANY),
};
// clang-format on

_Static_assert(sizeof config_keys / sizeof *config_keys == CONFIG_KEY_COUNT, "CONFIG_KEY_COUNT is off");

const struct config_key *config_key_find(const char *section, const char *name)
{
    for (int i = 0; i < CONFIG_KEY_COUNT; i++)
        if (!strcmp(config_keys[i].section, section) && !strcmp(config_keys[i].name, name))
            return &config_keys[i];
    return NULL;
}

bool config_section_exists(const char *section)
{
    for (int i = 0; i < CONFIG_KEY_COUNT; i++)
        if (!strcmp(config_keys[i].section, section)) return true;
    return false;
}

// ---- what a misspelled name was meant to be -----------------------------------------------------------

enum { NAME_MAX_LENGTH = 48 };

// Insertions, deletions and replacements that turn a into b (Levenshtein); long names count as far apart.
static int distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    int row[NAME_MAX_LENGTH + 1];
    if (n > NAME_MAX_LENGTH || m > NAME_MAX_LENGTH) return NAME_MAX_LENGTH;
    for (size_t j = 0; j <= m; j++) row[j] = (int)j;
    for (size_t i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= m; j++) {
            int replaced = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            int other = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            row[j] = replaced < other ? replaced : other;
        }
    }
    return row[m];
}

struct nearest {
    const char *wanted, *section, *name;
    int best;
};

static void consider(struct nearest *n, const char *section, const char *name)
{
    int d = distance(n->wanted, name);
    if (d >= n->best) return;
    *n = (struct nearest){n->wanted, section, name, d};
}

// Names are near where at most a third of the letters differ, or two of short ones.
static struct nearest start(const char *wanted)
{
    int limit = (int)strlen(wanted) / 3;
    return (struct nearest){wanted, NULL, NULL, (limit < 2 ? 2 : limit) + 1};
}

const char *config_nearest_section(const char *name)
{
    struct nearest n = start(name);
    for (int i = 0; i < CONFIG_KEY_COUNT; i++) consider(&n, NULL, config_keys[i].section);
    return n.name;
}

const char *config_nearest_key(const char *section, const char *name, char *buffer, size_t size)
{
    struct nearest n = start(name);
    for (int pass = 0; pass < 2 && (pass == 0 || n.best > 0); pass++) {
        bool own =
            pass == 0; // the section's own names come first, so that an equal distance chooses one of them
        for (int i = 0; i < CONFIG_KEY_COUNT; i++)
            if (!strcmp(config_keys[i].section, section) == own)
                consider(&n, config_keys[i].section, config_keys[i].name);
        for (size_t i = 0; i < create_key_count; i++)
            if (!strcmp("model", section) == own) consider(&n, "model", create_keys[i].name);
    }
    if (!n.name) return NULL;
    snprintf(buffer, size, "%s.%s", n.section, n.name);
    return buffer;
}

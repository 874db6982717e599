// cli/sampling.c -- see cli/sampling.h.
#include "cli/sampling.h"

#include <errno.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "models/identity.h"

#define AT(field) offsetof(struct sampling_args, field)

// Ranges that exclude their end (--top-p 0) are checked by the sampler itself.
const struct option sampling_options[SAMPLING_OPTION_COUNT] = {
    {"-s, --seed", "N", OPTION_INT64, AT(seed), .low = -1, .high = (double)INT64_MAX,
     .help = "seed of the random numbers; -1 for one from the system, which --stats shows. Default: -1."},
    {"--samplers", "LIST", OPTION_STRING, AT(options.samplers),
     .help = "samplers in the order they apply, joined by ';'. Default: "
             "penalties;dry;top_k;typ_p;top_p;min_p;xtc;temperature."},
    {"--temp, --temperature", "T", OPTION_FLOAT, AT(options.temperature), .low = 0, .high = FLT_MAX,
     .help = "temperature; 0 takes the likeliest token each time. Default: 0.8."},
    {"--top-k", "K", OPTION_INT, AT(options.top_k), .low = 0, .high = INT_MAX,
     .help = "keep the K likeliest tokens; 0 all. Default: 40."},
    {"--top-p", "P", OPTION_FLOAT, AT(options.top_p), .low = 0, .high = 1,
     .help = "keep the likeliest tokens that together have probability P; 1 all. Default: 0.95."},
    {"--min-p", "P", OPTION_FLOAT, AT(options.min_p), .low = 0, .high = 1,
     .help = "keep tokens at least P times as likely as the likeliest; 0 all. Default: 0.05."},
    {"--typical", "P", OPTION_FLOAT, AT(options.typical_p), .low = 0, .high = 1,
     .help = "keep the most typical tokens that together have probability P; 1 all. Default: 1."},
    {"--repeat-penalty", "R", OPTION_FLOAT, AT(options.repeat_penalty), .low = 0, .high = FLT_MAX,
     .help = "weaken tokens of the recent text by this factor; 1 off. Default: 1."},
    {"--repeat-last-n", "N", OPTION_INT, AT(options.penalty_last_n), .low = -1, .high = INT_MAX,
     .help = "tokens of recent text that penalties look at; 0 off, -1 all. Default: 64."},
    {"--frequency-penalty", "X", OPTION_FLOAT, AT(options.frequency_penalty),
     .help = "taken from a token's logit for each time it occurs there. Default: 0."},
    {"--presence-penalty", "X", OPTION_FLOAT, AT(options.presence_penalty),
     .help = "taken from a token's logit if it occurs there. Default: 0."},
    {"--dry-multiplier", "X", OPTION_FLOAT, AT(options.dry_multiplier), .low = 0, .high = FLT_MAX,
     .help = "strength of DRY, which weakens what would continue a repetition; 0 off. Default: 0."},
    {"--dry-base", "X", OPTION_FLOAT, AT(options.dry_base), .low = 1, .high = FLT_MAX,
     .help = "growth of DRY with each token of the repetition. Default: 1.75."},
    {"--dry-allowed-length", "N", OPTION_INT, AT(options.dry_allowed_length), .low = 0, .high = INT_MAX,
     .help = "repetitions up to N tokens are free. Default: 2."},
    {"--dry-penalty-last-n", "N", OPTION_INT, AT(options.dry_last_n), .low = -1, .high = INT_MAX,
     .help = "tokens DRY looks back; 0 off, -1 all. Default: -1."},
    {"--dry-sequence-breaker", "TEXT", OPTION_STRINGS, AT(breakers),
     .help = "text that no repetition crosses, in place of the default ones; may be given again; 'none' for "
             "none. "
             "Default: newline, ':', '\"', '*'."},
    {"--xtc-probability", "P", OPTION_FLOAT, AT(options.xtc_probability), .low = 0, .high = 1,
     .help = "how often XTC drops all likely tokens but the least likely of them; 0 off. Default: 0."},
    {"--xtc-threshold", "P", OPTION_FLOAT, AT(options.xtc_threshold), .low = 0, .high = 1,
     .help = "tokens of at least this probability are likely to XTC. Default: 0.1."},
    {"--mirostat", "N", OPTION_INT, AT(options.mirostat), .low = 0, .high = 2,
     .help = "mirostat 1 or 2 in place of the samplers but temperature; 0 off. Default: 0."},
    {"--mirostat-ent", "X", OPTION_FLOAT, AT(options.mirostat_tau), .low = 0, .high = FLT_MAX,
     .help = "the surprise mirostat aims at, in bits a token. Default: 5."},
    {"--mirostat-lr", "X", OPTION_FLOAT, AT(options.mirostat_eta), .low = 0, .high = FLT_MAX,
     .help = "mirostat's learning rate. Default: 0.1."},
    {"--logit-bias", "ID+V", OPTION_STRINGS, AT(biases),
     .help = "add V to the logit of token ID, or take it away with ID-V; ID-inf forbids the token; may be "
             "given again. "
             "Default: none."},
    {"--grammar, --grammar-file", "FILE", OPTION_STRING, AT(grammar_file),
     .help = "the answer is a text of this grammar, in GBNF; '-' for standard input. Default: none."},
    {"--json-schema, --json-schema-file", "FILE", OPTION_STRING, AT(schema_file),
     .help = "the answer is JSON that this schema allows; '-' for standard input. Default: none."},
    {"--regex", "PATTERN", OPTION_STRING, AT(regex),
     .help = "the whole answer matches this regular expression. Default: none."},
    {"--ignore-eos", NULL, OPTION_FLAG, AT(options.ignore_end),
     .help = "never draw a token that ends the answer. Default: off."},
};

struct sampling_args sampling_defaults(void)
{
    return (struct sampling_args){.options = tlm_sampler_defaults(), .seed = -1};
}

// "15043+1.5", "15043-inf"
static bool parse_bias(const char *text, struct tlm_logit_bias *bias)
{
    char *end;
    errno = 0;
    long id = strtol(text, &end, 10);
    if (*text < '0' || *text > '9' || errno || id > INT32_MAX || (*end != '+' && *end != '-')) return false;
    const char *value = end;
    bias->token = (int32_t)id;
    bias->bias = strtof(value, &end);
    return end != value && !*end;
}

uint64_t sampling_draw_seed(void)
{
    uint64_t seed;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed) seed = (uint64_t)time(NULL);
    return seed >> 1;
}

// The grammar that the options name, unless there is none or it is open already.
static enum tlm_status open_grammar(struct sampling_args *args, const struct tlm_model *model,
                                    struct tlm_error *err)
{
    const char *path = args->grammar_file ? args->grammar_file : args->schema_file;
    enum tlm_status status;
    if ((args->grammar_file != NULL) + (args->schema_file != NULL) + (args->regex != NULL) > 1)
        return error_set(err, TLM_ERR_ARGUMENT,
                         "expected one of --grammar, --json-schema and --regex, found several");
    if (args->grammar || (!path && !args->regex)) return TLM_OK;
    if (path) {
        char *text;
        size_t bytes;
        enum tlm_grammar_kind kind = args->grammar_file ? TLM_GRAMMAR_GBNF : TLM_GRAMMAR_JSON_SCHEMA;
        status = file_read(path, &text, &bytes, err);
        if (status) return status;
        status = tlm_grammar_open(&args->grammar, model, kind, text, bytes, err);
        args->grammar_hash = identity_add(0, text, bytes);
        free(text);
        if (status) error_prefix(err, "%.200s", path);
    } else {
        status =
            tlm_grammar_open(&args->grammar, model, TLM_GRAMMAR_REGEX, args->regex, strlen(args->regex), err);
    }
    args->options.grammar = args->grammar;
    return status;
}

void sampling_close(struct sampling_args *args)
{
    tlm_grammar_close(args->grammar);
    args->grammar = NULL;
    args->options.grammar = NULL;
}

enum tlm_status sampling_make(struct sampling_args *args, const struct tlm_model *model,
                              struct tlm_sampler **sampler, struct tlm_error *err)
{
    struct tlm_sampler_options *o = &args->options;
    struct tlm_logit_bias biases[OPTION_STRINGS_MAX];
    *sampler = NULL;
    enum tlm_status status = open_grammar(args, model, err);
    if (status) return status;
    for (size_t i = 0; i < args->biases.count; i++)
        if (!parse_bias(args->biases.items[i], &biases[i]))
            return error_set(err, TLM_ERR_ARGUMENT,
                             "--logit-bias: expected a token's id, '+' or '-', and a number, found '%s'",
                             args->biases.items[i]);
    if (args->biases.count) o->logit_bias = biases, o->logit_bias_count = args->biases.count;
    if (args->breakers.count) {
        bool none = args->breakers.count == 1 && !strcmp(args->breakers.items[0], "none");
        o->dry_breakers = args->breakers.items;
        o->dry_breaker_count = none ? 0 : args->breakers.count;
    }
    o->seed = args->seed < 0 ? sampling_draw_seed() : (uint64_t)args->seed;
    status = tlm_sampler_open(sampler, model, o, err);
    o->logit_bias = NULL; // the sampler has its own copy
    o->logit_bias_count = 0;
    return status;
}

int sampling_open(const struct command_line *line, struct sampling_args *args, const struct tlm_model *model,
                  struct tlm_sampler **sampler)
{
    struct tlm_error err;
    enum tlm_status status = sampling_make(args, model, sampler, &err);
    if (status == TLM_ERR_ARGUMENT) return options_wrong(line, "%s", err.text);
    return status ? common_failed(line, &err) : OPTIONS_GO;
}

static bool is_number(const struct option *o)
{
    return o->kind == OPTION_INT || o->kind == OPTION_INT64 || o->kind == OPTION_FLOAT;
}

// "temp" of "--temp, --temperature", "seed" of "-s, --seed"
static const char *name_of(const struct option *o)
{
    return strstr(o->names, "--") + 2;
}

bool sampling_set(struct sampling_args *args, const char *name, const char *value)
{
    char option[80];
    bool known = false;
    snprintf(option, sizeof option, "--%s", name);
    for (int i = 0; i < SAMPLING_OPTION_COUNT; i++) {
        const char *found = strstr(sampling_options[i].names, option);
        char behind = found ? found[strlen(option)] : 'x';
        known |= is_number(&sampling_options[i]) && (!behind || behind == ',');
    }
    if (!known) {
        fprintf(stderr, "/set: no setting '%s'; /set alone lists them\n", name);
        return false;
    }
    const struct option_group groups[] = {OPTION_GROUP("Sampling:", sampling_options, args)};
    const struct command_line line = {"chat", "", "", groups, 1, NULL};
    char *argv[] = {(char *)"/set", option, (char *)value, NULL};
    return options_parse(&line, 3, argv, NULL, 0, NULL) == OPTIONS_GO;
}

void sampling_print(const struct sampling_args *args, FILE *f)
{
    for (int i = 0; i < SAMPLING_OPTION_COUNT; i++) {
        const struct option *o = &sampling_options[i];
        const char *at = (const char *)args + o->offset;
        if (!is_number(o)) continue;
        int width = (int)strcspn(name_of(o), ",");
        fprintf(f, "%.*s%*s", width, name_of(o), 22 - width, "");
        if (o->kind == OPTION_FLOAT)
            fprintf(f, "%g\n", (double)*(const float *)at);
        else
            fprintf(f, "%lld\n",
                    o->kind == OPTION_INT ? (long long)*(const int32_t *)at
                                          : (long long)*(const int64_t *)at);
    }
}

// ---- settings of a JSON object ------------------------------------------------------------------------

// "top_k" is the key of "--top-k".
static const struct option *option_of_key(const char *key)
{
    for (int i = 0; i < SAMPLING_OPTION_COUNT; i++) {
        const char *name = sampling_options[i].names;
        while ((name = strstr(name, "--"))) {
            size_t n = strcspn(name += 2, ","), at = 0;
            while (at < n && key[at] == (name[at] == '-' ? '_' : name[at])) at++;
            if (at == n && !key[n]) return &sampling_options[i];
        }
    }
    return NULL;
}

static enum tlm_status wrong_value(const struct option *o, const char *key, const char *kind,
                                   const json_t *found, struct tlm_error *err)
{
    char range[64] = "", shown[64];
    if ((o->low != 0 || o->high != 0) && o->high >= 1e9)
        snprintf(range, sizeof range, " of at least %g", o->low);
    else if (o->low != 0 || o->high != 0)
        snprintf(range, sizeof range, " from %g to %g", o->low, o->high);
    if (json_is_number(found))
        snprintf(shown, sizeof shown, "%.15g", json_number_value(found));
    else
        snprintf(shown, sizeof shown, "%s", json_kind(found));
    return error_set(err, TLM_ERR_ARGUMENT, "%s: expected %s%s, found %s", key, kind, range, shown);
}

enum tlm_status sampling_set_json(struct sampling_args *args, const char *key, const json_t *value,
                                  bool *known, struct tlm_error *err)
{
    const struct option *o = option_of_key(key);
    // No lists; and a request names no file to read: its own grammar stands in it.
    bool grammar =
        o && (o->offset == AT(grammar_file) || o->offset == AT(schema_file) || o->offset == AT(regex));
    *known = o && o->kind <= OPTION_STRING && !grammar;
    if (!*known) return TLM_OK;
    void *into = (char *)args + o->offset;
    double number = json_number_value(value);
    bool in_range = (o->low == 0 && o->high == 0) || (number >= o->low && number <= o->high);
    switch (o->kind) {
    case OPTION_FLAG:
        if (!json_is_boolean(value)) return wrong_value(o, key, "true or false", value, err);
        *(bool *)into = json_is_true(value);
        break;
    case OPTION_STRING:
        if (!json_is_string(value)) return wrong_value(o, key, "a text", value, err);
        *(const char **)into = json_string_value(value);
        break;
    case OPTION_FLOAT:
        if (!json_is_number(value) || !in_range || !(fabs(number) <= (double)FLT_MAX))
            return wrong_value(o, key, "a number", value, err);
        *(float *)into = (float)number;
        break;
    default: // OPTION_INT and OPTION_INT64
        if (!json_is_integer(value) || !in_range) return wrong_value(o, key, "a whole number", value, err);
        if (o->kind == OPTION_INT64)
            *(int64_t *)into = json_integer_value(value);
        else
            *(int32_t *)into = (int32_t)json_integer_value(value);
    }
    return TLM_OK;
}

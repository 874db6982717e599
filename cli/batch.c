// cli/batch.c -- generate --in: requests stream through a tlm_batch, a few more in it than run at once, so that nobody waits for a prompt
// to be read and made tokens of. Answers are written as they end.
#include "cli/batch.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "cli/batch_file.h"
#include "cli/batch_report.h"
#include "core/error.h"
#include "models/identity.h"

enum { WINDOW = 4 }; // requests in the batch for each that runs

const struct option batch_options[BATCH_OPTION_COUNT] = {
    {"--in", "FILE", OPTION_STRING, offsetof(struct batch_args, in),
     .help =
         "answer the requests of this file, '-' for standard input: a JSON object a line, with \"prompt\" or "
         "\"messages\" (and \"tools\"), and where they differ from the options here \"max_tokens\", "
         "\"stop\", "
         "\"seed\", \"temperature\", \"top_k\" and so on; \"n\" answers to each; \"priority\"; \"id\" comes "
         "back. "
         "Default: none."},
    {"--out", "FILE", OPTION_STRING, offsetof(struct batch_args, out),
     .help = "append the answers to this file, a JSON object a line, as they end; those that are there "
             "already are "
             "not made again, so a run that was stopped goes on. Default: '-', standard output."},
    {"--parallel", "N", OPTION_INT, offsetof(struct batch_args, parallel), .low = 1, .high = 4096,
     .help = "requests that run at once. Default: 8."},
    {"--cache", "N", OPTION_INT, offsetof(struct batch_args, cache), .low = 1, .high = INT32_MAX / 2,
     .help = "tokens that the cache of all requests holds. Default: room for all that run at once, or what "
             "half of "
             "the free memory holds."},
};

struct batch {
    const struct command_line *line;
    const struct batch_settings *settings;
    struct batch_defaults defaults;
    struct conversation conversation;
    const struct tlm_model *model;
    struct tlm_batch *engine;
    struct batch_input in;
    struct batch_output out;
    uint64_t options_hash;
    int32_t window;

    struct batch_line *current; // more choices of it are to come
    int32_t choice;             // the next
    const struct batch_done *found;
    size_t found_count; // answers to it that were there

    struct answer *open; // in the engine, a list
    int32_t open_count;
    struct tlm_drafter **drafters; // [drafter_count] that serve nobody now; they know what guesses cost
    int32_t drafter_count;

    struct batch_report report;
    bool stopped;  // an answer could not be written
    bool complete; // no request is left
    struct tlm_error error;
};

// One choice of a line, while the engine has it.
struct answer {
    struct batch *batch;
    struct batch_line *line;
    int32_t choice;
    struct tlm_sampler *sampler;
    struct tlm_drafter *drafter;
    char *text;
    size_t bytes, capacity;
    struct answer *next, **link; // *link points here
};

// ---- records ------------------------------------------------------------------------------------------

// Appends a record, which is freed; NULL stands for one that found no memory.
static enum tlm_status append(struct batch *b, char *record, struct tlm_error *err)
{
    if (!record) return error_set(err, TLM_ERR_MEMORY, "answer: no memory for its record");
    enum tlm_status status = batch_output_append(&b->out, record, strlen(record), err);
    free(record);
    b->report.answers += !status;
    return status;
}

static enum tlm_status append_failure(struct batch *b, const struct batch_line *l, int32_t choice,
                                      const struct tlm_error *failure, struct tlm_error *err)
{
    b->report.failures++;
    batch_report_hide(&b->report);
    fprintf(stderr, "tinylm generate: %s: line %" PRId64 ": %s\n", b->in.name, l->index + 1, failure->text);
    return append(b, batch_line_failure(l, choice, failure->text), err);
}

static void line_done(struct batch *b)
{
    b->report.done++;
    b->report.done_here++;
}

static void release_line(struct batch *b, struct batch_line *l)
{
    if (--l->open) return;
    batch_line_free(l);
    line_done(b);
}

// ---- answers ------------------------------------------------------------------------------------------

static void free_answer(struct answer *a)
{
    struct batch *b = a->batch;
    *a->link = a->next;
    if (a->next) a->next->link = a->link;
    b->open_count--;
    if (a->drafter) b->drafters[b->drafter_count++] = a->drafter;
    tlm_sampler_close(a->sampler);
    release_line(b, a->line);
    free(a->text);
    free(a);
}

static struct answer *new_answer(struct batch *b, struct batch_line *l, int32_t choice)
{
    struct answer *a = calloc(1, sizeof *a);
    if (!a) return NULL;
    *a = (struct answer){.batch = b, .line = l, .choice = choice, .next = b->open, .link = &b->open};
    if (a->next) a->next->link = &a->next;
    b->open = a;
    b->open_count++;
    l->open++;
    return a;
}

static int take_text(void *user, int32_t token, const char *text, size_t bytes)
{
    struct answer *a = user;
    a->batch->report.drawn += token >= 0;
    if (bytes > a->capacity - a->bytes) {
        size_t wanted = 2 * a->capacity + bytes + 256;
        char *grown = realloc(a->text, wanted);
        if (!grown) {
            a->batch->stopped = true;
            return error_set(&a->batch->error, TLM_ERR_MEMORY, "answer: no memory for %zu bytes", wanted);
        }
        a->text = grown;
        a->capacity = wanted;
    }
    if (bytes) memcpy(a->text + a->bytes, text, bytes);
    a->bytes += bytes;
    return common_interrupted();
}

static void take_answer(void *user, const struct tlm_generate_result *r)
{
    struct answer *a = user;
    struct batch *b = a->batch;
    if (r->finish != TLM_FINISH_CANCELLED && !b->stopped) {
        char *record = batch_line_answer(a->line, a->choice, a->text ? a->text : "", a->bytes, r);
        b->stopped = append(b, record, &b->error) != TLM_OK;
        b->report.prompt_tokens += r->prompt_tokens;
        b->report.reused_tokens += r->reused_tokens;
        b->report.new_tokens += r->new_tokens;
        b->report.drafted_tokens += r->drafted_tokens;
        b->report.accepted_tokens += r->accepted_tokens;
    }
    free(r->tokens);
    free_answer(a);
}

static enum tlm_status open_drafter(struct batch *b, struct tlm_drafter **drafter, struct tlm_error *err)
{
    if (!b->settings->drafting->lookup) return TLM_OK;
    if (!b->drafter_count) return tlm_drafter_open_lookup(drafter, err);
    *drafter = b->drafters[--b->drafter_count];
    return TLM_OK;
}

// Hands one choice of a line to the engine. What is wrong with the request becomes its record.
static enum tlm_status start_choice(struct batch *b, struct batch_line *l, int32_t choice,
                                    struct tlm_error *err)
{
    struct answer *a = new_answer(b, l, choice);
    if (!a) return error_set(err, TLM_ERR_MEMORY, "answer: no memory for it");
    // Opening a sampler for 128,000 tokens takes half a millisecond: not worth keeping them.
    enum tlm_status status = batch_line_sampler(l, choice, b->model, &a->sampler, err);
    if (!status) status = open_drafter(b, &a->drafter, err);
    if (!status) {
        struct tlm_generate_options options = {
            .max_tokens = l->predict < 0 ? 0
                          : l->predict   ? l->predict
                                         : -1,
            .stop = l->stop,
            .stop_count = l->stop_count,
            .special = b->defaults.special,
            .drafter = a->drafter,
            .draft_max = b->settings->drafting->most,
            .on_token = take_text,
            .user = a,
        };
        status = tlm_batch_add(b->engine, a->sampler, l->prompt, l->count, &options, l->priority, take_answer,
                               NULL, err);
    }
    if (!status) return TLM_OK;
    struct tlm_error failure = *err;
    if (status != TLM_ERR_MEMORY) status = append_failure(b, l, choice, &failure, err);
    free_answer(a);
    return status;
}

// ---- lines --------------------------------------------------------------------------------------------

static bool has_choice(const struct batch *b, int32_t choice)
{
    for (size_t i = 0; i < b->found_count; i++)
        if (b->found[i].choice == choice || b->found[i].choice < 0) return true;
    return false;
}

static int32_t next_choice(const struct batch *b, int32_t choice)
{
    while (choice < b->current->choices && has_choice(b, choice)) choice++;
    return choice;
}

// Takes the next line. One that cannot be read becomes a record.
static enum tlm_status start_line(struct batch *b, const char *text, size_t bytes, struct tlm_error *err)
{
    int64_t index = b->in.lines - 1;
    uint64_t hash = identity_add(b->options_hash, text, bytes);
    struct batch_line *l;
    enum tlm_status status = batch_output_find(&b->out, index, hash, &b->found, &b->found_count, err);
    if (status) return status;
    if (!bytes) return TLM_OK;
    if (b->found_count && b->found[0].choice < 0) { // the whole line is done
        b->report.done++;
        return TLM_OK;
    }
    status = batch_line_read(&l, index, hash, text, bytes, &b->defaults, err);
    if (status && status != TLM_ERR_MEMORY) {
        struct tlm_error failure = *err;
        status = append_failure(b, l, -1, &failure, err);
        batch_line_free(l);
        line_done(b);
        return status;
    }
    if (status) {
        batch_line_free(l);
        return status;
    }
    b->current = l;
    l->open = 1;
    b->choice = next_choice(b, 0);
    if (b->choice == l->choices) return TLM_OK;
    if ((status = batch_line_encode(l, &b->defaults, err)) && status != TLM_ERR_MEMORY) {
        struct tlm_error failure = *err;
        status = append_failure(b, l, -1, &failure, err);
        b->choice = l->choices;
    }
    return status;
}

// Hands requests to the engine until it has enough of them, or no more come for now. *ended: none will.
static enum tlm_status feed(struct batch *b, bool *ended, struct tlm_error *err)
{
    enum tlm_status status = TLM_OK;
    *ended = false;
    while (!status && b->open_count < b->window && !common_interrupted()) {
        const char *text;
        size_t bytes;
        if (b->current && b->choice < b->current->choices) {
            status = start_choice(b, b->current, b->choice, err);
            b->choice = next_choice(b, b->choice + 1);
            continue;
        }
        if (b->current) release_line(b, b->current);
        b->current = NULL;
        switch (batch_input_next(&b->in, !b->open_count, &text, &bytes, err)) {
        case BATCH_LINE: status = start_line(b, text, bytes, err); break;
        case BATCH_LATER: return TLM_OK;
        case BATCH_FAILED: return err->code;
        case BATCH_END: *ended = true; return batch_output_find_end(&b->out, b->in.lines, err);
        }
    }
    return status;
}

// Compares all answers that are there with their requests before any is added; an input that cannot be read twice is compared as it comes.
// Counts the lines, too.
static enum tlm_status look_ahead(struct batch *b, struct tlm_error *err)
{
    b->report.lines = -1;
    if (!batch_input_is_file(&b->in)) return TLM_OK;
    const char *text;
    size_t bytes;
    enum batch_read read;
    enum tlm_status status = TLM_OK;
    b->report.lines = 0;
    while (!status && (read = batch_input_next(&b->in, true, &text, &bytes, err)) != BATCH_END) {
        if (read == BATCH_FAILED) return err->code;
        if (read == BATCH_LATER) continue;
        b->report.lines += bytes > 0;
        uint64_t hash = identity_add(b->options_hash, text, bytes);
        status = batch_output_find(&b->out, b->in.lines - 1, hash, &b->found, &b->found_count, err);
    }
    if (!status) status = batch_output_find_end(&b->out, b->in.lines, err);
    b->out.next = 0;
    return status ? status : batch_input_rewind(&b->in, err);
}

// ---- the run ------------------------------------------------------------------------------------------

// What sampling_print() leaves out: flags and texts. The table is asked, so that no new option is forgotten here.
static void print_texts(const struct sampling_args *args, FILE *f)
{
    for (int i = 0; i < SAMPLING_OPTION_COUNT; i++) {
        const struct option *o = &sampling_options[i];
        const char *at = (const char *)args + o->offset;
        fprintf(f, "%s", o->names);
        if (o->kind == OPTION_FLAG) fprintf(f, " %d", *(const bool *)at);
        if (o->kind == OPTION_STRING || o->kind == OPTION_CHOICE) {
            const char *text = *(const char *const *)at;
            fprintf(f, "%c%s", text ? '=' : ' ', text ? text : "");
        }
        const struct option_strings *list = (const struct option_strings *)at;
        for (size_t k = 0; o->kind == OPTION_STRINGS && k < list->count; k++)
            fprintf(f, " %s%c", list->items[k], 0);
        fputc(0, f);
    }
}

// Of all options that decide what an answer says, so that no file mixes answers of two models or temperatures.
static enum tlm_status hash_options(struct batch *b, struct tlm_error *err)
{
    const struct batch_settings *s = b->settings;
    char *text = NULL;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    if (!f) return error_set(err, TLM_ERR_MEMORY, "options: no memory for them");
    const struct conversation_args *c = s->conversation;
    const char *const strings[] = {c->system, c->template_file,      c->variables,
                                   c->tools,  s->session->kv_type_k, s->session->kv_type_v};
    sampling_print(s->sampling, f);
    fprintf(f, "%d %d %d %d\n", s->answer->predict, s->answer->special, s->chat, s->session->context);
    // A zero byte behind each tells "a", "b" from "ab".
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
        fprintf(f, "%s%c", strings[i] ? strings[i] : "", 0);
    for (size_t i = 0; i < s->answer->stop.count; i++) fprintf(f, "stop %s%c", s->stop[i], 0);
    print_texts(s->sampling, f);
    fprintf(f, "%" PRIx64 "%c", s->sampling->grammar_hash, 0);
    bool failed = ferror(f);
    failed |= fclose(f) != 0;
    if (!failed) b->options_hash = identity_add(model_identity(b->model), text, bytes);
    free(text);
    return failed ? error_set(err, TLM_ERR_MEMORY, "options: no memory for them") : TLM_OK;
}

static enum tlm_status run(struct batch *b, struct tlm_error *err)
{
    bool ended = false;
    enum tlm_status status = TLM_OK;
    b->report.begin = common_seconds();
    while (!status && !common_interrupted()) {
        int64_t left;
        status = feed(b, &ended, err);
        if (!status && ended && !b->open_count) {
            b->complete = true;
            break;
        }
        if (!status) status = tlm_batch_step(b->engine, &left, err);
        if (b->stopped) { // the cause, whatever came of it
            *err = b->error;
            status = err->code;
        }
        batch_report_progress(&b->report);
    }
    return status;
}

static enum tlm_status open_engine(struct batch *b, struct tlm_error *err)
{
    const struct batch_settings *s = b->settings;
    struct tlm_batch_options options = {.parallel = s->batch->parallel,
                                        .context = s->session->context,
                                        .cache = s->batch->cache,
                                        .threads = s->session->threads,
                                        .batch = s->session->batch,
                                        .kv_type_k = s->session->kv_type_k,
                                        .kv_type_v = s->session->kv_type_v};
    enum tlm_status status = tlm_batch_open(&b->engine, b->model, &options, err);
    if (status) return status;
    b->window = WINDOW * tlm_batch_info(b->engine).parallel;
    b->drafters = calloc((size_t)b->window, sizeof *b->drafters);
    return b->drafters ? TLM_OK : error_set(err, TLM_ERR_MEMORY, "answers: no memory for %d", b->window);
}

// Opens what needs the model, and compares what is there with what is asked.
static enum tlm_status prepare(struct batch *b, struct tlm_error *err)
{
    const struct batch_settings *s = b->settings;
    b->defaults = (struct batch_defaults){.sampling = *s->sampling,
                                          .predict = s->answer->predict,
                                          .stop = s->stop,
                                          .stop_count = s->answer->stop.count,
                                          .special = s->answer->special,
                                          .chat = s->chat,
                                          .conversation = &b->conversation};
    for (size_t i = 0; i < b->out.count; i++) b->report.failures += b->out.done[i].failed;
    b->report.found_answers = (int64_t)b->out.count;
    enum tlm_status status = conversation_open(&b->conversation, b->model, s->conversation, err);
    if (!status) status = hash_options(b, err);
    if (!status) status = look_ahead(b, err);
    if (!status) status = open_engine(b, err);
    return status;
}

static void close_all(struct batch *b)
{
    tlm_batch_close(b->engine); // drops the requests that are in it
    while (b->open) free_answer(b->open);
    if (b->current) release_line(b, b->current);
    while (b->drafter_count) tlm_drafter_close(b->drafters[--b->drafter_count]);
    free(b->drafters);
    conversation_close(&b->conversation);
    batch_input_close(&b->in);
}

// Says how it went, and what the exit code is.
static int finish(struct batch *b, enum tlm_status status, const struct tlm_error *err)
{
    const struct command_line *line = b->line;
    struct tlm_error sync;
    int code = EXIT_DONE, broken = b->out.error;
    bool to_stdout = b->out.fd == STDOUT_FILENO;
    if (status && !(broken && to_stdout)) code = common_failed(line, err);
    if (!status && !b->complete) {
        fprintf(stderr, "tinylm generate: interrupted%s\n",
                b->out.is_file ? "; the same command goes on with the rest" : "");
        code = EXIT_FAILED;
    }
    if (!status && b->report.failures) {
        fprintf(stderr,
                "tinylm generate: %" PRId64 " of %" PRId64 " answers are errors; their records say why\n",
                b->report.failures, b->report.answers + b->report.found_answers);
        code = EXIT_FAILED;
    }
    if (batch_output_close(&b->out, &sync) && !status) code = common_failed(line, &sync);
    return broken && to_stdout ? common_output_failed(line, broken, code) : code;
}

int batch_run(const struct command_line *line, const struct batch_settings *settings)
{
    struct batch *b = calloc(1, sizeof *b);
    struct tlm_model *model = NULL;
    struct tlm_sampler *sampler = NULL;
    struct tlm_error err;
    if (!b) {
        error_set(&err, TLM_ERR_MEMORY, "no memory for the run");
        return common_failed(line, &err);
    }
    b->line = line;
    b->settings = settings;
    b->report.shown = isatty(STDERR_FILENO);
    const char *out = settings->batch->out ? settings->batch->out : "-";
    enum tlm_status status = batch_input_open(&b->in, settings->batch->in, &err);
    if (!status) status = batch_output_open(&b->out, out, &err);
    if (!status && b->out.cut)
        fprintf(stderr, "tinylm generate: %s: cut off %" PRId64 " bytes of a line that was not whole\n", out,
                b->out.cut);
    int code = status ? common_failed(line, &err) : OPTIONS_GO;
    if (code == OPTIONS_GO) code = common_open_model(line, settings->model, false, &model);
    // What all requests share is checked once and for all.
    if (code == OPTIONS_GO) code = sampling_open(line, settings->sampling, model, &sampler);
    tlm_sampler_close(sampler);
    if (code == OPTIONS_GO) {
        b->model = model;
        common_catch_interrupt();
        status = prepare(b, &err);
        if (!status) {
            status = run(b, &err);
            batch_report_hide(&b->report);
            if (!status) batch_report_stats(&b->report, settings->stats, b->engine, model);
        }
        code = finish(b, status, &err);
    } else {
        batch_output_close(&b->out, NULL);
    }
    close_all(b);
    free(b);
    sampling_close(settings->sampling);
    tlm_model_close(model);
    return code;
}

// cli/data_generate.c -- tinylm data generate stories: a corpus that needs no download.
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "cli/common.h"
#include "core/error.h"
#include "core/file.h"
#include "train/stories.h"

struct generate_args {
    const char *out;
    int64_t documents, seed, first;
    float talks;
    bool held_out;
};

static const struct option options[] = {
    {"-o, --output", "FILE.jsonl", OPTION_STRING, offsetof(struct generate_args, out),
     .help = "a document a line: {\"text\": ...} or {\"messages\": [...]}. Default: none."},
    {"-n, --documents", "N", OPTION_INT64, offsetof(struct generate_args, documents), .low = 1, .high = 1e12,
     .help = "how many. Default: 10000."},
    {"-s, --seed", "N", OPTION_INT64, offsetof(struct generate_args, seed),
     .help = "another one gives other documents. Default: 1."},
    {"--first", "N", OPTION_INT64, offsetof(struct generate_args, first), .low = 0, .high = 1e15,
     .help =
         "the number of the first document: two runs with ranges apart write what one would. Default: 0."},
    {"--talks", "SHARE", OPTION_FLOAT, offsetof(struct generate_args, talks), .low = 0, .high = 1,
     .help = "which share of the documents is conversations; the others are stories. Default: 0.25."},
    {"--held-out", NULL, OPTION_FLAG, offsetof(struct generate_args, held_out),
     .help = "write only the tenth of the combinations of hero, wish and obstacle that is never written "
             "otherwise. Default: off."},
};

struct totals {
    int64_t stories, talks;
    uint64_t bytes;
};

static enum tlm_status write_document(struct stories *s, uint64_t n, struct file_writer *file,
                                      struct totals *totals, struct tlm_error *err)
{
    json_t *document = stories_document(s, n);
    char *line = document ? json_dumps(document, JSON_COMPACT) : NULL;
    enum tlm_status status =
        line ? file_writer_status(file, err) : error_set(err, TLM_ERR_MEMORY, "no memory for a document");
    if (!status) {
        size_t length = strlen(line);
        line[length] = '\n'; // in place of the zero byte
        file_writer_write(file, line, length + 1);
        totals->bytes += length + 1;
        *(json_object_get(document, "text") ? &totals->stories : &totals->talks) += 1;
    }
    free(line);
    json_decref(document);
    return status;
}

static enum tlm_status run(const struct generate_args *args, struct tlm_error *err)
{
    struct stories_options o = {
        .seed = (uint64_t)args->seed, .held_out = args->held_out, .talks = (double)args->talks};
    struct totals totals = {0};
    struct file_writer *file = NULL;
    bool terminal = isatty(STDERR_FILENO);
    double start = common_seconds();
    struct stories *s = stories_open(&o);
    enum tlm_status status =
        s ? file_writer_open(&file, args->out, err) : error_set(err, TLM_ERR_MEMORY, "no memory to begin");
    for (int64_t i = 0; i < args->documents && !status; i++) {
        status = write_document(s, (uint64_t)(args->first + i), file, &totals, err);
        if (!status && common_interrupted())
            status = error_set(err, TLM_ERR_ARGUMENT, "interrupted; nothing was written");
        if (terminal && i % 1000 == 999)
            fprintf(stderr, "\r%3.0f%%", 100 * (double)(i + 1) / (double)args->documents);
    }
    if (terminal) fprintf(stderr, "\r    \r");
    if (!status)
        status = file_writer_finish(file, err);
    else
        file_writer_abort(file);
    stories_close(s);
    if (!status) {
        char size[16];
        fprintf(stderr, "%s: %" PRId64 " stories and %" PRId64 " conversations, %s, %.2f s\n", args->out,
                totals.stories, totals.talks, common_human_bytes(totals.bytes, size, sizeof size),
                common_seconds() - start);
    }
    return status;
}

int data_generate(int argc, char **argv)
{
    struct generate_args args = {.documents = 10000, .seed = 1, .talks = 0.25f};
    const struct option_group groups[] = {OPTION_GROUP("Options:", options, &args)};
    const struct command_line line = {
        "data generate",
        "stories -o FILE.jsonl [OPTION ...]",
        "Writes small stories in simple English, and conversations with stories, questions about "
        "them and small facts, made by a grammar.",
        groups,
        1,
        NULL};
    const char *what = NULL;
    struct tlm_error err;
    size_t count = 0;
    int code = options_parse(&line, argc, argv, &what, 1, &count);
    if (code == EXIT_DONE) return common_finish_output(&line, code);
    if (code != OPTIONS_GO) return code;
    if (count != 1 || strcmp(what, "stories") != 0)
        return options_wrong(&line, "expected what to write: stories, found %s", count ? what : "nothing");
    if (!args.out) return options_wrong(&line, "expected -o FILE.jsonl, found none");
    common_catch_interrupt();
    return run(&args, &err) ? common_failed(&line, &err) : EXIT_DONE;
}

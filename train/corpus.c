// train/corpus.c -- see train/corpus.h.
#include "train/corpus.h"

#include <string.h>

#include "core/file.h"
#include "core/json.h"

struct map {
    struct map *next; // the one before it, read to its end
    void *data;
    size_t size;
};

struct corpus {
    const char *const *paths;
    size_t count, opened;
    const struct corpus_options *options;
    struct map *maps; // the first one is being read
    const char *at, *end;
    int64_t line;
    bool json, begun;
    uint64_t bytes;
};

enum tlm_status corpus_open(struct corpus **out, const char *const *paths, size_t count,
                            const struct corpus_options *options, struct tlm_error *err)
{
    *out = calloc(1, sizeof **out);
    if (!*out) return error_set(err, TLM_ERR_MEMORY, "no memory to read files");
    **out = (struct corpus){.paths = paths, .count = count, .options = options};
    return TLM_OK;
}

static void unmap(struct map **maps)
{
    for (struct map *m = *maps, *next; m; m = next) {
        next = m->next;
        file_unmap(m->data, m->size);
        free(m);
    }
    *maps = NULL;
}

void corpus_close(struct corpus *c)
{
    if (!c) return;
    unmap(&c->maps);
    free(c);
}

void corpus_release(struct corpus *c)
{
    if (c->maps) unmap(&c->maps->next);
}

uint64_t corpus_bytes(const struct corpus *c)
{
    return c->bytes;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

static enum tlm_status next_file(struct corpus *c, struct tlm_error *err)
{
    const char *path = c->paths[c->opened];
    struct map *m = calloc(1, sizeof *m);
    if (!m) return error_set(err, TLM_ERR_MEMORY, "no memory to read files");
    enum tlm_status status = file_map(path, &m->data, &m->size, err);
    if (status) {
        free(m);
        return status;
    }
    m->next = c->maps;
    c->maps = m;
    c->at = m->data;
    c->end = c->at + m->size;
    c->json = ends_with(path, ".jsonl");
    c->line = 0;
    c->begun = false;
    c->opened++;
    return TLM_OK;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

// What comes next in the file that is open, up to what ends it; it may be empty.
static struct corpus_part take(struct corpus *c)
{
    const char *separator = c->json ? "\n" : c->options->separator ? c->options->separator : "";
    size_t n = strlen(separator), left = (size_t)(c->end - c->at);
    const char *stop = n ? memmem(c->at, left, separator, n) : NULL;
    struct corpus_part part = {.data = c->at,
                               .bytes = stop ? (size_t)(stop - c->at) : left,
                               .path = c->paths[c->opened - 1],
                               .line = c->json ? ++c->line : 0,
                               .whole = !n && !c->begun};
    c->begun = true;
    c->at = stop ? stop + n : c->end;
    while (n && part.bytes && is_space(part.data[part.bytes - 1])) part.bytes--;
    while (n && part.bytes && is_space(*part.data)) part.data++, part.bytes--;
    return part;
}

enum tlm_status corpus_next(struct corpus *c, struct corpus_part *part, struct tlm_error *err)
{
    *part = (struct corpus_part){0};
    for (;;) {
        while (c->at < c->end) {
            *part = take(c);
            c->bytes += part->bytes;
            if (part->bytes) return TLM_OK;
        }
        *part = (struct corpus_part){0};
        if (c->opened == c->count) return TLM_OK;
        enum tlm_status status = next_file(c, err);
        if (status) return status;
    }
}

// ---- lines of JSON ------------------------------------------------------------------------------------

enum tlm_status corpus_parse(struct corpus_document *out, const struct corpus_part *part,
                             const struct corpus_options *options, struct tlm_error *err)
{
    *out = (struct corpus_document){.text = part->data, .bytes = part->bytes};
    if (!part->line) return TLM_OK;
    const char *field = options->field ? options->field : "text";
    enum tlm_status status = json_read_object(&out->json, part->data, part->bytes, "the line", err);
    if (status) return error_prefix(err, "%.200s: line %lld", part->path, (long long)part->line);
    const json_t *text = json_object_get(out->json, field);
    json_t *messages = json_object_get(out->json, "messages");
    out->text = NULL;
    if (json_is_string(text)) {
        out->text = json_string_value(text);
        out->bytes = json_string_length(text);
    } else if (!text && json_is_array(messages)) {
        out->messages = messages;
    } else {
        status =
            error_set(err, TLM_ERR_FORMAT,
                      "%.200s: line %lld: expected a text in \"%.40s\" or a list in \"messages\", found %s",
                      part->path, (long long)part->line, field, json_kind(text ? text : messages));
        corpus_document_free(out);
    }
    return status;
}

void corpus_document_free(struct corpus_document *d)
{
    json_decref(d->json);
    *d = (struct corpus_document){0};
}

#include "train/inputs.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"
#include "models/hf.h"
#include "tinylm.h"
#include "train/tokenize.h"

enum { PATH = 1024 };

// ---- the folder -----------------------------------------------------------------------------------------------

// What a run may change when it is begun again.
static bool may_change(const char *section, const char *key)
{
    static const char *const keys[][2] = {
        {"train", "threads"},      {"train", "eval_every"},    {"train", "eval_batches"},
        {"train", "sample_every"}, {"train", "sample_prompt"}, {"train", "early_stop"},
        {"train", "micro_batch"},  {"train", "recompute"},     {"train", "backend"}};
    if (!strcmp(section, "checkpoint") || !strcmp(section, "log")) return true;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strcmp(section, keys[i][0]) && !strcmp(key, keys[i][1])) return true;
    return false;
}

// One "key = value" line of a resolved configuration; false at the end of the text.
struct entry {
    char section[64], key[64];
    const char *value;
    size_t bytes;
};

static bool next_entry(const char **at, struct entry *e)
{
    while (**at) {
        const char *line = *at, *end = strchrnul(line, '\n'),
                   *equals = memchr(line, '=', (size_t)(end - line));
        *at = *end ? end + 1 : end;
        if (*line == '[') {
            snprintf(e->section, sizeof e->section, "%.*s", (int)strcspn(line + 1, "]\n"), line + 1);
        } else if (equals && *line != ';' && *line != '#') {
            snprintf(e->key, sizeof e->key, "%.*s", (int)strcspn(line, " ="), line);
            e->value = equals + 1 + strspn(equals + 1, " ");
            e->bytes = e->value < end ? (size_t)(end - e->value) : 0;
            return true;
        }
    }
    return false;
}

static bool find_entry(const char *text, const struct entry *wanted, struct entry *found)
{
    *found = (struct entry){0};
    while (next_entry(&text, found))
        if (!strcmp(found->section, wanted->section) && !strcmp(found->key, wanted->key)) return true;
    return false;
}

// The first difference that changes what is computed. Keys are looked up both ways: those of [model] come and go.
static enum tlm_status same_run(const char *was, const char *is, const char *dir, struct tlm_error *err)
{
    for (int side = 0; side < 2; side++) {
        struct entry e = {0}, other;
        for (const char *at = side ? is : was; next_entry(&at, &e);) {
            bool there = find_entry(side ? was : is, &e, &other);
            if (may_change(e.section, e.key) ||
                (there && e.bytes == other.bytes && !memcmp(e.value, other.value, e.bytes)))
                continue;
            const struct entry *old = side ? &other : &e, *new = side ? &e : &other;
            return error_set(err, TLM_ERR_ARGUMENT,
                             "%s holds a run with %s.%s = %.*s, found %.*s: choose another checkpoint.dir, "
                             "or remove that one",
                             dir, e.section, e.key, side && !there ? 4 : (int)old->bytes,
                             side && !there ? "none" : old->value, !side && !there ? 4 : (int)new->bytes,
                             !side && !there ? "none" : new->value);
        }
    }
    return TLM_OK;
}

static enum tlm_status make_folder(const char *dir, struct tlm_error *err)
{
    char path[PATH];
    if (strlen(dir) > PATH - 64)
        return error_set(err, TLM_ERR_ARGUMENT, "checkpoint.dir: expected a shorter path");
    for (const char *slash = dir; slash;) {
        slash = strchr(slash + 1, '/');
        snprintf(path, sizeof path, "%.*s", slash ? (int)(slash - dir) : (int)strlen(dir), dir);
        if (mkdir(path, 0777) && errno != EEXIST)
            return error_set(err, TLM_ERR_IO, "%s: cannot make the folder: %s", path, strerror(errno));
    }
    return TLM_OK;
}

// What processes that are no more had begun to write: files get their names once they are whole (core/file.h).
static void remove_left_over(const char *dir)
{
    char path[PATH];
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        const char *at = strstr(e->d_name, ".gguf.tmp.");
        long pid = at ? strtol(at + strlen(".gguf.tmp."), NULL, 10) : 0;
        if (pid <= 0 || !kill((pid_t)pid, 0) || errno != ESRCH) continue;
        if (snprintf(path, sizeof path, "%s/%s", dir, e->d_name) < PATH) unlink(path);
    }
    if (d) closedir(d);
}

enum tlm_status inputs_folder(const struct train_config *c, struct tlm_error *err)
{
    char path[PATH], *was = NULL, *is = NULL;
    size_t size;
    struct stat there;
    enum tlm_status s = make_folder(c->checkpoint.dir, err);
    if (s) return s;
    remove_left_over(c->checkpoint.dir);
    snprintf(path, sizeof path, "%s/config.ini", c->checkpoint.dir);
    if (!stat(path, &there)) {
        if (!(s = file_read(path, &was, &size, err)) && !(s = train_config_text(c, &is, err)))
            s = same_run(was, is, c->checkpoint.dir, err);
        free(was);
        free(is);
    }
    return s ? s : train_config_write(c, path, err);
}

// ---- the model ------------------------------------------------------------------------------------------------

enum tlm_status inputs_copy_model(const char *from, const char *to, struct tlm_error *err)
{
    struct gguf *in;
    struct gguf_writer *w = NULL;
    enum tlm_status s = model_file_open(&in, from, MODEL_ALL, err);
    if (s) return s;
    s = gguf_writer_open(&w, to, err);
    if (!s) gguf_copy_metadata(w, in);
    for (uint64_t i = 0; i < in->tensor_count && !s; i++) {
        char name[WEIGHT_NAME];
        snprintf(name, sizeof name, "%.*s", (int)in->tensors[i].name.length, in->tensors[i].name.data);
        gguf_add_tensor(w, name, &in->tensors[i].tensor);
    }
    for (uint64_t i = 0; i < in->tensor_count && !s; i++)
        s = gguf_write_data(w, in->tensors[i].tensor.data, tensor_bytes(&in->tensors[i].tensor), err);
    if (!s) s = gguf_writer_finish(w, err);
    gguf_writer_close(w);
    gguf_close(in);
    return s;
}

// ---- data -----------------------------------------------------------------------------------------------------

static bool is_shard(const char *path)
{
    size_t n = strlen(path);
    return n > 5 && !strcmp(path + n - 5, ".gguf");
}

static enum tlm_status make_shard(const char *const *files, size_t count, const char *path,
                                  const struct tlm_model *m, struct threads *threads, struct tlm_error *err)
{
    struct tokenize_options o = {.tokenizer = m->tokenizer, .pool = threads};
    struct template *template = NULL;
    struct corpus *corpus = NULL;
    struct shard_writer *writers[2] = {NULL, NULL};
    int64_t duplicates;
    enum tlm_status s =
        m->tokenizer ? TLM_OK
                     : error_set(err, TLM_ERR_ARGUMENT,
                                 "data: expected shards for a model without a vocabulary, found texts");
    if (!s && gguf_find(m->gguf, "tokenizer.chat_template")) s = template_open_gguf(&template, m->gguf, err);
    o.template = template;
    if (!s) s = corpus_open(&corpus, files, count, &o.corpus, err);
    if (!s) s = shard_writer_open(&writers[0], path, m->tokenizer, files[0], err);
    if (!s) s = tokenize_corpus(&o, corpus, writers, &duplicates, err);
    if (!s) s = shard_writer_finish(writers[0], err);
    shard_writer_close(writers[0]);
    corpus_close(corpus);
    template_close(template);
    return s;
}

enum tlm_status inputs_open(struct dataset **out, const struct config_words *files, const char *dir,
                            const char *name, const struct tlm_model *m, const struct dataset_options *o,
                            struct threads *threads, struct tlm_error *err)
{
    size_t shards = 0;
    char path[PATH];
    const char *made = path;
    struct stat there;
    for (size_t i = 0; i < files->count; i++) shards += is_shard(files->items[i]);
    const char *const *paths = (const char *const *)files->items;
    if (shards == files->count) return dataset_open(out, paths, files->count, m->tokenizer, o, err);
    if (shards)
        return error_set(err, TLM_ERR_ARGUMENT,
                         "data.%s: expected token shards (.gguf) alone or texts alone, found both", name);
    snprintf(path, sizeof path, "%s/%s.gguf", dir, name);
    enum tlm_status s = stat(path, &there) ? make_shard(paths, files->count, path, m, threads, err) : TLM_OK;
    return s ? s : dataset_open(out, &made, 1, m->tokenizer, o, err);
}

// ---- samples --------------------------------------------------------------------------------------------------

enum tlm_status inputs_sample(const struct tlm_model *m, const char *prompt, int32_t count, uint64_t seed,
                              int threads, char **text, struct tlm_error *err)
{
    struct tlm_session *session = NULL;
    struct tlm_sampler *sampler = NULL;
    struct tlm_generate_result r = {0};
    struct tlm_sampler_options sampling = tlm_sampler_defaults();
    size_t room = strlen(prompt) + 2, n = 0, bytes = 0;
    sampling.seed = seed;
    if (!m->tokenizer)
        return error_set(err, TLM_ERR_ARGUMENT,
                         "train.sample_every: expected 0 for a model without a vocabulary");
    int32_t *ids = calloc(room, sizeof *ids);
    enum tlm_status s = ids ? tlm_tokenize(m, prompt, strlen(prompt), TLM_ADD_BOS, ids, room, &n, err)
                            : error_set(err, TLM_ERR_MEMORY, "train: no memory for a sample");
    if (!n) n = 1; // nothing to begin with: the first token of the vocabulary
    int64_t context =
        (int64_t)n + count + 1 < m->hparams.context ? (int64_t)n + count + 1 : m->hparams.context;
    struct tlm_session_options o = {.context = (int32_t)context, .threads = threads};
    if (!s) s = tlm_session_open(&session, m, &o, err);
    if (!s) s = tlm_sampler_open(&sampler, m, &sampling, err);
    if (!s)
        s = tlm_generate(session, sampler, ids, n, &(struct tlm_generate_options){.max_tokens = count}, &r,
                         err);
    int64_t all = s ? 0 : r.prompt_tokens + r.new_tokens;
    if (!s) s = tlm_detokenize(m, r.tokens, (size_t)all, 0, NULL, 0, &bytes, err);
    if (!s && !(*text = calloc(bytes + 1, 1)))
        s = error_set(err, TLM_ERR_MEMORY, "train: no memory for a sample");
    if (!s) s = tlm_detokenize(m, r.tokens, (size_t)all, 0, *text, bytes, &bytes, err);
    free(r.tokens);
    free(ids);
    tlm_sampler_close(sampler);
    tlm_session_close(session);
    return s;
}

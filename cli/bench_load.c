// cli/bench_load.c -- how long a person waits: from opening a model to the first token behind an 8-token prompt.
//
// Warm, the system holds the file in its cache; cold, it was told to drop it. In turn with each run the file is read plainly, which
// no loading can beat by much when it is cold. Kept apart from the other tests because each run opens everything anew.
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/bench.h"
#include "tinylm.h"

enum { PROMPT = 8, PIECE = 1 << 20 };

enum { WARM, COLD };
static const char *const kinds[] = {"first token, warm", "first token, cold"};

// Asks the system to drop the file's pages. It keeps those that a process has mapped, so this comes while nothing is open.
static enum tlm_status drop(const char *path, struct tlm_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return error_set(err, TLM_ERR_IO, "%s: %s", path, strerror(errno));
    int failure = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    return failure ? error_set(err, TLM_ERR_IO, "%s: dropping it from the cache: %s", path, strerror(failure))
                   : TLM_OK;
}

// Reads the file from start to end; *bytes receives its size.
static enum tlm_status read_plainly(const char *path, double *bytes, struct tlm_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *buffer = malloc(PIECE);
    ssize_t n = -1;
    *bytes = 0;
    if (fd >= 0 && buffer)
        while ((n = read(fd, buffer, PIECE)) > 0) *bytes += (double)n;
    enum tlm_status status = n == 0 ? TLM_OK : error_set(err, TLM_ERR_IO, "%s: %s", path, strerror(errno));
    free(buffer);
    if (fd >= 0) close(fd);
    return status;
}

static enum tlm_status first_token(struct bench_result *r, const char *path, const char *isa,
                                   struct tlm_error *err)
{
    struct tlm_model *model;
    struct tlm_model_options how = {.isa = isa};
    enum tlm_status status = tlm_model_open(&model, path, &how, err);
    if (status) return status;
    struct tlm_session *session = NULL;
    struct tlm_session_options options = {.context = 2 * PROMPT};
    int32_t tokens[PROMPT];
    for (int i = 0; i < PROMPT; i++) tokens[i] = i % tlm_model_vocab_size(model);
    if (!(status = tlm_session_open(&session, model, &options, err)))
        status = tlm_session_sync(session, tokens, PROMPT, err);
    if (!status) r->n_threads = tlm_session_info(session).threads;
    tlm_session_close(session);
    tlm_model_close(model);
    return status;
}

// One pair: the file read plainly, then loaded.
static enum tlm_status measure(struct bench_result *r, const char *path, const char *isa,
                               struct tlm_error *err)
{
    bool cold = !strcmp(r->what, kinds[COLD]);
    double bytes, begin, plain, taken;
    enum tlm_status status;
    if (cold && (status = drop(path, err))) return status;
    begin = common_seconds();
    if ((status = read_plainly(path, &bytes, err))) return status;
    plain = common_seconds() - begin;
    if (cold && (status = drop(path, err))) return status;
    begin = common_seconds();
    if ((status = first_token(r, path, isa, err))) return status;
    taken = common_seconds() - begin;
    r->work += bytes;
    r->seconds += taken;
    if ((status = series_add(&r->samples_ns, 1e9 * taken, err)) ||
        (status = series_add(&r->samples_ts, 1 / taken, err)) ||
        (status = series_add(&r->rate, bytes / taken, err)) ||
        (status = series_add(&r->bound, bytes / plain, err)))
        return status;
    return series_add(&r->share, plain / taken, err);
}

enum tlm_status bench_load(const char *format, const char *path, const char *isa, int32_t repeats,
                           size_t *results, struct tlm_error *err)
{
    struct stat info;
    if (stat(path, &info) || !S_ISREG(info.st_mode))
        return error_set(err, TLM_ERR_ARGUMENT, "%s: --load measures single files", path);
    struct tlm_model *model;
    struct tlm_model_options how = {.isa = isa};
    enum tlm_status status = tlm_model_open(&model, path, &how, err);
    if (status) return status;
    struct bench_result common = {
        .model_filename = path,
        .isa = tlm_model_isa(model),
        .type_k = "f16",
        .type_v = "f16",
        .model_size = tlm_model_bytes(model),
        .model_n_params = tlm_model_parameters(model),
        .n_batch = PROMPT,
        .n_prompt = PROMPT,
        .n_parallel = 1,
    };
    char type[128];
    snprintf(type, sizeof type, "%s", tlm_model_description(model));
    common.model_type = type;
    tlm_model_close(model); // open, its pages would stay
    for (int i = WARM; i <= COLD && !status; i++) {
        struct bench_result r = common;
        r.what = kinds[i];
        r.against = "file";
        for (int32_t j = 0; j < repeats && !status; j++) status = measure(&r, path, isa, err);
        if (!status) bench_report(format, &r, (*results)++);
        bench_result_free(&r);
    }
    return status;
}

#include "cli/batch_file.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"

enum { READ_BYTES = 1 << 16, WAIT_MILLISECONDS = 100 };

static enum tlm_status system_error(struct tlm_error *err, const char *name, const char *what, int error)
{
    return error_set(err, TLM_ERR_IO, "%.300s: cannot %s: %s", name, what, strerror(error));
}

static bool is_regular(int fd)
{
    struct stat st;
    return !fstat(fd, &st) && S_ISREG(st.st_mode);
}

// ---- requests -----------------------------------------------------------------------------------------

enum tlm_status batch_input_open(struct batch_input *in, const char *path, struct tlm_error *err)
{
    *in = (struct batch_input){.name = path, .fd = STDIN_FILENO};
    if (!strcmp(path, "-"))
        in->name = "standard input";
    else if ((in->fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        return system_error(err, path, "open", errno);
    off_t origin = lseek(in->fd, 0, SEEK_CUR); // somebody may have read the beginning of standard input
    in->origin = origin > 0 ? origin : 0;
    in->capacity = READ_BYTES;
    in->buffer = malloc(in->capacity);
    return in->buffer ? TLM_OK
                      : error_set(err, TLM_ERR_MEMORY, "%.300s: no memory for %zu bytes", path, in->capacity);
}

void batch_input_close(struct batch_input *in)
{
    if (in->fd > STDIN_FILENO) close(in->fd);
    free(in->buffer);
    *in = (struct batch_input){.fd = -1};
}

// Reads more behind what is there. Where `wait` is false, or in vain for a moment, nothing may come: BATCH_LATER.
static enum batch_read read_more(struct batch_input *in, bool wait, struct tlm_error *err)
{
    if (in->begin) {
        memmove(in->buffer, in->buffer + in->begin, in->end - in->begin);
        in->end -= in->begin;
        in->begin = 0;
    }
    if (in->capacity - in->end < READ_BYTES) {
        size_t wanted = 2 * in->capacity + READ_BYTES;
        char *grown = realloc(in->buffer, wanted);
        if (!grown) {
            error_set(err, TLM_ERR_MEMORY, "%.300s: line %lld: no memory for %zu bytes", in->name,
                      (long long)in->lines, wanted);
            return BATCH_FAILED;
        }
        in->buffer = grown;
        in->capacity = wanted;
    }
    // Files are always ready. A pipe must not hold up the answers that are on their way, nor Ctrl-C.
    struct pollfd ready = {.fd = in->fd, .events = POLLIN};
    if (poll(&ready, 1, wait ? WAIT_MILLISECONDS : 0) < 1) return BATCH_LATER;
    ssize_t n = read(in->fd, in->buffer + in->end, READ_BYTES);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return BATCH_LATER;
    if (n < 0) {
        system_error(err, in->name, "read", errno);
        return BATCH_FAILED;
    }
    in->ended = !n;
    in->end += (size_t)n;
    return BATCH_LINE;
}

enum batch_read batch_input_next(struct batch_input *in, bool wait, const char **line, size_t *bytes,
                                 struct tlm_error *err)
{
    for (;;) {
        size_t have = in->end - in->begin;
        char *begin = in->buffer + in->begin;
        char *newline = have > in->searched ? memchr(begin + in->searched, '\n', have - in->searched) : NULL;
        if (newline || (in->ended && have)) {
            size_t n = newline ? (size_t)(newline - begin) : have;
            in->begin += n + (newline != NULL);
            in->searched = 0;
            in->lines++;
            while (n && strchr(" \t\r", begin[n - 1]) && begin[n - 1]) n--;
            *line = begin;
            *bytes = n;
            return BATCH_LINE;
        }
        if (in->ended) return BATCH_END;
        in->searched = have;
        enum batch_read more = read_more(in, wait, err);
        if (more != BATCH_LINE) return more;
    }
}

bool batch_input_is_file(const struct batch_input *in)
{
    return is_regular(in->fd);
}

enum tlm_status batch_input_rewind(struct batch_input *in, struct tlm_error *err)
{
    in->begin = in->end = in->searched = 0;
    in->lines = 0;
    in->ended = false;
    return lseek(in->fd, in->origin, SEEK_SET) < 0 ? system_error(err, in->name, "read again", errno)
                                                   : TLM_OK;
}

// ---- answers that are there ---------------------------------------------------------------------------

// How every record begins. What is cut off must begin so, too: somebody's own file is not for us to shorten.
static const char RECORD_BEGIN[] = "{\"index\":";

static bool read_record(const char *text, size_t bytes, struct batch_done *d)
{
    json_t *record = json_loadb(text, bytes, JSON_ALLOW_NUL, NULL);
    const json_t *index = json_object_get(record, "index"), *choice = json_object_get(record, "choice");
    const char *hash = json_string_value(json_object_get(record, "hash"));
    char *end = NULL;
    *d = (struct batch_done){.index = json_integer_value(index),
                             .choice = choice ? (int32_t)json_integer_value(choice) : -1,
                             .failed = json_object_get(record, "error") != NULL,
                             .hash = hash ? strtoull(hash, &end, 16) : 0};
    bool good = json_is_integer(index) && d->index >= 0 && hash && strlen(hash) == 16 && !*end &&
                (!choice || (json_is_integer(choice) && json_integer_value(choice) >= 0 &&
                             json_integer_value(choice) <= INT32_MAX));
    json_decref(record);
    return good;
}

static int compare_done(const void *a, const void *b)
{
    const struct batch_done *x = a, *y = b;
    if (x->index != y->index) return x->index < y->index ? -1 : 1;
    return (x->choice > y->choice) - (x->choice < y->choice);
}

static enum tlm_status add_done(struct batch_output *out, size_t *capacity, const struct batch_done *d,
                                struct tlm_error *err)
{
    if (out->count == *capacity) {
        size_t wanted = 2 * *capacity + 64;
        struct batch_done *grown = realloc(out->done, wanted * sizeof *grown);
        if (!grown)
            return error_set(err, TLM_ERR_MEMORY, "%.300s: no memory for %zu answers", out->name, wanted);
        out->done = grown;
        *capacity = wanted;
    }
    out->done[out->count++] = *d;
    return TLM_OK;
}

static enum tlm_status read_records(struct batch_output *out, const char *text, size_t bytes,
                                    struct tlm_error *err)
{
    size_t at = 0, capacity = 0, line = 1;
    for (const char *newline; at < bytes && (newline = memchr(text + at, '\n', bytes - at)); line++) {
        struct batch_done d;
        size_t n = (size_t)(newline - text) - at;
        if (!read_record(text + at, n, &d))
            return error_set(
                err, TLM_ERR_FORMAT,
                "%.300s: line %zu: expected an answer of an earlier run; the file is left as it is",
                out->name, line);
        enum tlm_status status = add_done(out, &capacity, &d, err);
        if (status) return status;
        at += n + 1;
    }
    size_t left = bytes - at, same = left < strlen(RECORD_BEGIN) ? left : strlen(RECORD_BEGIN);
    if (memcmp(text + at, RECORD_BEGIN, same))
        return error_set(err, TLM_ERR_FORMAT,
                         "%.300s: line %zu: expected an answer of an earlier run; the file is left as it is",
                         out->name, line);
    out->bytes = (int64_t)at;
    out->cut = (int64_t)left;
    if (out->count) qsort(out->done, out->count, sizeof *out->done, compare_done);
    for (size_t i = 1; i < out->count; i++)
        if (!compare_done(&out->done[i - 1], &out->done[i]))
            return error_set(err, TLM_ERR_FORMAT, "%.300s: expected each answer once, found index %lld twice",
                             out->name, (long long)out->done[i].index);
    return TLM_OK;
}

// Takes over what an earlier run has left.
static enum tlm_status take_over(struct batch_output *out, const char *path, struct tlm_error *err)
{
    if (flock(out->fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK) // other failures: a system without locks
        return error_set(err, TLM_ERR_IO, "%.300s: another run is writing it", path);
    void *data;
    size_t bytes;
    enum tlm_status status = file_map(path, &data, &bytes, err);
    if (status || !bytes) return status;
    status = read_records(out, data, bytes, err);
    file_unmap(data, bytes);
    if (!status && out->cut && ftruncate(out->fd, out->bytes))
        status = system_error(err, path, "cut off its last line", errno);
    return status;
}

enum tlm_status batch_output_open(struct batch_output *out, const char *path, struct tlm_error *err)
{
    *out = (struct batch_output){.name = path, .fd = STDOUT_FILENO};
    signal(SIGXFSZ, SIG_IGN); // a limit on the size of files is an error of writing, like a full disk
    if (!strcmp(path, "-")) {
        out->name = "standard output";
        return TLM_OK;
    }
    // A device or a pipe may refuse to be read.
    out->fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (out->fd < 0) out->fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (out->fd < 0) return system_error(err, path, "open", errno);
    out->is_file = is_regular(out->fd);
    return out->is_file ? take_over(out, path, err) : TLM_OK;
}

enum tlm_status batch_output_find(struct batch_output *out, int64_t index, uint64_t hash,
                                  const struct batch_done **found, size_t *count, struct tlm_error *err)
{
    *found = out->count ? out->done + out->next : NULL;
    for (*count = 0; out->next < out->count && out->done[out->next].index == index; out->next++) {
        if (out->done[out->next].hash != hash)
            return error_set(err, TLM_ERR_ARGUMENT,
                             "%.300s: index %lld: expected the request and the options that the answer "
                             "was made with, found others",
                             out->name, (long long)index);
        ++*count;
    }
    return TLM_OK;
}

enum tlm_status batch_output_find_end(const struct batch_output *out, int64_t lines, struct tlm_error *err)
{
    if (out->next == out->count) return TLM_OK;
    return error_set(err, TLM_ERR_ARGUMENT,
                     "%.300s: index %lld: expected the request that the answer was made for, found an "
                     "input of %lld lines",
                     out->name, (long long)out->done[out->next].index, (long long)lines);
}

// ---- appending ----------------------------------------------------------------------------------------

enum tlm_status batch_output_append(struct batch_output *out, const char *line, size_t bytes,
                                    struct tlm_error *err)
{
    size_t written = 0;
    while (written < bytes) { // a second time only where the first wrote less: then it says why
        ssize_t n = write(out->fd, line + written, bytes - written);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            out->error = errno;
            if (out->is_file && written && ftruncate(out->fd, out->bytes))
                return system_error(err, out->name, "take back half a line", errno);
            return system_error(err, out->name, "write", out->error);
        }
        written += (size_t)n;
    }
    out->bytes += (int64_t)bytes;
    return TLM_OK;
}

enum tlm_status batch_output_close(struct batch_output *out, struct tlm_error *err)
{
    enum tlm_status status = TLM_OK;
    if (out->is_file && fsync(out->fd)) status = system_error(err, out->name, "sync", errno);
    if (out->fd > STDOUT_FILENO && close(out->fd) && !status)
        status = system_error(err, out->name, "close", errno);
    free(out->done);
    *out = (struct batch_output){.fd = -1};
    return status;
}

#include "quant/methods/logits_file.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "models/identity.h"
#include "quant/methods/scan.h"

static const char magic[8] = {'T', 'L', 'M', 'L', 'G', 'T', '0', '1'};

struct header {
    char magic[8];
    uint64_t identity, vocabulary;
    uint32_t vocab, window, windows, zero;
    char description[LOGITS_DESCRIPTION];
};
_Static_assert(sizeof(struct header) == 128, "the drawing in the header file");

enum { TOP_CODE = 65535 };

// ---- what it is of ------------------------------------------------------------------------------------

enum tlm_status logits_info_of(struct logits_info *info, const struct tlm_model *m, int32_t window,
                               int64_t windows, struct tlm_error *err)
{
    *info = (struct logits_info){
        .identity = model_identity(m),
        .vocabulary = model_vocabulary_identity(m),
        .vocab = (int32_t)m->hparams.vocab,
        .window = window,
        .windows = (int32_t)windows,
    };
    snprintf(info->description, sizeof info->description, "%.87s", m->description);
    if (windows <= INT32_MAX / window) return TLM_OK;
    return error_set(err, TLM_ERR_ARGUMENT,
                     "expected at most 2^31 - 1 tokens, found %" PRId64 " windows of %d", windows, window);
}

enum tlm_status logits_info_check(const struct logits_info *info, const struct tlm_model *m, const char *what,
                                  struct tlm_error *err)
{
    if (info->vocab != m->hparams.vocab)
        return error_set(err, TLM_ERR_ARGUMENT,
                         "%s: expected the model's vocabulary of %" PRId64 " tokens, found %d", what,
                         m->hparams.vocab, info->vocab);
    if (info->vocabulary != model_vocabulary_identity(m))
        return error_set(err, TLM_ERR_ARGUMENT,
                         "%s: expected the model's vocabulary, found another of as many tokens", what);
    return TLM_OK;
}

// ---- rows ---------------------------------------------------------------------------------------------

size_t logits_row_bytes(int32_t vocab)
{
    return sizeof(float) + align_up((size_t)vocab * sizeof(uint16_t), 4);
}

bool logits_row_encode(void *row, const float *logits, int32_t vocab)
{
    float low = logits[0], high = logits[0], zero = 0;
    for (int32_t i = 0; i < vocab; i++) {
        low = logits[i] < low ? logits[i] : low;
        high = logits[i] > high ? logits[i] : high;
        zero += 0 * logits[i]; // NaN, where one is not finite
    }
    uint8_t *to = row;
    float depth = high - low;
    if (zero != 0 || !isfinite(depth)) return false;
    memset(to + logits_row_bytes(vocab) - 4, 0, 4); // the padding, if there is some
    memcpy(to, &depth, sizeof depth);
    for (int32_t i = 0; i < vocab; i++) {
        float share = depth > 0 ? sqrtf((high - logits[i]) / depth) : 0;
        uint16_t code = share < 1 ? (uint16_t)(share * TOP_CODE + 0.5f) : TOP_CODE;
        memcpy(to + sizeof depth + (size_t)i * sizeof code, &code, sizeof code);
    }
    return true;
}

void logits_row_decode(float *logits, const void *row, int32_t vocab)
{
    const uint8_t *from = row;
    float depth;
    memcpy(&depth, from, sizeof depth);
    if (!(depth >= 0)) depth = NAN;
    for (int32_t i = 0; i < vocab; i++) {
        uint16_t code;
        memcpy(&code, from + sizeof depth + (size_t)i * sizeof code, sizeof code);
        float share = (float)code / TOP_CODE;
        logits[i] = -depth * (share * share);
    }
}

// ---- the file -----------------------------------------------------------------------------------------

static size_t token_bytes(const struct logits_info *info)
{
    return (size_t)info->windows * (size_t)info->window * sizeof(int32_t);
}

void logits_file_begin(struct file_writer *w, const struct logits_info *info, const int32_t *tokens)
{
    struct header h = {
        .identity = info->identity,
        .vocabulary = info->vocabulary,
        .vocab = (uint32_t)info->vocab,
        .window = (uint32_t)info->window,
        .windows = (uint32_t)info->windows,
    };
    memcpy(h.magic, magic, sizeof magic);
    memcpy(h.description, info->description, sizeof h.description);
    file_writer_write(w, &h, sizeof h);
    file_writer_write(w, tokens, token_bytes(info));
}

static enum tlm_status read_header(struct logits_file *f, struct tlm_error *err)
{
    struct header h;
    if (f->size < sizeof h || memcmp(f->map, magic, sizeof magic) != 0)
        return error_set(err, TLM_ERR_FORMAT, "expected logits that 'eval kld --save-logits' has written");
    memcpy(&h, f->map, sizeof h);
    if (h.vocab < 1 || h.vocab > INT32_MAX || h.window < SCAN_LEAST || h.window > INT32_MAX / 2 ||
        h.windows < 1 || h.windows > INT32_MAX / h.window)
        return error_set(err, TLM_ERR_FORMAT,
                         "expected sizes in range, found %u windows of %u tokens out of %u", h.windows,
                         h.window, h.vocab);
    f->info = (struct logits_info){.identity = h.identity,
                                   .vocabulary = h.vocabulary,
                                   .vocab = (int32_t)h.vocab,
                                   .window = (int32_t)h.window,
                                   .windows = (int32_t)h.windows};
    memcpy(f->info.description, h.description, sizeof h.description);
    f->info.description[sizeof h.description - 1] = 0;
    return TLM_OK;
}

static enum tlm_status check_file(struct logits_file *f, struct tlm_error *err)
{
    enum tlm_status status = read_header(f, err);
    if (status) return status;
    const struct logits_info *info = &f->info;
    size_t rows = (size_t)info->windows * (size_t)scan_counted(info->window), bytes;
    size_t front = sizeof(struct header) + token_bytes(info);
    f->row_bytes = logits_row_bytes(info->vocab);
    if (__builtin_mul_overflow(rows, f->row_bytes, &bytes) || __builtin_add_overflow(bytes, front, &bytes) ||
        bytes != f->size)
        return error_set(err, TLM_ERR_FORMAT,
                         "expected %zu rows of %zu bytes behind %zu, found a file of %zu", rows, f->row_bytes,
                         front, f->size);
    f->tokens = (const int32_t *)((const uint8_t *)f->map + sizeof(struct header));
    f->rows = (const uint8_t *)f->map + front;
    for (int64_t i = 0; i < (int64_t)info->windows * info->window; i++)
        if (f->tokens[i] < 0 || f->tokens[i] >= info->vocab)
            return error_set(err, TLM_ERR_FORMAT, "token %" PRId64 ": expected 0 to %d, found %d", i,
                             info->vocab - 1, f->tokens[i]);
    return TLM_OK;
}

enum tlm_status logits_file_open(struct logits_file *f, const char *path, struct tlm_error *err)
{
    *f = (struct logits_file){0};
    enum tlm_status status = file_map(path, &f->map, &f->size, err);
    if (status) return status;
    if ((status = check_file(f, err))) {
        error_prefix(err, "%.300s", path);
        logits_file_close(f);
    }
    return status;
}

void logits_file_close(struct logits_file *f)
{
    if (f->map) file_unmap(f->map, f->size);
    *f = (struct logits_file){0};
}

const void *logits_file_row(const struct logits_file *f, int64_t window, int32_t row)
{
    return f->rows + (size_t)(window * scan_counted(f->info.window) + row) * f->row_bytes;
}

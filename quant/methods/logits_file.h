// quant/methods/logits_file.h -- the distributions of a model over windows of tokens, kept in a file for others to be compared with.
//
//     offset 0   "TLMLGT01"                       little-endian, as all that follows
//            8   u64 identity of the model        models/identity.h
//           16   u64 identity of its vocabulary
//           24   u32 V, u32 window, u32 windows, u32 0
//           40   description of the model         88 bytes, zeros behind it
//          128   i32 tokens[windows][window]
//                rows: windows x those that count of a window (quant/methods/scan.h), each
//                      f32 depth, u16 code[V], padded to 4 bytes
//
// ln p of token i is  t - depth (code[i] / 65535)^2,  t such that the row's probabilities sum to one. So the likeliest token has code 0,
// and the steps are finest where probabilities are large: with a depth of 30 nats a step is 7e-9 at the top and
// 3e-4 where p = 0.1.
#ifndef QUANT_METHODS_LOGITS_FILE_H
#define QUANT_METHODS_LOGITS_FILE_H

#include "core/file.h"
#include "models/model.h"

enum { LOGITS_DESCRIPTION = 88 };

struct logits_info {
    uint64_t identity, vocabulary;
    int32_t vocab, window, windows;
    char description[LOGITS_DESCRIPTION];
};

struct logits_file {
    struct logits_info info;
    const int32_t *tokens; // (windows, window)
    const uint8_t *rows;
    size_t row_bytes;
    void *map;
    size_t size;
};

// What a file of `m` over such windows says of itself. Errors: ARGUMENT (more than 2^31 - 1 tokens).
enum tlm_status logits_info_of(struct logits_info *info, const struct tlm_model *m, int32_t window,
                               int64_t windows, struct tlm_error *err);
// Errors: ARGUMENT, where the vocabulary is not that of `m`. `what` is what the line says of the other side.
enum tlm_status logits_info_check(const struct logits_info *info, const struct tlm_model *m, const char *what,
                                  struct tlm_error *err);

size_t logits_row_bytes(int32_t vocab);
// False where a logit is not finite; the row is not written then.
bool logits_row_encode(void *row, const float *logits, int32_t vocab);
// Logits that give these probabilities; not finite where the row is not of a file of ours.
void logits_row_decode(float *logits, const void *row, int32_t vocab);

// Writes what stands in front of the rows, which the caller writes next, in order.
void logits_file_begin(struct file_writer *w, const struct logits_info *info, const int32_t *tokens);

// Errors: IO, FORMAT.
enum tlm_status logits_file_open(struct logits_file *f, const char *path, struct tlm_error *err);
void logits_file_close(struct logits_file *f); // of one that is all zero: does nothing
const void *logits_file_row(const struct logits_file *f, int64_t window, int32_t row);

#endif

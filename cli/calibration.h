// cli/calibration.h -- texts that a model is run over to see what goes into its matrices.
#ifndef CLI_CALIBRATION_H
#define CLI_CALIBRATION_H

#include "generate/layers.h"

enum { CALIBRATION_CONTEXT = 512, CALIBRATION_CHUNKS = 64 }; // where nobody says otherwise

// Cuts the file's text into chunks of `context` tokens and takes `chunks` of them (0: all), evenly spread over it. Where the model asks
// for a token that begins a text, it stands in the place of each chunk's first. out->tokens is for free(). Errors: IO, MEMORY, those of
// tlm_tokenize(), ARGUMENT (less than one chunk).
enum tlm_status calibration_read(const struct tlm_model *m, const char *path, int32_t context, int64_t chunks,
                                 int32_t **tokens, int64_t *texts, struct tlm_error *err);

#endif

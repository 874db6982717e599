// cli/check.h -- the parts of tinylm check: cli/check.c looks at numbers, cli/check_text.c at what stands around them.
#ifndef CLI_CHECK_H
#define CLI_CHECK_H

#include "core/gguf.h"

// "FAULT: tokenizer: ..." on stdout; counts it.
void check_say(int *count, const char *kind, const char *what, const char *text);
// Does the model open with all its weights? Do texts come back from their tokens? Does the template render conversations?
void check_model(const char *path, const struct gguf *g, int *faults, int *notes);

#endif

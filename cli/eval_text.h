// cli/eval_text.h -- the texts that models are measured on, and how divergences are written.
#ifndef CLI_EVAL_TEXT_H
#define CLI_EVAL_TEXT_H

#include "cli/options.h"
#include "quant/methods/compare.h"

enum { EVAL_WINDOW = 512 }; // tokens of a window, where nothing says otherwise

// The tokens of a file ('-': standard input), with the one that begins a text, if the model asks for it; free() *tokens.
// Errors: IO, MEMORY.
enum tlm_status eval_read_tokens(const struct tlm_model *m, const char *path, int32_t **tokens, size_t *count,
                                 struct tlm_error *err);
// OPTIONS_GO, or what the command returns where windows of so many tokens are too short to be measured.
int eval_check_window(const struct command_line *line, int32_t window);
// Cuts tokens into windows side by side, at most `most` of them (0: all). The first token of each becomes the one that begins a text, if
// the model asks for it. Returns how many windows there are.
int64_t eval_cut_windows(const struct tlm_model *m, int32_t *tokens, size_t count, int32_t window,
                         int32_t most);
// Both: a text in windows, at least one; free() *tokens, which the text points into. Errors: also ARGUMENT (too short).
enum tlm_status eval_read_windows(const struct tlm_model *m, const char *path, int32_t window, int32_t most,
                                  int32_t **tokens, struct compare_text *text, struct tlm_error *err);

// "NAME: 3 of 40" on a terminal, from a compare_progress_fn; false behind Ctrl-C. `user` is the name.
bool eval_progress(void *user, int64_t done, int64_t count);
// The same without a word.
bool eval_silent(void *user, int64_t done, int64_t count);

// The fields of a JSON object, with no comma behind the last: "kld": ..., "kld_error": ..., ..., "tokens": ...
void eval_json_divergence(const struct divergence *d);

// A path in $TMPDIR, or /tmp, that no other process of this name takes: for a file that is removed as soon as it is open.
void eval_scratch_path(char *path, size_t size, const char *name);

#endif

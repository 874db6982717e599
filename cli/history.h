// cli/history.h -- the lines a person typed, kept from one run to the next.
//
// A text file of one entry a line: $XDG_DATA_HOME/tinylm/history, or ~/.local/share/tinylm/history. Each
// entry is appended by one write as soon as it is there, so that a killed program loses none and programs
// that run at once share the file. It is cut to HISTORY_LINES when it has grown to twice as many. Readable by
// its owner alone.
#ifndef CLI_HISTORY_H
#define CLI_HISTORY_H

#include <stdbool.h>
#include <stddef.h>

enum { HISTORY_LINES = 1000 };

typedef void history_line_fn(void *user, const char *text);

// Writes the file's path to `path` and makes its folder. False where there is no place for it.
bool history_path(char *path, size_t size);
// Hands out the last HISTORY_LINES entries, oldest first. Does nothing where the file cannot be read.
void history_load(const char *path, history_line_fn *line, void *user);
// Appends an entry, which must not hold a newline. A file that cannot be written is no reason to disturb a
// conversation.
void history_append(const char *path, const char *text);

#endif

// cli/terminal.h -- lines from standard input: edited, with a history and a prompt, where that is a terminal.
#ifndef CLI_TERMINAL_H
#define CLI_TERMINAL_H

#include <stdbool.h>

struct terminal;

// Returns NULL where memory ran out.
struct terminal *terminal_open(void);
void terminal_close(struct terminal *t);

// Both ends are a terminal: prompts, colours and hints are welcome.
bool terminal_interactive(const struct terminal *t);
// Colours are, too: NO_COLOR is not set and the terminal is no dumb one.
bool terminal_colours(const struct terminal *t);

enum terminal_event {
    TERMINAL_LINE, // *text is the line, without its newline, until the next call. Pasted lines come as one, with newlines
    TERMINAL_INTERRUPT, // Ctrl-C: the line was given up
    TERMINAL_END,       // end of the input, Ctrl-D, or a second Ctrl-C on an empty line
};

// Reads the next line; `prompt` is only for a terminal.
enum terminal_event terminal_read(struct terminal *t, const char *prompt, const char **text);
// Remembers a line that was worth it; only on a terminal.
void terminal_remember(struct terminal *t, const char *text);

#endif

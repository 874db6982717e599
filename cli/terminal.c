// cli/terminal.c -- see cli/terminal.h. Editing is libedit's.
#include "cli/terminal.h"

#include <histedit.h>
#include <langinfo.h>
#include <limits.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#include "cli/history.h"

struct terminal {
    bool interactive, colours;
    char *line; // the last one
    size_t capacity;
    EditLine *editor; // NULL without a terminal
    History *history;
    char history_path[PATH_MAX]; // "" for none
    char prompt[64];
    bool interrupted; // Ctrl-C ended the last read
    bool armed;       // the last key was Ctrl-C: one more on an empty line ends
    bool pasting;     // between the terminal's brackets around pasted text
    wchar_t keys[8];  // read ahead, in search of a bracket
    int key_count;
};

// ---- pasted text --------------------------------------------------------------------------------------
//
// A terminal that is asked to puts brackets around what is pasted: ESC [ 200 ~ and ESC [ 201 ~. Newlines within stand for
// themselves, so in the line that is edited they are shown as a sign, and become newlines again behind it.

static const char brackets_on[] = "\033[?2004h", brackets_off[] = "\033[?2004l";
enum { NEWLINE_SIGN = 0x2424 };
static const char newline_sign[] = "\xE2\x90\xA4"; // in UTF-8

// One character of standard input; 0 at its end, -1 for an error.
static int read_character(wchar_t *out)
{
    unsigned char bytes[4];
    if (read(STDIN_FILENO, bytes, 1) != 1) return 0;
    int length = bytes[0] < 0x80 ? 1 : bytes[0] >= 0xF0 ? 4 : bytes[0] >= 0xE0 ? 3 : bytes[0] >= 0xC0 ? 2 : 1;
    for (int i = 1; i < length; i++)
        if (read(STDIN_FILENO, bytes + i, 1) != 1) return 0;
    wchar_t c = length == 1 ? bytes[0] : bytes[0] & (0x7F >> length);
    for (int i = 1; i < length; i++) c = c << 6 | (bytes[i] & 0x3F);
    *out = c;
    return 1;
}

static bool more_waits(void)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&p, 1, 20) > 0; // the rest of a key's sequence comes at once
}

// libedit's source of keys.
static int next_key(EditLine *editor, wchar_t *key)
{
    static const wchar_t begin[] = L"\033[200~", end[] = L"\033[201~";
    struct terminal *t;
    el_get(editor, EL_CLIENTDATA, &t);
    for (;;) {
        if (!t->key_count) {
            int got = read_character(&t->keys[0]);
            if (got <= 0) return got;
            t->key_count = 1;
        }
        const wchar_t *bracket = t->pasting ? end : begin;
        while (t->key_count < 6 && !wmemcmp(t->keys, bracket, (size_t)t->key_count) && more_waits() &&
               read_character(&t->keys[t->key_count]) > 0)
            t->key_count++;
        bool whole = t->key_count == 6 && !wmemcmp(t->keys, bracket, 6);
        if (whole) {
            t->pasting = !t->pasting;
            t->key_count = 0;
            continue;
        }
        *key = t->keys[0];
        wmemmove(t->keys, t->keys + 1, (size_t)--t->key_count);
        if (t->pasting && (*key == L'\n' || *key == L'\r')) *key = NEWLINE_SIGN;
        return 1;
    }
}

// In place: the signs become newlines.
static void restore_newlines(char *line)
{
    char *to = line;
    for (const char *at = line; *at;) {
        if (!strncmp(at, newline_sign, 3)) {
            *to++ = '\n';
            at += 3;
        } else {
            *to++ = *at++;
        }
    }
    *to = '\0';
}

// ---- editing ------------------------------------------------------------------------------------------

static char *prompt_of(EditLine *editor)
{
    struct terminal *t;
    el_get(editor, EL_CLIENTDATA, &t);
    return t->prompt;
}

// Bound to Ctrl-C. The read comes back as at an end of input, and terminal_read() looks at the flag.
static unsigned char give_up_line(EditLine *editor, int key)
{
    (void)key;
    struct terminal *t;
    el_get(editor, EL_CLIENTDATA, &t);
    const LineInfo *line = el_line(editor);
    if (line->lastchar != line->buffer) t->armed = false;
    t->interrupted = true;
    return CC_EOF;
}

// Bound to Ctrl-Z, which is a key too while a line is edited. libedit catches the signal and cares for the
// terminal.
static unsigned char suspend(EditLine *editor, int key)
{
    (void)editor;
    (void)key;
    raise(SIGTSTP);
    return CC_REDISPLAY;
}

static void enter_history(void *user, const char *text)
{
    struct terminal *t = user;
    HistEvent event;
    history(t->history, &event, H_ENTER, text);
}

// Without a locale of UTF-8 libedit would take the bytes of a character one by one.
static void use_utf8(void)
{
    setlocale(LC_CTYPE, "");
    if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0) setlocale(LC_CTYPE, "C.UTF-8");
}

static bool open_editor(struct terminal *t)
{
    HistEvent event;
    use_utf8();
    t->editor = el_init("tinylm", stdin, stdout, stderr);
    t->history = history_init();
    if (!t->editor || !t->history) return false;
    history(t->history, &event, H_SETSIZE, HISTORY_LINES);
    history(t->history, &event, H_SETUNIQUE, 1);
    el_set(t->editor, EL_CLIENTDATA, t);
    el_wset(t->editor, EL_GETCFN, next_key);
    el_set(t->editor, EL_PROMPT_ESC, prompt_of, '\1'); // \1 stands around what takes no room on the screen
    el_set(t->editor, EL_HIST, history, t->history);
    el_set(t->editor, EL_SIGNAL, 1);
    el_set(t->editor, EL_EDITOR, "emacs");
    el_set(t->editor, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_source(t->editor, NULL); // what the person has set up in ~/.editrc
    // While a line is edited Ctrl-C is a key; during an answer it is a signal. (The wide form of el_set keeps
    // these names as they are; the other makes copies that it never frees.)
    el_set(t->editor, EL_SETTY, "-d", "-isig", NULL);
    el_wset(t->editor, EL_ADDFN, L"give-up-line", L"Give up this line", give_up_line);
    el_set(t->editor, EL_BIND, "^C", "give-up-line", NULL);
    el_wset(t->editor, EL_ADDFN, L"suspend", L"Stop the program for a while", suspend);
    el_set(t->editor, EL_BIND, "^Z", "suspend", NULL);
    if (history_path(t->history_path, sizeof t->history_path))
        history_load(t->history_path, enter_history, t);
    else
        t->history_path[0] = '\0';
    return true;
}

struct terminal *terminal_open(void)
{
    struct terminal *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->interactive = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    const char *kind = getenv("TERM"), *plain = getenv("NO_COLOR"); // no-color.org
    t->colours = t->interactive && kind && strcmp(kind, "dumb") != 0 && !(plain && *plain);
    if (t->interactive && !open_editor(t)) {
        terminal_close(t);
        return NULL;
    }
    return t;
}

void terminal_close(struct terminal *t)
{
    if (!t) return;
    if (t->editor) el_end(t->editor);
    if (t->history) history_end(t->history);
    free(t->line);
    free(t);
}

bool terminal_interactive(const struct terminal *t)
{
    return t->interactive;
}

bool terminal_colours(const struct terminal *t)
{
    return t->colours;
}

static enum terminal_event read_plain(struct terminal *t, const char **text)
{
    ssize_t length = getline(&t->line, &t->capacity, stdin);
    if (length < 0) return TERMINAL_END;
    if (length && t->line[length - 1] == '\n') t->line[--length] = '\0';
    *text = t->line;
    return TERMINAL_LINE;
}

static enum terminal_event read_edited(struct terminal *t, const char **text)
{
    int length = 0;
    t->interrupted = false;
    if (t->colours) fputs(brackets_on, stdout), fflush(stdout);
    const char *line = el_gets(t->editor, &length);
    if (t->colours) fputs(brackets_off, stdout), fflush(stdout);
    t->pasting = false;
    if (t->interrupted) {
        bool again = t->armed;
        t->armed = true;
        fputs("^C\n", stdout);
        fflush(stdout);
        return again ? TERMINAL_END : TERMINAL_INTERRUPT;
    }
    t->armed = false;
    if (!line || length <= 0) {
        putchar('\n');
        return TERMINAL_END;
    }
    free(t->line); // the editor's own buffer is gone with the next thing it does
    if (!(t->line = strndup(line, strcspn(line, "\n")))) return TERMINAL_END;
    restore_newlines(t->line);
    *text = t->line;
    return TERMINAL_LINE;
}

enum terminal_event terminal_read(struct terminal *t, const char *prompt, const char **text)
{
    if (!t->interactive) return read_plain(t, text);
    snprintf(t->prompt, sizeof t->prompt, t->colours ? "\1\033[1;32m\1%s\1\033[0m\1" : "%s", prompt);
    return read_edited(t, text);
}

void terminal_remember(struct terminal *t, const char *text)
{
    HistEvent event;
    if (!t->interactive || !*text) return;
    bool same = !history(t->history, &event, H_FIRST) && !strcmp(event.str, text);
    if (same) return;
    history(t->history, &event, H_ENTER, text);
    // An entry of the file is a line.
    if (t->history_path[0] && !strchr(text, '\n')) history_append(t->history_path, text);
}

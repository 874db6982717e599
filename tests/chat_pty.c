// tests/chat_pty.c -- tinylm chat on a terminal: keys, pasted text, Ctrl-C in the middle of an answer, /undo.
//
//     chat_pty TINYLM MODEL
//
// Talks to the program through a pseudo terminal as a person would, and looks at what a person could see: the screen, the history and
// the conversation that /save writes. Prints a line a failed check and a summary; exit 1 on failure.
#include <errno.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE = 60000 }; // milliseconds; only a broken program needs them

static int failures, checks;
static int terminal;
static pid_t child;
static char screen[1 << 20]; // all that was written since the last mark
static size_t seen;
static char folder[64];

static void check(int good, const char *format, ...)
{
    va_list arguments;
    checks++;
    if (good) return;
    failures++;
    va_start(arguments, format);
    printf("FAIL chat on a terminal: ");
    vprintf(format, arguments);
    printf("\n    screen: ");
    for (size_t i = seen > 300 ? seen - 300 : 0; i < seen; i++)
        printf((unsigned char)screen[i] < ' ' ? "\\x%02x" : "%c", (unsigned char)screen[i]);
    printf("\n");
    va_end(arguments);
}

static void start(const char *program, const char *model, const char *tokens, const char *context)
{
    struct winsize size = {.ws_row = 25, .ws_col = 200};
    seen = 0;
    child = forkpty(&terminal, NULL, NULL, &size);
    if (child < 0) {
        perror("forkpty");
        exit(1);
    }
    if (child) return;
    setenv("TERM", "xterm", 1);
    setenv("XDG_DATA_HOME", folder, 1);
    setenv("HOME", folder, 1);
    unsetenv("NO_COLOR");
    execl(program, program, "chat", "-m", model, "-n", tokens, "-c", context, "--temp", "0", "-t", "1",
          "--ignore-eos", "--stats", "none", (char *)NULL);
    perror(program);
    _exit(127);
}

static void type(const char *keys)
{
    size_t length = strlen(keys);
    seen = 0;
    if (write(terminal, keys, length) != (ssize_t)length) check(0, "could not type");
}

static int stands_behind(const char *before, const char *text)
{
    const char *at = memmem(screen, seen, before, strlen(before));
    return at && memmem(at, (size_t)(screen + seen - at), text, strlen(text));
}

// Waits until the text stands on the screen, behind `before`.
static void expect_behind(const char *before, const char *text)
{
    struct pollfd p = {.fd = terminal, .events = POLLIN};
    for (;;) {
        screen[seen] = '\0';
        if (stands_behind(before, text)) break;
        if (seen + 4096 > sizeof screen) { // of a long answer the end is enough
            memmove(screen, screen + sizeof screen / 2, seen - sizeof screen / 2);
            seen -= sizeof screen / 2;
        }
        if (poll(&p, 1, PATIENCE) <= 0) break;
        ssize_t n = read(terminal, screen + seen, 4000);
        if (n <= 0) break;
        seen += (size_t)n;
    }
    check(stands_behind(before, text), "'%s' did not appear", text);
}

static void expect(const char *text)
{
    expect_behind("", text);
}

// libedit shows its prompt just before it takes the terminal over: what is typed in between is the terminal's.
static void settle(void)
{
    usleep(500000);
}

static int finish(void)
{
    struct pollfd p = {.fd = terminal, .events = POLLIN};
    char rest[4096];
    int status, more;
    while ((more = poll(&p, 1, PATIENCE)) > 0 && read(terminal, rest, sizeof rest) > 0) {
    }
    if (!more) kill(child, SIGKILL);
    waitpid(child, &status, 0);
    close(terminal);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static char *contents(const char *name)
{
    static char text[1 << 16];
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "r");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f) fclose(f);
    text[n] = '\0';
    return text;
}

// Backspace, cursor keys, a line given up, a pasted text of two lines, what is kept.
static void edit(const char *program, const char *model)
{
    char save[128];
    start(program, model, "3", "512");
    expect("/help lists the commands");
    type("hellp\x7fo\r");
    expect("> ");
    type("wrld\033[D\033[D\033[Do\r");
    expect("> ");
    type("never mind\x03");
    expect_behind("^C", "> ");
    settle();
    type("\033[200~line one\nline two\033[201~\r");
    expect("> ");
    type("/stats\r");
    expect("turns: 3");
    type("/undo\r");
    expect("2 left");
    type("/regen\r");
    expect("> ");
    type("/stats\r");
    expect("turns: 2");
    type("\033[200~one\nmessage\033[201~\r");
    expect("> ");
    snprintf(save, sizeof save, "/save %s/saved\r", folder);
    type(save);
    expect("Saved 6 messages");
    type("/quit\r");
    check(finish() == 0, "did not end well");
    const char *saved = contents("saved"), *first = strstr(saved, "\"content\":\"hello\""),
               *second = strstr(saved, "\"content\":\"world\"");
    check(first && second && first < second, "edited lines are not 'hello' and 'world': %s", saved);
    check(strstr(saved, "\"content\":\"one\\nmessage\"") != NULL, "pasted lines are not one message: %s",
          saved);
    check(!strstr(saved, "line two") && !strstr(saved, "never mind"), "what was taken back is there: %s",
          saved);
    const char *history = contents("tinylm/history");
    check(strstr(history, "hello\n") && strstr(history, "world\n"), "the history lacks lines: %s", history);
}

// Ctrl-C stops an answer that would go on for minutes; the conversation goes on.
static void interrupt(const char *program, const char *model)
{
    start(program, model, "-1", "100000");
    expect("/help lists the commands");
    type("go\r");
    usleep(300000);
    type("\x03");
    expect("> ");
    type("/stats\r");
    expect("turns: 1");
    type("/undo\r");
    expect_behind("0 left", "> ");
    settle();
    type("\x04"); // Ctrl-D
    check(finish() == 0, "Ctrl-D did not end it well");
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: chat_pty TINYLM MODEL\n");
        return 2;
    }
    snprintf(folder, sizeof folder, "%s/tinylm-chat-XXXXXX", "/tmp");
    if (!mkdtemp(folder)) {
        perror(folder);
        return 1;
    }
    edit(argv[1], argv[2]);
    interrupt(argv[1], argv[2]);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command)) perror(folder);
    if (failures)
        printf("chat_pty: %d of %d checks failed\n", failures, checks);
    else
        printf("chat_pty: %d checks, all as expected\n", checks);
    return failures > 0;
}

// tests/cli_batch.c -- generate --in: many requests, one file of answers, and whatever may happen on the way.
//
//     cli_batch TINYLM MODEL
//
// Each answer must be the one that `generate -p` gives alone, byte for byte, and every request must be answered once: after kills, on a full
// disk, behind a torn line. Prints a line a failed check and a summary; exit 1 on failure.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/file.h"
#include "core/json.h"

enum { LINES = 40, CHOICES = 3, KILLS = 10 };

static const char *program, *model;
static char folder[64];
static int checks, failures;

static void check(bool good, const char *format, ...)
{
    va_list arguments;
    checks++;
    if (good) return;
    failures++;
    va_start(arguments, format);
    printf("FAIL generate --in: ");
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
}

// ---- files and processes ------------------------------------------------------------------------------

struct path {
    char text[128];
};

static struct path in_folder(const char *name)
{
    struct path p;
    snprintf(p.text, sizeof p.text, "%s/%s", folder, name);
    return p;
}

struct bytes {
    char *data; // a zero byte stands behind it
    size_t count;
};

// An absent file is empty.
static struct bytes read_file(const char *name)
{
    struct bytes b;
    if (file_read(in_folder(name).text, &b.data, &b.count, NULL)) b = (struct bytes){calloc(1, 1), 0};
    return b;
}

static void write_file(const char *name, const char *data, size_t bytes)
{
    FILE *f = fopen(in_folder(name).text, "wb");
    if (!f || fwrite(data, 1, bytes, f) != bytes || fclose(f)) perror(name), exit(1);
}

static bool same_file(const char *name, struct bytes want)
{
    struct bytes got = read_file(name);
    bool same = got.count == want.count && !memcmp(got.data, want.data, want.count);
    free(got.data);
    return same;
}

// Runs `tinylm generate -m MODEL -t 1 ARGUMENTS` by a shell in the folder, its stderr in the file err. Returns the exit code.
static int tinylm(const char *before, const char *format, ...)
{
    char arguments[1024], command[2048];
    va_list list;
    va_start(list, format);
    vsnprintf(arguments, sizeof arguments, format, list);
    va_end(list);
    snprintf(command, sizeof command, "cd %s && %s '%s' generate -m '%s' -t 1 %s 2>err", folder, before,
             program, model, arguments);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void says(const char *text)
{
    struct bytes err = read_file("err");
    check(strstr(err.data, text) != NULL, "stderr lacks '%s': %s", text, err.data);
    free(err.data);
}

// Starts the program without waiting for it. `in` and `out` become its standard input and output where they are not -1.
static pid_t start(int in, int out, const char *const *arguments)
{
    const char *argv[32] = {program, "generate", "-m", model, "-t", "1"};
    for (int i = 0; arguments[i]; i++) argv[6 + i] = arguments[i];
    pid_t child = fork();
    if (child) return child;
    if (chdir(folder) || (in >= 0 && dup2(in, 0) < 0) || (out >= 0 && dup2(out, 1) < 0) ||
        !freopen("err", "wb", stderr))
        _exit(9);
    execv(program, (char **)argv);
    _exit(9);
}

static int wait_for(pid_t child)
{
    int status;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

// ---- records ------------------------------------------------------------------------------------------

struct answers {
    json_t *record[LINES][CHOICES]; // NULL: none
    int count;
};

// Whole lines only, each a record, none twice; with `torn`, the last line may lack its end.
static struct answers read_answers(const char *name, bool torn)
{
    struct answers a = {0};
    struct bytes b = read_file(name);
    char *end;
    for (char *line = b.data; line < b.data + b.count; line = end + 1) {
        end = memchr(line, '\n', (size_t)(b.data + b.count - line));
        if (!end) {
            check(torn, "%s: the last line is torn", name);
            break;
        }
        json_t *r = json_loadb(line, (size_t)(end - line), JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, NULL);
        json_int_t index = json_integer_value(json_object_get(r, "index"));
        json_int_t choice = json_integer_value(json_object_get(r, "choice"));
        bool good = r && index >= 0 && index < LINES && choice >= 0 && choice < CHOICES;
        check(good, "%s: not a record: %.*s", name, (int)(end - line), line);
        if (!good) continue;
        check(!a.record[index][choice], "%s: index %d twice", name, (int)index);
        a.record[index][choice] = r;
        a.count++;
    }
    free(b.data);
    return a;
}

static void free_answers(struct answers *a)
{
    for (int i = 0; i < LINES; i++)
        for (int k = 0; k < CHOICES; k++) json_decref(a->record[i][k]);
}

static const json_t *field(const struct answers *a, int index, int choice, const char *key)
{
    return json_object_get(a->record[index][choice], key);
}

static void check_text(const struct answers *a, int index, int choice, struct bytes want)
{
    json_t *clean = json_text(want.data, want.count);
    const json_t *got = field(a, index, choice, "text");
    check(json_equal(got, clean), "index %d, choice %d: another text than alone: %s", index, choice,
          got ? json_string_value(got) : json_string_value(field(a, index, choice, "error")));
    json_decref(clean);
}

static void same_answers(const char *name, const struct answers *want)
{
    struct answers got = read_answers(name, false);
    check(got.count == want->count, "%s: %d answers instead of %d", name, got.count, want->count);
    for (int i = 0; i < LINES; i++)
        for (int k = 0; k < CHOICES; k++)
            check(json_equal(field(&got, i, k, "text"), field(want, i, k, "text")) ||
                      (!field(&got, i, k, "text") && !field(want, i, k, "text")),
                  "%s: index %d has another text", name, i);
    free_answers(&got);
}

// ---- requests -----------------------------------------------------------------------------------------

static const char shared[] =
    "All of these begin with the same sentence, which is longer than a few blocks of the cache. ";

static void prompt_of(int i, char *prompt, size_t size)
{
    snprintf(prompt, size, "%sNumber %d%s", i % 3 ? "" : shared, i * i, i % 2 ? " and more" : "");
}

static int tokens_of(int i)
{
    return 1 + i * 37 % 120;
}

static void write_requests(const char *name, int more_tokens)
{
    FILE *f = fopen(in_folder(name).text, "wb");
    for (int i = 0; f && i < LINES; i++) {
        char prompt[256];
        prompt_of(i, prompt, sizeof prompt);
        fprintf(f, "{\"prompt\": \"%s\", \"max_tokens\": %d, \"id\": {\"number\": %d}}\n", prompt,
                tokens_of(i) + more_tokens, i);
    }
    if (!f || fclose(f)) perror(name), exit(1);
}

// ---- what is shown ------------------------------------------------------------------------------------

static struct answers test_company(void)
{
    write_requests("in", 0);
    check(tinylm("", "--temp 0 --in in --out out --parallel 5 --stats json") == 0, "exit code");
    says("\"answers\": 40, \"found_answers\": 0, \"failures\": 0,");
    struct answers a = read_answers("out", false);
    check(a.count == LINES, "%d answers", a.count);
    for (int i = 0; i < LINES; i++) {
        char prompt[256];
        prompt_of(i, prompt, sizeof prompt);
        tinylm("", "--temp 0 -p '%s' -n %d >alone", prompt, tokens_of(i));
        struct bytes alone = read_file("alone");
        check_text(&a, i, 0, alone);
        check(json_integer_value(json_object_get(field(&a, i, 0, "id"), "number")) == i, "index %d: id", i);
        free(alone.data);
    }
    // A cache that is too small for all, guesses, and one at a time change nothing.
    tinylm("", "--temp 0 --in in --out small --parallel 12 --cache 300 -c 256 --lookup --stats json");
    same_answers("small", &a);
    tinylm("", "--temp 0 --parallel 1 --in - <in >stdout");
    same_answers("stdout", &a);
    return a;
}

static void test_choices(void)
{
    char line[256];
    snprintf(line, sizeof line,
             "{\"prompt\": \"%s\", \"n\": 3, \"seed\": 5, \"temperature\": 0.9, \"max_tokens\": 20}\n",
             shared);
    write_file("choices", line, strlen(line));
    check(tinylm("", "--in choices --out chosen") == 0, "exit code");
    struct answers a = read_answers("chosen", false);
    json_int_t reused = 0;
    for (int k = 0; k < CHOICES; k++) {
        tinylm("", "--temp 0.9 -s %d -p '%s' -n 20 >alone", 5 + k, shared);
        struct bytes alone = read_file("alone");
        check_text(&a, 0, k, alone);
        reused += json_integer_value(field(&a, 0, k, "reused_tokens"));
        free(alone.data);
    }
    json_int_t prompt = json_integer_value(field(&a, 0, 0, "prompt_tokens"));
    check(reused > (CHOICES - 1) * (prompt - 17),
          "the prompt is computed more than once: %d of 3 * %d reused", (int)reused, (int)prompt);
    // One of the three is taken out: it comes back alone.
    struct bytes all = read_file("chosen");
    char *second = strchr(all.data, '\n') + 1;
    write_file("chosen", second, all.count - (size_t)(second - all.data));
    check(tinylm("", "--in choices --out chosen --stats json") == 0, "exit code");
    says("\"answers\": 1, \"found_answers\": 2,");
    same_answers("chosen", &a);
    free(all.data);
    free_answers(&a);
}

static const char *const long_run[] = {"--temp", "0",          "-c", "1024",    "--in", "long", "--out",
                                       "put",    "--parallel", "4",  "--stats", "none", NULL};

static int64_t whole_lines(const char *name)
{
    struct bytes b = read_file(name);
    int64_t count = 0;
    for (size_t i = 0; i < b.count; i++) count += b.data[i] == '\n';
    free(b.data);
    return count;
}

// Starts a run and sends it a signal once it has written a few more answers, and a moment later. Returns its exit code; 0 where it was
// faster.
static int stop_in_the_middle(int signal)
{
    int64_t enough = whole_lines("put") + 1 + rand() % 3;
    pid_t child = start(-1, -1, long_run);
    siginfo_t ended = {0};
    while (whole_lines("put") < enough && !ended.si_pid) {
        usleep(200);
        waitid(P_PID, (id_t)child, &ended, WEXITED | WNOHANG | WNOWAIT);
    }
    usleep((useconds_t)(rand() % 3000));
    kill(child, signal);
    return wait_for(child);
}

static void test_stopped(void)
{
    write_requests("long", 300);
    check(tinylm("", "--temp 0 -c 1024 --in long --out put --stats none") == 0, "exit code");
    struct answers a = read_answers("put", false);
    unlink(in_folder("put").text);
    srand(1);
    int killed = 0;
    for (int tries = 0; killed < KILLS && tries < 20 * KILLS; tries++) {
        bool met = stop_in_the_middle(SIGKILL) == -SIGKILL;
        killed += met;
        struct answers some = read_answers("put", true);
        if (!met) unlink(in_folder("put").text); // again from the start
        free_answers(&some);
    }
    check(killed == KILLS, "%d kills met a run", killed);
    check(wait_for(start(-1, -1, long_run)) == 0, "exit code behind kills");
    same_answers("put", &a);

    // Ctrl-C: what is not whole is dropped, and made by the next run.
    int code = 0;
    for (int tries = 0; !code && tries < 20; tries++) {
        unlink(in_folder("put").text);
        code = stop_in_the_middle(SIGINT);
    }
    check(code == 1, "exit code %d after Ctrl-C", code);
    says("interrupted; the same command goes on");
    struct answers some = read_answers("put", false);
    check(some.count > 0 && some.count < LINES, "%d answers after Ctrl-C", some.count);
    free_answers(&some);
    check(wait_for(start(-1, -1, long_run)) == 0, "exit code behind Ctrl-C");
    same_answers("put", &a);

    // Two runs at once: the second one leaves the file alone.
    int held = open(in_folder("put").text, O_RDONLY | O_CLOEXEC);
    if (held < 0 || flock(held, LOCK_EX)) perror("put"), exit(1);
    check(tinylm("", "--temp 0 -c 1024 --in long --out put") == 1, "exit code beside another run");
    says("another run is writing it");
    close(held);
    free_answers(&a);
}

static void test_resumed(const struct answers *want)
{
    struct bytes whole = read_file("out"), in = read_file("in");
    check(tinylm("", "--temp 0 --in in --out out --parallel 2 --stats json") == 0, "exit code");
    says("\"answers\": 0, \"found_answers\": 40,");
    check(same_file("out", whole), "a whole file was changed");
    // Cut at places all over the file, within lines and between them.
    for (size_t n = whole.count; n > 0; n -= n < 700 ? n : 700) {
        write_file("torn", whole.data, n);
        check(tinylm("", "--temp 0 --in in --out torn --stats none") == 0, "exit code");
        if (whole.data[n - 1] != '\n') says("cut off");
        same_answers("torn", want);
    }
    // Another request, other options, too few requests, a file of something else: refused, and nothing is touched.
    char *number = strstr(in.data, "Number 25");
    number[7] = '3';
    write_file("other", in.data, in.count);
    number[7] = '2';
    check(tinylm("", "--temp 0 --in other --out out") == 1, "exit code");
    says("index 5: expected the request and the options that the answer was made with, found others");
    check(tinylm("", "--temp 0 --in - --out out <other") == 1, "exit code of another input in a pipe");
    says("index 5");
    static const char *const other_options[] = {"--temp 0.5", "--temp 0 --logit-bias 5+1",
                                                "--temp 0 --ignore-eos", "--temp 0 --samplers top_k",
                                                "--temp 0 -r x"};
    for (size_t i = 0; i < sizeof other_options / sizeof *other_options; i++) {
        check(tinylm("", "%s --in in --out out", other_options[i]) == 1, "%s: exit code", other_options[i]);
        says("index 0: expected");
    }
    char *end = memchr(in.data, '\n', in.count);
    write_file("other", in.data, (size_t)(end + 1 - in.data));
    check(tinylm("", "--temp 0 --in other --out out") == 1, "exit code");
    says("found an input of 1 lines");
    check(same_file("out", whole), "a refused run changed the file");
    check(tinylm("", "--temp 0 --in in --out in") == 1, "exit code");
    says("line 1: expected an answer of an earlier run; the file is left as it is");
    check(same_file("in", in), "a file of requests was taken for one of answers");
    write_file("text", "a line", 6);
    check(tinylm("", "--temp 0 --in in --out text") == 1, "exit code");
    check(same_file("text", (struct bytes){(char *)"a line", 6}), "somebody's text was cut");
    free(whole.data);
    free(in.data);
}

static void test_full_disk(const struct answers *want)
{
    // ulimit counts blocks of 512 bytes in most shells; the limit falls within a line.
    for (int blocks = 1; blocks < 8; blocks += 3) {
        char limit[32];
        snprintf(limit, sizeof limit, "ulimit -f %d;", blocks);
        unlink(in_folder("full").text);
        check(tinylm(limit, "--temp 0 --in in --out full") == 1, "exit code");
        says("full: cannot write: File too large");
        struct answers some = read_answers("full", false);
        check(some.count < LINES, "%d answers on a full disk", some.count);
        free_answers(&some);
        check(tinylm("", "--temp 0 --in in --out full --stats none") == 0, "exit code");
        same_answers("full", want);
    }
    if (access("/dev/full", W_OK) == 0) {
        check(tinylm("", "--temp 0 --in in --out /dev/full") == 1, "exit code");
        says("/dev/full: cannot write: No space left on device");
        check(tinylm("", "--temp 0 --in in >/dev/full") == 1, "exit code");
        says("cannot write to standard output: No space left on device");
    }
    check(tinylm("", "--temp 0 --in in --stats none | head -n 1 >one") == 0, "exit code");
    check(whole_lines("one") == 1 && same_file("err", (struct bytes){(char *)"", 0}),
          "a reader that had enough");
}

static void test_wrong_lines(void)
{
    static const struct {
        const char *line, *error;
    } cases[] = {
        {"{\"prompt\": \"a\"}", NULL},
        {"nonsense", "JSON: column 8: "},
        {"[1]", "JSON: expected an object, found an array"},
        {"{\"prompt\": \"a\", \"prompt\": \"b\"}", "JSON: column "},
        {"{\"prompt\": \"\xff\"}", "JSON: column "},
        {"{}", "expected a prompt or messages, found neither"},
        {"{\"prompt\": \"a\", \"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}", "found both"},
        {"{\"prompt\": 3}", "prompt: expected a text, found a whole number"},
        {"{\"promt\": \"a\"}", "unknown key 'promt'"},
        {"{\"messages\": [3]}", "messages: 0: expected an object with a role"},
        {"{\"messages\": []}", "messages: expected a list of them"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": [1]}]}", "expected a text as content"},
        {"{\"prompt\": \"a\", \"tools\": []}", "tools: expected messages beside them"},
        {"{\"prompt\": \"a\", \"top_k\": -1}", "top_k: expected a whole number of at least 0, found -1"},
        {"{\"prompt\": \"a\", \"top_p\": 2}", "top_p: expected a number from 0 to 1, found 2"},
        {"{\"prompt\": \"a\", \"top_p\": 0}", "top_p: expected a number above 0"},
        {"{\"prompt\": \"a\", \"temperature\": \"hot\"}",
         "temperature: expected a number of at least 0, found a string"},
        {"{\"prompt\": \"a\", \"ignore_eos\": 1}", "ignore_eos: expected true or false"},
        {"{\"prompt\": \"a\", \"samplers\": \"best\"}", "best"},
        {"{\"prompt\": \"a\", \"logit_bias\": \"5+1\"}", "unknown key 'logit_bias'"},
        {"{\"prompt\": \"a\", \"n\": 0}", "n: expected a whole number from 1"},
        {"{\"prompt\": \"a\", \"max_tokens\": 1, \"n_predict\": 1}", "max_tokens and n_predict, found both"},
        {"{\"prompt\": \"a\", \"stop\": [1]}",
         "stop: expected a text or a list of texts, found a whole number"},
        {"{\"prompt\": \"a\", \"stop\": \"\"}", "stop: expected texts"},
        {"{\"prompt\": \"a prompt that is longer than the context\"}", "context: "},
        {"{\"prompt\": \"a\", \"regex\": \"(\"}", "regex: "},
        {"{\"prompt\": \"a\", \"json_schema\": \"{}\"}", "json_schema: expected an object, found a string"},
        {"{\"prompt\": \"a\", \"json_schema\": {\"type\": 3}}", "json_schema: "},
        {"{\"prompt\": \"a\", \"grammar\": \"root ::= [a-z]\"}", NULL},
        {"{\"prompt\": \"a\", \"grammar\": \"root ::= [a-z]{9}\"}", "expected room for the 1"},
        {"{\"prompt\": \"a\", \"grammar\": \"root ::= [a-z]\", \"regex\": \"a\"}", "found two"},
        {"{\"prompt\": \"a\", \"grammar_file\": \"schema\"}", "unknown key 'grammar_file'"},
        {"", NULL}, // no request, no answer
        {"{\"prompt\": \"b\", \"max_tokens\": 2, \"min_p\": 0, \"seed\": 7, \"priority\": 3, \"stop\": "
         "[\"x\"]}\r",
         NULL},
    };
    enum { CASES = sizeof cases / sizeof *cases };
    _Static_assert((int)CASES <= (int)LINES, "records have room for them");
    FILE *f = fopen(in_folder("wrong").text, "wb");
    int errors = 0;
    for (int i = 0; f && i < CASES; i++) {
        fprintf(f, "%s%s", cases[i].line, i + 1 < CASES ? "\n" : "");
        errors += cases[i].error != NULL;
    }
    if (f) fclose(f);
    char count[64];
    snprintf(count, sizeof count, "%d of %d answers are errors", errors, CASES - 1);
    for (int again = 0; again < 2; again++) { // the second run finds all records there
        check(tinylm("", "-n 2 -c 16 --in wrong --out right") == 1, "exit code");
        says(count);
        if (!again) says("wrong: line 14: top_k: expected a whole number of at least 0, found -1\n");
        struct answers a = read_answers("right", false);
        check(a.count == CASES - 1, "%d records", a.count);
        for (int i = 0; i < CASES; i++) {
            const char *error = json_string_value(field(&a, i, 0, "error"));
            bool good = cases[i].error ? error && strstr(error, cases[i].error) : !error;
            check(good, "index %d: '%s' instead of '%s'", i, error, cases[i].error);
        }
        check(json_integer_value(field(&a, CASES - 1, 0, "seed")) == 7, "the seed of a line");
        free_answers(&a);
    }
}

// Grammars of lines, of the command line, and both; another text in the same file is another question.
static void test_grammars(void)
{
    static const struct {
        const char *key, *option;
    } cases[] = {
        {"\"regex\": \"[A-Z][a-z]+, (one|two)\\\\.\"", "--regex '[A-Z][a-z]+, (one|two)\\.'"},
        {"\"json_schema\": {\"type\": \"array\", \"items\": {\"type\": \"integer\"}}", "--json-schema array"},
        {"\"grammar\": \"root ::= \\\"<\\\" [^>]* \\\">\\\"\"", "--grammar brackets"},
        {"\"n\": 1", "--json-schema schema"},
    };
    enum { CASES = sizeof cases / sizeof *cases };
    static const char schema[] = "{\"type\": \"object\"}", other[] = "{\"type\": \"string\"}",
                      array[] = "{\"type\": \"array\", \"items\": {\"type\": \"integer\"}}",
                      brackets[] = "root ::= \"<\" [^>]* \">\"",
                      *run = "--temp 0.9 -s 5 -n 60 --json-schema schema";
    write_file("schema", schema, sizeof schema - 1);
    write_file("array", array, sizeof array - 1);
    write_file("brackets", brackets, sizeof brackets - 1);
    FILE *f = fopen(in_folder("asked").text, "wb");
    for (int i = 0; f && i < CASES; i++) fprintf(f, "{\"prompt\": \"Say %d\", %s}\n", i, cases[i].key);
    if (f) fclose(f);
    check(tinylm("", "%s --in asked --out formed", run) == 0, "exit code with grammars");
    struct answers a = read_answers("formed", false);
    check(a.count == CASES, "%d answers with grammars", a.count);
    for (int i = 0; i < CASES; i++) {
        check(tinylm("", "--temp 0.9 -s 5 -n 60 %s -p 'Say %d' >alone", cases[i].option, i) == 0,
              "exit code");
        struct bytes alone = read_file("alone");
        check_text(&a, i, 0, alone);
        check(!strcmp(json_string_value(field(&a, i, 0, "finish")), "end"), "index %d: not whole", i);
        free(alone.data);
    }
    tinylm("", "%s --in asked --out guessed --lookup --parallel 1", run);
    same_answers("guessed", &a);
    write_file("schema", other, sizeof other - 1);
    check(tinylm("", "%s --in asked --out formed", run) == 1, "exit code with another schema");
    says("index 0: expected the request and the options that the answer was made with, found others");
    free_answers(&a);
}

// Whoever asks through a pipe gets the answer before asking again.
static void test_dialogue(void)
{
    static const char *const arguments[] = {"-n", "3", "--in", "-", "--stats", "none", NULL};
    int asking[2], answering[2];
    if (pipe2(asking, O_CLOEXEC) || pipe2(answering, O_CLOEXEC)) exit(1);
    signal(SIGPIPE, SIG_IGN);
    pid_t child = start(asking[0], answering[1], arguments);
    close(answering[1]);
    close(asking[0]);
    alarm(60);
    for (int i = 0; i < 3; i++) {
        static const char request[] = "{\"prompt\": \"Hello\"}\n";
        char answer[2048] = "";
        check(write(asking[1], request, sizeof request - 1) == sizeof request - 1, "asking");
        size_t got = 0;
        while (got < sizeof answer - 1 && !strchr(answer, '\n')) {
            ssize_t n = read(answering[0], answer + got, sizeof answer - 1 - got);
            if (n <= 0) break;
            got += (size_t)n;
            answer[got] = '\0';
        }
        char begin[32];
        int length = snprintf(begin, sizeof begin, "{\"index\":%d,", i);
        check(!strncmp(answer, begin, (size_t)length), "question %d: %s", i, answer);
    }
    close(asking[1]);
    check(wait_for(child) == 0, "exit code of a dialogue");
    alarm(0);
    close(answering[0]);
}

static void test_chat(void)
{
    static const char template[] =
        "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}</s>{% endfor %}"
        "{% if tools %}{{ tools[0].name }}{% endif %}{% if add_generation_prompt %}<s>{% endif %}";
    static const char in[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"Say </s> <s>\"}]}\n"
                             "{\"prompt\": \"Say </s> <s>\"}\n"
                             "{\"messages\": [{\"role\": \"system\", \"content\": \"Be brief.\"}, "
                             "{\"role\": \"user\", \"content\": \"Say </s> <s>\"}]}\n"
                             "{\"messages\": [{\"role\": \"user\", \"content\": \"Say </s> <s>\"}], "
                             "\"tools\": [{\"name\": \"x\"}]}\n";
    write_file("template", template, strlen(template));
    write_file("tools", "[{\"name\": \"x\"}]", 15);
    write_file("talk", in, strlen(in));
    check(
        tinylm(
            "",
            "-n 9 --temp 0 --chat --chat-template-file template --system 'Be kind.' --in talk --out said") ==
            0,
        "exit code");
    struct answers a = read_answers("said", false);
    static const char *const alone[] = {"--system 'Be kind.'", "--system 'Be kind.'", "--system 'Be brief.'",
                                        "--system 'Be kind.' --tools tools"};
    for (int i = 0; i < 4; i++) {
        tinylm("", "-n 9 --temp 0 --chat --chat-template-file template %s -p 'Say </s> <s>' >alone",
               alone[i]);
        struct bytes want = read_file("alone");
        char tokens[64];
        snprintf(tokens, sizeof tokens, "prompt: %d tokens",
                 (int)json_integer_value(field(&a, i, 0, "prompt_tokens")));
        says(tokens);
        check_text(&a, i, 0, want);
        free(want.data);
    }
    free_answers(&a);
}

static void test_usage(void)
{
    static const struct {
        const char *arguments, *says;
        int code;
    } cases[] = {
        {"--out out", "--out, --parallel and --cache: expected --in with them", 2},
        {"--in in -p a", "expected one of --in and -p, found both", 2},
        {"--in in --session s", "expected one of --in and --session", 2},
        {"--in in --parallel 0", "--parallel: expected a whole number from 1 to 4096", 2},
        {"--in in --top-p 0", "top_p", 2},
        {"--in absent", "absent: cannot open: No such file", 1},
        {"--in .", ".: cannot read: Is a directory", 1},
        {"--in in --out absent/out", "absent/out: cannot open: No such file", 1},
        {"--in /dev/null --out empty", "answers: 0, 0 were there already", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check(tinylm("", "%s", cases[i].arguments) == cases[i].code, "%s: exit code", cases[i].arguments);
        says(cases[i].says);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: cli_batch TINYLM MODEL\n");
        return 2;
    }
    const char *temp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%.40s/batch.XXXXXX", temp ? temp : "/tmp");
    program = realpath(argv[1], NULL);
    model = realpath(argv[2], NULL);
    if (!program || !model || !mkdtemp(folder)) {
        perror(argv[1]);
        return 2;
    }
    struct answers a = test_company();
    test_choices();
    test_resumed(&a);
    test_full_disk(&a);
    test_stopped();
    test_wrong_lines();
    test_grammars();
    test_dialogue();
    test_chat();
    test_usage();
    free_answers(&a);
    char remove[128];
    snprintf(remove, sizeof remove, "rm -rf '%s'", folder);
    if (system(remove)) perror(folder);
    if (failures) return printf("cli_batch: %d of %d checks failed\n", failures, checks), 1;
    printf("cli_batch: %d checks, all as expected\n", checks);
    return 0;
}

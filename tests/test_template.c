// tests/test_template.c -- chat templates: what they render to beside jinja2 (tests/golden/templates), where
// they fail, what their limits are, and which of the output came from messages.
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/file.h"
#include "tests/tests.h"
#include "text/template.h"

#define FOLDER "tests/golden/templates/"

static json_t *parse(const char *text, size_t bytes)
{
    json_t *json;
    struct tlm_error err;
    ck_assert_msg(!template_parse_json(&json, text, bytes, "test", &err), "%s", err.text);
    return json;
}

// Noon of 1 July 2024, here: what the golden outputs were told.
static int64_t noon(void)
{
    struct tm t = {.tm_year = 124, .tm_mon = 6, .tm_mday = 1, .tm_hour = 12, .tm_isdst = -1};
    return (int64_t)mktime(&t);
}

// Renders over the items of `context`. NULL and a line in *err where compiling or rendering fails.
static char *render(const char *source, size_t bytes, const json_t *context, struct tlm_error *err)
{
    struct jinja_variable variables[64];
    struct jinja_options options = {.variables = variables, .now = noon()};
    struct jinja_template *t;
    struct jinja_output out;
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)context, name, value)
    {
        ck_assert_uint_lt(options.variable_count, 64);
        variables[options.variable_count++] = (struct jinja_variable){.name = name, .value = value};
    }
    *err = (struct tlm_error){0};
    if (jinja_compile(&t, source, bytes, err)) return NULL;
    enum tlm_status status = jinja_render(t, &options, &out, err);
    jinja_free(t);
    if (status) {
        ck_assert(!out.text && !out.input);
        return NULL;
    }
    ck_assert_uint_eq(strlen(out.text) <= out.bytes, 1);
    free(out.input);
    return out.text;
}

static void check(const char *what, const char *found, const json_t *expected, const struct tlm_error *err)
{
    if (json_is_null(expected)) {
        ck_assert_msg(!found, "%s: expected a failure, found '%s'", what, found);
        ck_assert_msg(!strncmp(err->text, "template line ", 14) && !strchr(err->text, '\n'), "%s: '%s'", what,
                      err->text);
    } else {
        ck_assert_msg(found, "%s: %s", what, err->text);
        ck_assert_msg(!strcmp(found, json_string_value(expected)), "%s:\nexpected '%s'\nfound    '%s'", what,
                      json_string_value(expected), found);
    }
}

// Calls `visit` with each line of a file of JSON, parsed.
static void each_line(const char *path, void (*visit)(const json_t *line, void *user), void *user)
{
    char *text;
    size_t size;
    struct tlm_error err;
    ck_assert_msg(!file_read(path, &text, &size, &err), "%s", err.text);
    for (char *at = text, *end; at < text + size; at = end + 1) {
        end = memchr(at, '\n', (size_t)(text + size - at));
        ck_assert(end);
        json_t *line = parse(at, (size_t)(end - at));
        visit(line, user);
        json_decref(line);
    }
    free(text);
}

static void check_expression(const json_t *line, void *user)
{
    json_t **context = user;
    struct tlm_error err;
    if (json_object_get(line, "c")) {
        *context = json_incref(json_object_get(line, "c"));
        return;
    }
    const json_t *source = json_object_get(line, "t");
    char *found = render(json_string_value(source), json_string_length(source), *context, &err);
    check(json_string_value(source), found, json_object_get(line, "o"), &err);
    free(found);
}

START_TEST(expressions)
{
    json_t *context = NULL;
    each_line(FOLDER "expressions.jsonl", check_expression, &context);
    json_decref(context);
}
END_TEST

// ---- whole templates over conversations ---------------------------------------------------------------

struct rendering {
    const char *folder;
    const json_t *conversations;
    int count;
};

static uint32_t crc32_of(const char *text)
{
    uint32_t crc = ~0u;
    for (; *text; text++) {
        crc ^= (unsigned char)*text;
        for (int i = 0; i < 8; i++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

static void check_conversation(const json_t *line, void *user)
{
    struct rendering *r = user;
    const char *name = json_string_value(json_object_get(line, "n")),
               *file = json_string_value(json_object_get(line, "f"));
    char path[512], *source;
    size_t bytes, i;
    json_t *talk, *context = NULL;
    struct tlm_error err;
    snprintf(path, sizeof path, "%s%s", r->folder, file);
    if (file_read(path, &source, &bytes, &err)) return; // a template that is not part of the project
    json_array_foreach(r->conversations, i, talk)
    {
        if (!strcmp(json_string_value(json_object_get(talk, "name")), name)) context = json_copy(talk);
    }
    ck_assert(context);
    json_object_del(context, "name");
    char *found = render(source, bytes, context, &err), what[600];
    const json_t *crc = json_object_get(line, "crc");
    snprintf(what, sizeof what, "%s over '%s'", file, name);
    if (crc) {
        ck_assert_msg(found, "%s: %s", what, err.text);
        ck_assert_msg(crc32_of(found) == (uint32_t)json_integer_value(crc), "%s: found '%s'", what, found);
    } else {
        check(what, found, json_object_get(line, "o"), &err);
    }
    free(found);
    free(source);
    json_decref(context);
    r->count++;
}

static int check_conversations(const char *outputs, const char *folder)
{
    char *text;
    size_t size;
    struct tlm_error err;
    ck_assert(!file_read(FOLDER "conversations.json", &text, &size, &err));
    json_t *conversations = parse(text, size);
    struct rendering r = {folder, conversations, 0};
    each_line(outputs, check_conversation, &r);
    json_decref(conversations);
    free(text);
    return r.count;
}

START_TEST(own_templates)
{
    ck_assert_int_ge(check_conversations(FOLDER "rendered.jsonl", FOLDER), 90);
}
END_TEST

START_TEST(templates_of_models)
{
    check_conversations(FOLDER "shared.jsonl", "../shared/templates/");
}
END_TEST

// ---- failures and limits ------------------------------------------------------------------------------

static void check_failure(const char *source, const char *line)
{
    struct tlm_error err;
    char *found = render(source, strlen(source), NULL, &err);
    ck_assert_msg(!found, "'%s': expected a failure", source);
    ck_assert_msg(!strncmp(err.text, line, strlen(line)), "'%s': expected '%s...', found '%s'", source, line,
                  err.text);
}

START_TEST(failures_name_the_line)
{
    check_failure("a\n\n{{ 1 + }}", "template line 3: expected an expression, found }}");
    check_failure("{% if x %}\n\n", "template line 2: expected the end of {% if %} of line 1");
    check_failure("{% set x = {'a':\n1,\n'b': 1/0} %}",
                  "template line 3: expected a divisor other than zero");
    check_failure("\n{{ raise_exception('no\nway') }}", "template line 2: no way");
    check_failure("\r\n\r{{ nothing.here }}", "template line 3: 'nothing' is undefined");
    check_failure("{# a\nb #}{{ {}.a.b }}", "template line 2: 'dict' object has no attribute 'a'");
    check_failure("{{ 'a\nb' }}\n{{ x|nosuch }}",
                  "template line 3: expected the name of a filter, found 'nosuch'");
    check_failure("{% macro m() %}\n{{ 1() }}\n{% endmacro %}\n{{ m() }}",
                  "template line 2: 'int' object is not callable");
    check_failure("{% include 'x' %}", "template line 1: {% include %} is not supported");
    check_failure("{{ [1]|random }}", "template line 1: this filter is not supported");
    check_failure("\xff", "template line 1: expected UTF-8, found byte 0xff");
    check_failure("{{ '\\ud800' }}", "template line 1: expected characters, found a surrogate");
    check_failure("{{ 9223372036854775807 + 1 }}", "template line 1: expected an integer of 64 bits");
}
END_TEST

static void check_limit(const char *source)
{
    struct tlm_error err;
    char *found = render(source, strlen(source), NULL, &err);
    ck_assert_msg(!found && err.code, "'%.60s': expected a limit", source);
    ck_assert(!strchr(err.text, '\n'));
}

static char *repeated(const char *begin, const char *piece, int count, const char *end)
{
    size_t n = strlen(piece), used = strlen(begin);
    char *text = malloc(used + n * (size_t)count + strlen(end) + 1);
    ck_assert(text);
    strcpy(text, begin);
    for (int i = 0; i < count; i++, used += n) memcpy(text + used, piece, n);
    strcpy(text + used, end);
    return text;
}

START_TEST(work_is_bounded)
{
    check_limit("{% for i in range(100000) %}{% for k in range(100000) %}{% endfor %}{% endfor %}");
    check_limit("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}");
    check_limit("{{ 'a' * 9000000000 }}");
    check_limit("{{ [1] * 9000000000 }}");
    check_limit("{{ 'a'.center(99999999999) }}");
    check_limit("{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s "
                "%}{% endfor %}");
    check_limit("{% set ns = namespace(l=[0]) %}{% for i in range(99) %}{% set ns.l = [ns.l, ns.l] %}{% "
                "endfor %}{{ ns.l == (ns.l|list) }}{{ ns.l }}");
    check_limit("{% for i in range(100000) %}{% for k in range(1000) "
                "%}0123456789012345678901234567890123456789{% endfor %}{% endfor %}");
    check_limit("{% for x in [[[]]] recursive %}{{ loop([[1]]) }}{% endfor %}");
    check_limit("{{ ('a' * 2000000).find('a' * 1000000 ~ 'b') }}");
    check_limit("{{ '%999999999d' % 1 }}");
    static const struct {
        const char *begin, *piece, *end;
    } deep[] = {
        {"{{ ", "(", ""},
        {"{{ ", "[", ""},
        {"{{ ", "-", "1 }}"},
        {"{{ ", "not ", "1 }}"},
        {"", "{% if 1 %}", ""},
        {"{{ 1", "+1", " }}"},
        {"{{ 'a'", "|upper", " }}"},
        {"{{ x", ".a", " }}"},
        {"{{ ", "1 if ", " }}"},
        {"{{ ", "{1:", " }}"},
        {"{{ x", "[0]", " }}"},
        {"", "{% for a in b %}", ""},
    };
    for (size_t i = 0; i < sizeof deep / sizeof *deep; i++) {
        char *text = repeated(deep[i].begin, deep[i].piece, 100000, deep[i].end);
        check_limit(text);
        free(text);
    }
}
END_TEST

START_TEST(options_bound_the_work)
{
    struct jinja_template *t;
    struct jinja_output out;
    struct tlm_error err;
    static const char source[] = "{% for i in range(1000) %}0123456789{% endfor %}";
    ck_assert(!jinja_compile(&t, source, strlen(source), &err));
    struct jinja_options fits = {.max_output = 10000, .max_steps = 100000, .max_memory = 1 << 20};
    ck_assert_msg(!jinja_render(t, &fits, &out, &err), "%s", err.text);
    ck_assert_uint_eq(out.bytes, 10000);
    jinja_output_free(&out);
    ck_assert_int_eq(jinja_render(t, &(struct jinja_options){.max_output = 9999}, &out, &err),
                     TLM_ERR_MEMORY);
    ck_assert_int_eq(jinja_render(t, &(struct jinja_options){.max_steps = 1000}, &out, &err), TLM_ERR_MEMORY);
    ck_assert_int_eq(jinja_render(t, &(struct jinja_options){.max_memory = 4096}, &out, &err),
                     TLM_ERR_MEMORY);
    jinja_free(t);
}
END_TEST

// ---- messages -----------------------------------------------------------------------------------------

// The output with what came from messages in brackets.
static void check_marked(const char *source, const char *messages, const char *expected)
{
    struct template *t;
    struct jinja_output out;
    struct tlm_error err;
    json_t *m = parse(messages, strlen(messages));
    ck_assert_msg(!template_open_text(&t, source, strlen(source), &err), "%s", err.text);
    ck_assert(!template_set_token(t, "bos_token", "<s>", 3, &err));
    struct template_input input = {.messages = m, .add_generation_prompt = true};
    ck_assert_msg(!template_render(t, &input, &out, &err), "%s", err.text);
    char marked[512];
    size_t n = 0, at = 0;
    for (size_t i = 0; i < out.input_count; i++) {
        ck_assert(out.input[i].begin < out.input[i].end && (!i || out.input[i].begin > out.input[i - 1].end));
        n += (size_t)sprintf(marked + n, "%.*s[%.*s]", (int)(out.input[i].begin - at), out.text + at,
                             (int)(out.input[i].end - out.input[i].begin), out.text + out.input[i].begin);
        at = out.input[i].end;
    }
    sprintf(marked + n, "%s", out.text + at);
    ck_assert_str_eq(marked, expected);
    jinja_output_free(&out);
    template_close(t);
    json_decref(m);
}

START_TEST(input_is_told_from_the_template)
{
    check_marked("{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}",
                 "[{\"role\": \"user\", \"content\": \"<|end|>\\u00e9\"}, {\"role\": \"assistant\", "
                 "\"content\": \"\"}]",
                 "<s><|user|>[<|end|>\xc3\xa9]<|end|><|assistant|><|end|>");
    check_marked("<|{{ messages[0].role }}|>", "[{\"role\": \"|><|system\"}]", "<|[|><|system]|>");
    check_marked("{{ messages[0].content|upper|trim|replace('B', '<>') ~ messages[0].content[::-1] }}",
                 "[{\"content\": \" abc \"}]", "[A]<>[C cba ]");
    check_marked("{{ messages|tojson }}", "[{\"a\": [\"\\n\", 1]}]", "[{\"[a]\": [\"[\\n]\", 1]}]");
    check_marked("{{ messages[0].content.split('-')|join('+') }}{{ '%s/%s' % ('x', messages[0].content) }}",
                 "[{\"content\": \"a-b\"}]", "[a]+[b]x/[a-b]");
    check_marked("{% if messages[0].content == 'abc' and 'b' in messages[0].content %}same{% endif %}",
                 "[{\"content\": \"abc\"}]", "same");
    check_marked("{% set x %}a{{ messages[0].content }}{% endset %}{% filter upper %}{{ x }}{% endfilter %}",
                 "[{\"content\": \"b\"}]", "A[B]");
}
END_TEST

START_TEST(messages_are_checked)
{
    static const char *const wrong[] = {"{}", "\"x\"", "[1]", "[[]]", "null"};
    struct template *t;
    struct jinja_output out;
    struct tlm_error err;
    ck_assert(!template_open_text(&t, "x", 1, &err));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        json_t *m = parse(wrong[i], strlen(wrong[i]));
        ck_assert_int_eq(template_render(t, &(struct template_input){.messages = m}, &out, &err),
                         TLM_ERR_ARGUMENT);
        json_decref(m);
    }
    template_close(t);
    json_t *json;
    ck_assert_int_eq(template_parse_json(&json, "[1,\n x]", 7, "m.json", &err), TLM_ERR_FORMAT);
    ck_assert_msg(!strncmp(err.text, "m.json: line 2, column ", 23), "%s", err.text);
}
END_TEST

// A few thousand templates that are nearly right, from pieces of the golden ones.
START_TEST(mutations)
{
    char *text;
    size_t size;
    uint32_t random = 12345;
    struct tlm_error err;
    ck_assert(!file_read(FOLDER "chatml-tools.jinja", &text, &size, &err));
    uint8_t *mutant = malloc(size * 2);
    ck_assert(mutant);
    for (int round = 0; round < 2000; round++) {
        size_t n = 0, at = 0;
        while (at < size && n < size) {
            random = random * 1664525u + 1013904223u;
            size_t run = (random >> 8) % 200 + 1;
            if (run > size - at) run = size - at;
            memcpy(mutant + n, text + at, run);
            n += run;
            at += run;
            if (random >> 28 == 0) at += (random >> 20) % 40;          // leaves some out
            if (random >> 28 == 1) mutant[n - 1] ^= 1 << (random & 7); // flips a bit
            if (random >> 28 == 2) at -= run / 2;                      // says some again
        }
        fuzz_template(mutant, n);
    }
    free(mutant);
    free(text);
}
END_TEST

Suite *suite_template(void)
{
    Suite *s = suite_create("template");
    TCase *language = tcase_create("language"), *bounds = tcase_create("bounds");
    tcase_set_timeout(bounds, 300);
    tcase_set_timeout(language, 120);
    tcase_add_test(language, expressions);
    tcase_add_test(language, own_templates);
    tcase_add_test(language, templates_of_models);
    tcase_add_test(language, failures_name_the_line);
    tcase_add_test(language, input_is_told_from_the_template);
    tcase_add_test(language, messages_are_checked);
    tcase_add_test(bounds, work_is_bounded);
    tcase_add_test(bounds, options_bound_the_work);
    tcase_add_test(bounds, mutations);
    suite_add_tcase(s, language);
    suite_add_tcase(s, bounds);
    return s;
}

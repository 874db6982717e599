// tests/test_grammar.c -- what grammars, regular expressions and JSON schemas match, and what they say where they are wrong.
#include <stdio.h>

#include "tests/grammar_oracle.h"
#include "tests/tests.h"

#define G TLM_GRAMMAR_GBNF
#define J TLM_GRAMMAR_JSON_SCHEMA
#define R TLM_GRAMMAR_REGEX

#define MOST 12

static const struct {
    enum tlm_grammar_kind kind;
    const char *text;
    const char *match[MOST], *other[MOST];
} cases[] = {
    // ---- GBNF
    {G, "root ::= \"a\" | \"bc\"", {"a", "bc"}, {"", "b", "abc", "ab"}},
    {G,
     "# remark\nroot ::= x # more\n  y\n\nx ::= \"1\"\r\ny ::= \"2\" |\n \"3\"",
     {"12", "13"},
     {"1", "123"}},
    {G, "root ::= \"a\"*", {"", "a", "aaaa"}, {"b"}},
    {G, "root ::= \"ab\"+ \"c\"?", {"ab", "abab", "abc"}, {"", "c", "abb"}},
    {G,
     "root ::= \"a\"{2} [b-d]{1,2} \"e\"{2,} \"f\"{0,1}",
     {"aabee", "aacdeeeef"},
     {"abee", "aabe", "aabcdee", "aabeeff"}},
    {G, "root ::= (\"a\" | (\"b\"){2})+", {"a", "bb", "abba"}, {"", "b", "bbb"}},
    {G, "root ::= [^a-y\\n]", {"z", "\xC3\xA9", "\xF0\x9F\x98\x80"}, {"a", "\n", "\xC3", "zz"}},
    {G, "root ::= .", {"a", "\n", "\xE2\x82\xAC"}, {"", "\xE2\x82", "\x80"}},
    {G, "root ::= \"\\x41\\u00E9\\U0001F600\\t\\\"\\\\\"", {"A\xC3\xA9\xF0\x9F\x98\x80\t\"\\"}, {"A"}},
    {G, "root ::= [\\x41-\\x43\\u00e9\\]\\-\\\\]+", {"ABC\xC3\xA9]-\\"}, {"D", "["}},
    {G, "root ::= [a-]", {"a", "-"}, {"b"}},
    {G, "root ::= \"(\" root \")\" | \"\"", {"", "()", "((()))"}, {"(", ")(", "(()"}},
    {G, "root ::= s\ns ::= \"a\" s \"b\" s |", {"", "ab", "aabb", "abab", "aabbab"}, {"a", "ba", "aab"}},
    {G, "root ::= a-1 B_2\na-1 ::= \"x\"\nB_2 ::= \"y\"", {"xy"}, {"x"}},
    {G, "root ::= (\"a\"*)* \"b\"", {"b", "aab"}, {"a"}},
    {G,
     "root ::= x{0,200}\nx ::= [a-c] [\\u0400-\\u04FF]",
     {"", "a\xD0\x96",
      "a\xD0\x96"
      "b\xD0\x96"},
     {"a", "a\xD0"}},
    {G,
     "root ::= e\ne ::= t (\"+\" t)*\nt ::= [0-9] | \"(\" e \")\"",
     {"1", "1+2", "(1+(2))+3"},
     {"1+", "(1", ""}},
    {G, "root ::= \"a\" bad | \"b\"\nbad ::= \"x\" bad", {"b"}, {"a", "ax"}},
    // ---- regular expressions
    {R, "a|bc*", {"a", "b", "bccc"}, {"", "ab", "c"}},
    {R, "^(?:ab)+$", {"ab", "abab"}, {"", "aba"}},
    {R, "\\d{3}-\\w+\\s?", {"123-a_9", "123-x "}, {"12-a", "123-"}},
    {R, "[^\\d\\s]+", {"abc!", "\xC3\xA9"}, {"a1", " "}},
    {R, "[\\]\\-a]+", {"]-a"}, {"b"}},
    {R, "a{2,3}?b{2}c{1,}", {"aabbc", "aaabbcc"}, {"abbc", "aabbbc"}},
    {R, "a{,3}", {"a{,3}"}, {"aaa"}},
    {R, ".+", {"a\xE2\x82\xAC"}, {"", "a\nb"}},
    {R, "\\x41\\u0042\\u{43}\\n\\.", {"ABC\n."}, {"ABCnx"}},
    {R, "(?<year>[0-9]{4})(-[0-9]{2}){0,2}", {"2024", "2024-01", "2024-01-02"}, {"202", "2024-1"}},
    {R, "", {""}, {"a"}},
    {R, "(a|b)*a(a|b){12}", {"aaaaaaaaaaaaa", "babababababababb"}, {"bbbbbbbbbbbbb"}},
    {R, "\\S\\D\\W", {"ab-"}, {" b-", "a1-", "abc"}},
    // ---- JSON schemas
    {J, "{\"type\": \"boolean\"}", {"true", "false"}, {"null", " true", "true "}},
    {J, "{\"type\": [\"null\", \"integer\"]}", {"null", "0", "-12"}, {"01", "1.5", "-0", "\"a\""}},
    {J, "{\"type\": \"number\"}", {"0", "-1.5", "2e10", "3.25E-2"}, {".5", "1.", "+1", "1e"}},
    {J,
     "{\"type\": \"string\"}",
     {"\"\"", "\"a\\n\\\"\\u00e9\\ud83d\\ude00\"", "\"\xC3\xA9\""},
     {"\"", "\"\n\"", "\"\\x\"", "\"\\ud83d\"", "\"\\u0000\"", "\"\xC3\""}},
    {J,
     "{\"type\": \"string\", \"minLength\": 1, \"maxLength\": 3}",
     {"\"a\"", "\"\xE2\x82\xAC\xC3\xA9z\"", "\"\\n\\n\\n\""},
     {"\"\"", "\"abcd\""}},
    {J,
     "{\"type\": \"string\", \"pattern\": \"^a.c$\"}",
     {"\"abc\"", "\"a\\\"c\"", "\"a\\\\c\"", "\"a\\tc\""},
     {"\"a\"c\"", "\"ac\""}},
    {J, "{\"type\": \"string\", \"pattern\": \"b\"}", {"\"b\"", "\"abc\""}, {"\"ac\""}},
    {J,
     "{\"type\": \"string\", \"format\": \"date\"}",
     {"\"2024-02-29\"", "\"2023-12-31\""},
     {"\"2023-02-29\"", "\"2024-13-01\"", "\"2024-04-31\"", "\"0000-01-01\""}},
    {J,
     "{\"type\": \"string\", \"format\": \"date-time\"}",
     {"\"2024-02-29T23:59:59.5Z\"", "\"2024-01-01T00:00:00+01:00\""},
     {"\"2024-02-29 23:59:59Z\"", "\"2024-01-01T24:00:00Z\""}},
    {J,
     "{\"type\": \"string\", \"format\": \"uuid\"}",
     {"\"123e4567-e89b-12d3-a456-426614174000\""},
     {"\"123e4567\""}},
    {J, "{\"type\": \"string\", \"format\": \"whatever\"}", {"\"x\""}, {"1"}},
    {J, "{\"enum\": [\"a\\\"\", 1, null, [1, 2]]}", {"\"a\\\"\"", "1", "null", "[1, 2]"}, {"\"a\"", "2"}},
    {J, "{\"const\": {\"a\": true}}", {"{\"a\": true}"}, {"{}"}},
    {J,
     "{\"type\": \"integer\", \"minimum\": 7, \"maximum\": 123}",
     {"7", "9", "10", "99", "100", "123"},
     {"6", "124", "07", "1000"}},
    {J,
     "{\"type\": \"integer\", \"minimum\": -12, \"exclusiveMaximum\": 3}",
     {"-12", "-1", "0", "2"},
     {"-13", "3", "-0"}},
    {J, "{\"type\": \"integer\", \"exclusiveMinimum\": 999}", {"1000", "123456789"}, {"999", "-1000"}},
    {J,
     "{\"type\": \"number\", \"minimum\": 0, \"maximum\": 1}",
     {"0", "1", "0.5", "1.0", "0.999"},
     {"1.1", "-0.1", "2", "1.001"}},
    {J,
     "{\"type\": \"number\", \"exclusiveMinimum\": -1.25, \"maximum\": 2.5}",
     {"-1.2", "-1", "-0.1", "0", "2.5", "2.49", "2.500"},
     {"-1.25", "-1.3", "2.51", "3"}},
    {J,
     "{\"type\": \"object\", \"properties\": {\"b\": {\"type\": \"integer\"}, \"a\": {\"type\": \"null\"}}, "
     "\"required\": [\"a\", \"b\"]}",
     {"{\"b\":1,\"a\":null}", "{ \"b\": 1, \"a\": null }", "{\n  \"b\": 1,\n  \"a\": null\n}"},
     {"{\"a\":null,\"b\":1}", "{\"b\":1}", "{}", "{\"b\":1,\"a\":null,}", "{  \"b\":1,\"a\":null}"}},
    {J,
     "{\"properties\": {\"a\": {\"type\": \"null\"}, \"b\": {\"type\": \"null\"}, \"c\": {\"type\": "
     "\"null\"}}}",
     {"{}", "{\"a\":null}", "{\"b\":null}", "{\"c\":null}", "{\"a\":null,\"c\":null}",
      "{\"b\":null,\"c\":null}", "{\"a\":null,\"b\":null,\"c\":null}"},
     {"{,}", "{\"c\":null,\"a\":null}", "{\"a\":null,}", "{\"d\":null}"}},
    {J,
     "{\"properties\": {\"a\": {\"type\": \"null\"}, \"b\": {\"type\": \"null\"}, \"c\": {\"type\": "
     "\"null\"}}, \"required\": [\"b\"]}",
     {"{\"b\":null}", "{\"a\":null,\"b\":null}", "{\"b\":null,\"c\":null}"},
     {"{}", "{\"a\":null}", "{\"c\":null}"}},
    {J,
     "{\"properties\": {\"ab\": {\"type\": \"null\"}}, \"additionalProperties\": {\"type\": \"integer\"}}",
     {"{}", "{\"ab\":null}", "{\"x\":1}", "{\"ab\":null,\"abc\":1,\"a\":2,\"\":3}"},
     {"{\"ab\":1}", "{\"x\":null}", "{\"x\":1,\"ab\":null}"}},
    {J,
     "{\"type\": \"object\", \"additionalProperties\": {\"type\": \"integer\"}, \"minProperties\": 1, "
     "\"maxProperties\": 2}",
     {"{\"x\":1}", "{\"x\":1,\"y\":2}"},
     {"{}", "{\"x\":1,\"y\":2,\"z\":3}"}},
    {J, "{\"type\": \"object\", \"additionalProperties\": false}", {"{}"}, {"{\"a\":1}"}},
    {J,
     "{\"required\": [\"x\"], \"properties\": {\"y\": {\"type\": \"null\"}}}",
     {"{\"x\":[1]}", "{\"y\":null,\"x\":2}"},
     {"{}", "{\"y\":null}"}},
    {J,
     "{\"type\": \"array\", \"items\": {\"type\": \"integer\"}, \"minItems\": 1, \"maxItems\": 3}",
     {"[1]", "[1,2]", "[ 1, 2, 3 ]"},
     {"[]", "[1,2,3,4]", "[1,]", "[null]"}},
    {J,
     "{\"prefixItems\": [{\"type\": \"null\"}, {\"type\": \"integer\"}], \"items\": {\"type\": \"boolean\"}}",
     {"[]", "[null]", "[null,1]", "[null,1,true,false]"},
     {"[1]", "[null,true]", "[null,1,1]"}},
    {J,
     "{\"prefixItems\": [{\"type\": \"null\"}, {\"type\": \"integer\"}], \"minItems\": 2}",
     {"[null,1]"},
     {"[null]", "[null,1,2]"}},
    {J, "{\"anyOf\": [{\"type\": \"null\"}, {\"const\": 1}]}", {"null", "1"}, {"2"}},
    {J,
     "{\"allOf\": [{\"properties\": {\"a\": {\"minimum\": 2}}, \"required\": [\"a\"]}, {\"properties\": "
     "{\"a\": {\"type\": \"integer\", \"maximum\": 3}}}]}",
     {"{\"a\":2}", "{\"a\":3}"},
     {"{\"a\":1}", "{\"a\":4}", "{}"}},
    {J,
     "{\"type\": \"object\", \"properties\": {\"a\": {\"const\": 1}}, \"anyOf\": [{\"required\": [\"a\"]}, "
     "{\"properties\": {\"b\": {\"const\": 2}}, \"required\": [\"b\"]}]}",
     {"{\"a\":1}", "{\"a\":1,\"b\":2}", "{\"b\":2}"},
     {"{}"}},
    {J,
     "{\"$defs\": {\"list\": {\"anyOf\": [{\"type\": \"null\"}, {\"type\": \"array\", \"prefixItems\": "
     "[{\"const\": 1}, {\"$ref\": \"#/$defs/list\"}], \"minItems\": 2}]}}, \"$ref\": \"#/$defs/list\"}",
     {"null", "[1,null]", "[1,[1,[1,null]]]"},
     {"[1]", "[1,[1]]"}},
    {J,
     "{\"properties\": {\"next\": {\"$ref\": \"#\"}}}",
     {"{}", "{\"next\":{\"next\":{}}}"},
     {"{\"next\":1}"}},
    {J, "{\"definitions\": {\"a/b~\": {\"const\": 1}}, \"$ref\": \"#/definitions/a~1b~0\"}", {"1"}, {"2"}},
    {J, "{\"type\": \"integer\", \"nullable\": true}", {"1", "null"}, {"\"\""}},
    {J, "{\"title\": \"anything\"}", {"1", "[{\"a\":[null,true]}]", "\"x\""}, {"", "x"}},
    {J, "{\"type\": \"object\"}", {"{}", "{\"a\":{\"b\":[1, 2]}}"}, {"[]"}},
};
enum { CASES = sizeof cases / sizeof *cases };

static struct grammar *open_case(enum tlm_grammar_kind kind, const char *text)
{
    struct tlm_error err;
    struct grammar *g;
    if (grammar_open(&g, kind, text, strlen(text), &err)) ck_abort_msg("%s: %s", text, err.text);
    return g;
}

START_TEST(test_cases)
{
    struct grammar *g = open_case(cases[_i].kind, cases[_i].text);
    for (int i = 0; i < MOST && cases[_i].match[i]; i++)
        if (!oracle_judge(g, cases[_i].match[i], strlen(cases[_i].match[i])).whole)
            ck_abort_msg("%s: expected a match of '%s', found none", cases[_i].text, cases[_i].match[i]);
    for (int i = 0; i < MOST && cases[_i].other[i]; i++)
        if (oracle_judge(g, cases[_i].other[i], strlen(cases[_i].other[i])).whole)
            ck_abort_msg("%s: expected no match of '%s', found one", cases[_i].text, cases[_i].other[i]);
    grammar_close(g);
}
END_TEST

static const struct {
    enum tlm_grammar_kind kind;
    const char *text, *error;
} wrongs[] = {
    {G, "", "grammar: expected a rule named \"root\", found none"},
    {G, "roo ::= \"a\"", "grammar: expected a rule named \"root\", found none"},
    {G, "root ::= \"a", "grammar: line 1, column 12: expected '\"', found the end"},
    {G, "root ::=\n  foo", "grammar: line 2, column 3: expected a rule that is defined, found \"foo\""},
    {G, "root = \"a\"", "grammar: line 1, column 6: expected '::=', found '='"},
    {G, "root ::= (\"a\"", "grammar: line 1, column 14: expected ')', found the end"},
    {G, "root ::= \"a\" )", "grammar: line 1, column 14: expected the next rule, found ')'"},
    {G, "root ::= [z-a]", "grammar: line 1, column 11: expected a range that rises, found 'z'"},
    {G, "root ::= [a", "grammar: line 1, column 12: expected ']', found the end"},
    {G, "root ::= \"\\q\"",
     "grammar: line 1, column 12: expected one of n r t x u U or a punctuation mark behind '\\', found 'q'"},
    {G, "root ::= \"\\uD800\"",
     "grammar: line 1, column 11: expected the code point of a character, found '\\'"},
    {G, "root ::= \"a\"{3,2}", "grammar: line 1, column 14: expected a range that rises, found '3'"},
    {G, "root ::= \"a\"{200000}", "grammar: expected at most 100000 repetitions, found 200000"},
    {G, "root ::= <think>",
     "grammar: line 1, column 10: expected text, found a token, which is not supported"},
    {G, "root ::= *",
     "grammar: line 1, column 10: expected a name, '\"', '[', '.', '(', '|' or the next rule, found '*'"},
    {G, "root ::= \"a\"\nroot ::= \"b\"",
     "grammar: line 2, column 1: expected each rule once, found \"root\" again"},
    {G, "root ::= \"x\" root", "grammar: expected texts that match, found that none can"},
    {G, "root ::= a\na ::= a \"x\" | \"y\"",
     "grammar: expected rules that begin with something else than themselves, found that \"a\" does not"},
    {G, "root ::= n a\nn ::= \"-\"?\na ::= n b | \"y\"\nb ::= n a \"x\"",
     "grammar: expected rules that begin with something else than themselves, found that \"a\" does not"},
    {G, "root ::= \"\xFF\"", "grammar: line 1, column 11: expected a character of UTF-8, found byte 0xFF"},
    {R, "a(b", "regular expression: column 4: expected ')', found the end"},
    {R, "ab)", "regular expression: column 3: expected the end, found ')'"},
    {R, "a**", "regular expression: column 3: expected one quantifier, found '*'"},
    {R, "(?=a)",
     "regular expression: column 1: expected something an automaton can follow, found an assertion"},
    {R, "(a)\\1",
     "regular expression: column 4: expected something an automaton can follow, found a back reference"},
    {R, "a\\b",
     "regular expression: column 2: expected something an automaton can follow, found an assertion"},
    {R, "\\p{L}",
     "regular expression: column 1: expected something an automaton can follow, found a property of "
     "characters"},
    {R, "[b-a]", "regular expression: column 2: expected a range that rises, found 'b'"},
    {R, "a{2,1}", "regular expression: column 2: expected a range that rises, found '{'"},
    {R, "*", "regular expression: column 1: expected something to repeat, found '*'"},
    {J, "[1]", "JSON schema: JSON: expected an object, found an array"},
    {J, "{\"a\": }", "JSON schema: JSON: line 1, column 7: unexpected token near '}'"},
    {J, "{\"type\": \"strin\"}", "JSON schema: #/type: expected the name of a type, found strin"},
    {J, "{\"properties\": {\"a\": {\"not\": {}}}}",
     "JSON schema: #/properties/a: expected keywords that can be followed, found \"not\""},
    {J, "{\"items\": {\"uniqueItems\": true}}",
     "JSON schema: #/items: expected keywords that can be followed, found \"uniqueItems\""},
    {J, "{\"anyOf\": [{}, {\"type\": \"string\", \"pattern\": \"a(?!b)\"}]}",
     "JSON schema: #/anyOf/1/pattern: column 2: expected something an automaton can follow, found an "
     "assertion"},
    {J, "{\"pattern\": \"a+\", \"maxLength\": 3}",
     "JSON schema: #/pattern: expected lengths that minLength and maxLength allow, found one that they would "
     "have to limit"},
    {J, "{\"$ref\": \"other.json\"}",
     "JSON schema: #: expected a reference inside the schema like \"#/$defs/x\", found \"other.json\""},
    {J, "{\"$ref\": \"#/$defs/x\"}",
     "JSON schema: #: expected a reference to a part of the schema, found \"#/$defs/x\""},
    {J, "{\"minLength\": -1}",
     "JSON schema: #/minLength: expected a whole number from 0 on, found another number"},
    {J, "{\"type\": \"integer\", \"minimum\": 5, \"maximum\": 4}",
     "JSON schema: expected texts that match, found that none can"},
    {J, "{\"properties\": {\"a\": false}, \"required\": [\"a\"]}",
     "JSON schema: expected texts that match, found that none can"},
    {J, "{\"type\": \"number\", \"multipleOf\": 0.1}",
     "JSON schema: #/multipleOf: expected 1, found another number"},
    {J, "{\"anyOf\": [{\"$ref\": \"#\"}]}", "JSON schema: expected texts that match, found that none can"},
    {J,
     "{\"$defs\": {\"a\": {\"anyOf\": [{\"$ref\": \"#/$defs/a\"}, {\"const\": 1}]}}, \"$ref\": "
     "\"#/$defs/a\"}",
     "JSON schema: expected rules that begin with something else than themselves, found that \"#/$defs/a\" "
     "does not"},
};
enum { WRONGS = sizeof wrongs / sizeof *wrongs };

START_TEST(test_wrongs)
{
    struct tlm_error err;
    struct grammar *g;
    ck_assert_int_ne(grammar_open(&g, wrongs[_i].kind, wrongs[_i].text, strlen(wrongs[_i].text), &err),
                     TLM_OK);
    ck_assert_ptr_null(g);
    ck_assert_str_eq(err.text, wrongs[_i].error);
}
END_TEST

// What is written from the rules matches, and what is cut off in the middle can go on.
START_TEST(test_written)
{
    struct grammar *g = open_case(cases[_i].kind, cases[_i].text);
    int32_t *least = oracle_least(g);
    for (uint64_t seed = 1; seed <= 10; seed++) {
        char text[256];
        size_t bytes = 0;
        uint64_t draws = 0;
        if (!oracle_write(g, least, 0, text, sizeof text, &bytes, seed, &draws, 0)) continue;
        ck_assert(oracle_judge(g, text, bytes).whole);
        ck_assert(oracle_judge(g, text, bytes / 2).alive);
    }
    free(least);
    grammar_close(g);
}
END_TEST

// Deep, long and repetitive texts are grammars or one clear line, soon and in little memory.
START_TEST(test_hostile)
{
    static const struct {
        enum tlm_grammar_kind kind;
        const char *before, *again, *behind;
        int times;
    } texts[] = {
        {G, "root ::= ", "(", "", 300000},
        {G, "root ::= \"a\"", "*", "", 300000},
        {G, "root ::= ", "(\"a\"{0,9}){0,9} ", "", 20000},
        {G, "root ::= ", "(\"a\"{9,}){9,} ", "", 2000},
        {G, "root ::= \"a\" ", "| \"abcdefgh\" ", "", 50000},
        {G, "root ::= \"a\" ", "[\\u0100-\\uffff]", "", 20000},
        {G, "root ::= ((((((((\"a\"?){1000}){1000}){1000}){1000}){1000}){1000}){1000}){1000}", "", "", 1},
        {G, "root ::= a\na ::= \"x\"\n", "#", "", 3000000},
        {R, "", "(a|b)*a(a|b){20}", "", 500},
        {R, "", "(", "", 300000},
        {R, "", "(a?b?){50}", "", 3000},
        {R, "[", "a-z", "]", 300000},
        {J, "", "{\"items\":", "", 1500},
        {J, "{\"enum\": [1", ",\"some longer value\"", "]}", 50000},
        {J, "{\"properties\": {\"x\": {}", "", "}}", 1},
        {J, "{\"allOf\": [{\"$ref\": \"#\"}, {\"$ref\": \"#\"}]", "", "}", 1},
        {J, "{\"maxLength\": 100000, \"minLength\": 50000", "", "}", 1},
        {J,
         "{\"items\": {\"items\": {\"items\": {\"maxItems\": 90000}, \"maxItems\": 90000}, \"maxItems\": "
         "90000}",
         "", "}", 1},
    };
    size_t before = strlen(texts[_i].before), again = strlen(texts[_i].again),
           behind = strlen(texts[_i].behind), at = before;
    char *text = malloc(before + again * (size_t)texts[_i].times + behind + 1);
    memcpy(text, texts[_i].before, before);
    for (int i = 0; i < texts[_i].times; i++, at += again) memcpy(text + at, texts[_i].again, again);
    memcpy(text + at, texts[_i].behind, behind);
    struct tlm_error err = {0};
    struct grammar *g;
    if (grammar_open(&g, texts[_i].kind, text, at + behind, &err)) {
        ck_assert(err.text[0] && !strchr(err.text, '\n'));
        ck_assert_ptr_null(g);
    }
    grammar_close(g);
    free(text);
}
END_TEST
enum { HOSTILE = 18 };

// Any bytes, and these grammars with bytes changed.
START_TEST(test_fuzz)
{
    uint8_t data[512];
    uint64_t draw = 0;
    for (int round = 0; round < 400; round++) {
        int source = (int)(rng_uniform(5, 0, draw++) * CASES);
        size_t bytes = strlen(cases[source].text);
        if (bytes > sizeof data - 1) bytes = sizeof data - 1;
        data[0] = (uint8_t)cases[source].kind;
        memcpy(data + 1, cases[source].text, bytes);
        for (int change = round % 4; change > 0; change--, draw += 2)
            data[1 + (size_t)(rng_uniform(5, 0, draw) * (double)bytes)] =
                (uint8_t)(rng_uniform(5, 0, draw + 1) * 256);
        fuzz_grammar(data, bytes + 1);
    }
}
END_TEST

Suite *suite_grammar(void)
{
    Suite *s = suite_create("grammar");
    TCase *t = tcase_create("grammar");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, test_cases, 0, CASES);
    tcase_add_loop_test(t, test_wrongs, 0, WRONGS);
    tcase_add_loop_test(t, test_written, 0, CASES);
    tcase_add_loop_test(t, test_hostile, 0, HOSTILE);
    tcase_add_test(t, test_fuzz);
    suite_add_tcase(s, t);
    return s;
}

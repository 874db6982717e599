// text/pretokenizer.c -- the table of pre-tokenizers: what each value of tokenizer.ggml.pre means.
//
// The expressions are those that the models publish in their tokenizer.json (or in Python, over tiktoken). Where one
// would take time that grows with the square of a hostile text, it is written so that it finds the same in linear time.
#include "text/pretokenizer.h"

#include <string.h>

// Contractions in either case, as cl100k_base and its many descendants have them.
#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
// White space: lines, then all but the last before a word, then the rest.
#define SPACES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define CL100K(digits) \
    CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" SPACES

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

// Words in upper, title and lower case, so that "camelCase" falls into two.
#define HEAD                      "[^\\r\\n\\p{L}\\p{N}]?"
#define UPPER                     "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER                     "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(upper, lower, tail) HEAD upper "*" lower "+" tail "|" HEAD upper "+" lower "*" tail
#define O200K(digits) \
    CASED(UPPER, LOWER, CONTRACTIONS "?") "|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES

// The same without Han, which Kimi writes as [\p{Lu}...&&[^\p{Han}]]: what is in none of the other categories.
#define UPPER_NOT_HAN "[^\\p{Ll}\\p{N}\\p{P}\\p{S}\\p{Z}\\p{C}\\p{Han}]"
#define LOWER_NOT_HAN "[^\\p{Lu}\\p{Lt}\\p{N}\\p{P}\\p{S}\\p{Z}\\p{C}\\p{Han}]"

#define DEEPSEEK_V3                                                                                      \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|" \
    " ?[\\p{P}\\p{S}]+[\\r\\n]*|" SPACES
#define DEEPSEEK_LETTERS                                                                          \
    "\\s?[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-"   \
    "\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1"    \
    "\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd" \
    "\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d" \
    "\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-"  \
    "\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4"  \
    "\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d"    \
    "\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4"   \
    "\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e"  \
    "\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f"      \
    "\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2"        \
    "\U000118a0-\U000118df\U0001e900-\U0001e943]+"
#define CJK_HANGUL "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
#define CJK_KANA   "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
#define BLOOM      " ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+"

#define DEEPSEEK_MARKS "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"

#define AFMOE_SCRIPTS                                                                              \
    "[\u4e00-\u9fff\u3400-\u4dbf\u8c48-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f\u2f00-\u2fdf" \
    "\u0e40-\u0e7f\u0e80-\u0eff\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af"  \
    "\u1100-\u11ff]+"

#define YOUTU_SCRIPTS                                                                             \
    "[\uac00-\ud7a3\u3131-\u318e]+|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c" \
    "\u3001-\u303f\ufe30-\ufe4f]+|[\u3105-\u312f]+|[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"

#define REGEX(p)                          \
    {                                     \
        .kind = SPLIT_REGEX, .pattern = p \
    }
#define RUNS(p)                                                         \
    {                                                                   \
        .kind = SPLIT_REGEX, .pattern = p, .behavior = SPLIT_CONTIGUOUS \
    }
#define THREES(p)                          \
    {                                      \
        .kind = SPLIT_THREES, .pattern = p \
    }

static const struct pretokenizer_info table[] = {
    {.names = "gpt-2 phi-2 jina-es jina-de jina-v1-en jina-v2-es jina-v2-de jina-v2-code roberta-bpe "
              "gigachat a.x-4.0 "
              "mellum exaone4 jais trillion granite-docling",
     .rules = {REGEX(GPT2)}},
    {.names = "olmo mpt modern-bert", .rules = {REGEX(GPT2)}, .nfc = true},
    {.names = "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 laguna jina-v5-nano",
     .rules = {REGEX(CL100K("\\p{N}{1,3}"))},
     .ignore_merges = true,
     .adds_bos = true},
    {.names = "dbrx smaug-bpe chatglm-bpe glm4 glm5 minicpm5", .rules = {REGEX(CL100K("\\p{N}{1,3}"))}},
    {.names = "qwen2 deepseek-r1-qwen megrez stablelm2 kormo openpangu f2llmv2",
     .rules = {REGEX(CL100K("\\p{N}"))},
     .nfc = true},
    {.names = "hunyuan solar-open grok-2", .rules = {REGEX(CL100K("\\p{N}"))}},
    {.names = "qwen35",
     .rules = {REGEX(
         CONTRACTIONS
         "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" SPACES)},
     .nfc = true},
    {.names = "gpt-4o o200k gpt-oss llama4 kanana2 minimax-m2 granite-embed-multi-97m",
     .rules = {REGEX(O200K("\\p{N}{1,3}"))}},
    {.names = "tekken",
     .rules = {REGEX(CASED(UPPER, LOWER, "") "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES)},
     .ignore_merges = true,
     .adds_bos = true},
    {.names = "kimi-k2",
     .rules = {REGEX("\\p{Han}+|" CASED(UPPER_NOT_HAN, LOWER_NOT_HAN,
                                        CONTRACTIONS "?") "|\\p{N}{1,3}|"
                                                          " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" SPACES)}},
    {.names = "deepseek-v3 deepseek-r1 hunyuan-dense joyai-llm",
     .rules = {REGEX("\\p{N}{1,3}"), REGEX(CJK_KANA), REGEX(DEEPSEEK_V3)}},
    {.names = "deepseek-llm", // the published "\s+$" begins at the first of a run anyway
     .rules = {REGEX("[\\r\\n]"), REGEX(DEEPSEEK_LETTERS), REGEX(DEEPSEEK_MARKS), REGEX("(?<!\\s)\\s+$"),
               REGEX(CJK_HANGUL), REGEX("\\p{N}")}},
    {.names = "deepseek-coder",
     .rules = {REGEX("[\\r\\n]"), REGEX("\\s?\\p{L}+"), REGEX("\\s?\\p{P}+"), REGEX(CJK_HANGUL),
               REGEX("\\p{N}")}},
    {.names = "falcon",
     .rules = {RUNS(PRETOKENIZER_PUNCTUATION),
               REGEX(GPT2),
               REGEX("[0-9][0-9][0-9]"),
               {.kind = SPLIT_BYTE_NUMBERS}}},
    {.names = "starcoder refact smollm codeshell exaone minerva-7b minerva mellum2",
     .rules = {REGEX("\\p{N}"), REGEX(GPT2)}},
    {.names = "command-r cohere2_moe", .rules = {REGEX("\\p{N}"), REGEX(GPT2)}, .nfc = true},
    {.names = "bloom poro-chat gpt3-finnish", .rules = {REGEX(BLOOM)}},
    {.names = "viking", .rules = {REGEX(BLOOM), REGEX("\\p{N}")}},
    {.names = "chameleon",
     .rules = {REGEX("<sentinel:[0-9]+>"), REGEX("(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z"),
               REGEX("([\\t\\n]|    |  )"), REGEX("\\p{N}"), REGEX("[\\p{P}!-/:-@\\[-`{-~]"), REGEX(GPT2)},
     .adds_bos = true},
    {.names = "seed-coder",
     .rules = {REGEX(CONTRACTIONS
                     "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" SPACES)}},
    {.names = "bailingmoe bailingmoe2 llada-moe",
     .rules = {REGEX(
         "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|"
         "\\s*[\\r\\n]|\\s+(?!\\S)|\\s+")}},
    {.names = "exaone-moe", // the published (?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+ matches the same
     .rules = {REGEX(CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}\\p{M}*+(?: ?+\\p{L}\\p{M}*+)*+|\\p{N}|"
                                  " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+")}},
    {.names = "youtu", .rules = {REGEX(YOUTU_SCRIPTS), REGEX(O200K("\\p{N}"))}, .ignore_merges = true},
    {.names = "jais-2",
     .rules = {REGEX(
         CONTRACTIONS
         "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"
         "\\s{512}(?!\\S)|\\s{256}(?!\\S)|\\s{128}(?!\\S)|\\s{64}(?!\\S)|\\s{32}(?!\\S)|"
         "\\s{16}(?!\\S)|\\s{8}(?!\\S)|\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s{1}")}},
    // Groups of three digits: published as \p{N}+ and then (?=(\d{3})+(?!\d)), or as \d{1,3}(?=(?:\d{3})*\b).
    {.names = "superbpe", .rules = {THREES("\\p{N}+")}},
    {.names = "tiny_aya", .rules = {THREES("(?<!\\d)\\d++(?!\\w)"), REGEX(O200K("\\p{N}{1,3}"))}},
    {.names = "afmoe", .rules = {THREES("\\p{N}+"), REGEX(AFMOE_SCRIPTS), REGEX(DEEPSEEK_V3)}},
    {.names = "gemma4 granite-embed-multi-311m", .rules = {REGEX("[^\\n]+|[\\n]+")}, .raw = true},
    // What GGUF files from before there were names mean, and files that have none.
    {.names = "default",
     .rules = {RUNS("[\\p{P}$+<=>^|~]"), REGEX(GPT2), REGEX("\\p{N}+"), REGEX("[0-9][0-9][0-9]")}},
};

const struct pretokenizer_info *pretokenizer_find(const char *name, size_t length)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        for (const char *s = table[i].names; *s;) {
            size_t n = strcspn(s, " ");
            if (n == length && !memcmp(s, name, n)) return &table[i];
            s += n + (s[n] == ' ');
        }
    return NULL;
}

static bool rule_is_set(const struct split_rule *rule)
{
    return rule->pattern || rule->kind != SPLIT_REGEX;
}

size_t pretokenizer_rule_count(const struct pretokenizer_info *info)
{
    size_t n = 0;
    while (n < sizeof info->rules / sizeof *info->rules && rule_is_set(&info->rules[n])) n++;
    return n;
}

static bool same_rule(const struct split_rule *a, const struct split_rule *b)
{
    if (a->kind != b->kind || a->behavior != b->behavior || a->invert != b->invert) return false;
    if (!a->pattern) return true;
    size_t n = a->length ? a->length : strlen(a->pattern), m = b->length ? b->length : strlen(b->pattern);
    return n == m && !memcmp(a->pattern, b->pattern, n);
}

const char *pretokenizer_name(const struct split_rule *rules, size_t count, bool ignore_merges, bool nfc,
                              size_t *length)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const struct pretokenizer_info *info = &table[i];
        if (info->raw || info->ignore_merges != ignore_merges || info->nfc != nfc) continue;
        size_t n = 0;
        if (pretokenizer_rule_count(info) != count) continue;
        while (n < count && same_rule(&rules[n], &info->rules[n])) n++;
        if (n < count) continue;
        *length = strcspn(info->names, " ");
        return info->names;
    }
    return NULL;
}

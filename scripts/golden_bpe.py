#!/usr/bin/env python3
"""Writes what tests/test_bpe.c and tests/test_tokenizer_json.c compare with, by Hugging Face's tokenizers and SentencePiece.

    python3 scripts/golden_bpe.py [OUT_DIR]                  needs tokenizers, sentencepiece

bpe.json         a byte-level BPE vocabulary trained on a few texts
bpe.txt          "HEX  IDS PRE PRE ...": a text, and its ids under the pre-tokenizers of those names
tokenizer-*.json small tokenizers of other kinds; tokenizer-sp.model by SentencePiece
tokenizers.txt   "FILE HEX IDS"
"""
import io
import json
import os
import sys
import tempfile

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, trainers
from tokenizers import normalizers as N
from tokenizers import pre_tokenizers as P

GPT2 = [P.ByteLevel(add_prefix_space=False, use_regex=True)]
BYTES = [P.ByteLevel(add_prefix_space=False, use_regex=False)]


def split(pattern, behavior="isolated", invert=False):
    return P.Split(Regex(pattern), behavior, invert)


CL100K = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = CL100K.replace("{1,3}", "")
QWEN35 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEKKEN = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CASED = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
O200K = CASED + r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
KIMI = r"[\p{Han}]+|" + CASED.replace(r"\p{M}]", r"\p{M}&&[^\p{Han}]]") + r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
DEEPSEEK_V3 = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"
BAILING = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
EXAONE_MOE = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
SEED = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\r\n]+|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
KANA = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
LETTERS = "\\s?[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943]+"
MARKS = "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"
SCRIPTS = "[\u4e00-\u9fff\u3400-\u4dbf\u8c48-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f\u2f00-\u2fdf\u0e40-\u0e7f\u0e80-\u0eff\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]+"
YOUTU = "[\uac00-\ud7a3\u3131-\u318e]+|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c\u3001-\u303f\ufe30-\ufe4f]+|[\u3105-\u312f]+|[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
NAMES = {
    "gpt-2": GPT2,
    "olmo": GPT2,
    "llama-bpe": [split(CL100K), *BYTES],
    "dbrx": [split(CL100K), *BYTES],
    "qwen2": [split(QWEN2), *BYTES],
    "hunyuan": [split(QWEN2), *BYTES],
    "qwen35": [split(QWEN35), *BYTES],
    "gpt-4o": [split(O200K), *BYTES],
    "tekken": [split(TEKKEN), *BYTES],
    "kimi-k2": [split(KIMI), *BYTES],
    "deepseek-v3": [split(r"\p{N}{1,3}"), split(KANA), split(DEEPSEEK_V3), *BYTES],
    "deepseek-coder": [split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split(CJK), P.Digits(True), *BYTES],
    "deepseek-llm": [split("[\r\n]"), split(LETTERS), split(MARKS), split(r"\s+$"), split(CJK), P.Digits(True), *BYTES],
    "afmoe": [split(r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))"), split(SCRIPTS), split(DEEPSEEK_V3), *BYTES],
    "youtu": [split(YOUTU), split(O200K.replace("{1,3}", "")), *BYTES],
    "falcon": [P.Punctuation("contiguous"), *GPT2, P.Digits(False), split("[0-9][0-9][0-9]")],
    "starcoder": [P.Digits(True), *GPT2],
    "command-r": [P.Digits(True), *GPT2],
    "bloom": [split(BLOOM), *BYTES],
    "viking": [split(BLOOM), P.Digits(True), *BYTES],
    "bailingmoe": [split(BAILING), *BYTES],
    "exaone-moe": [split(EXAONE_MOE), *BYTES],
    "seed-coder": [split(SEED), *BYTES],
    "superbpe": [split(r"\p{N}+"), split(r"(?=(\d{3})+(?!\d))"), *BYTES],
    "tiny_aya": [split(r"\d{1,3}(?=(?:\d{3})*\b)"), split(O200K), *BYTES],
}
NFC = ["olmo", "qwen2", "qwen35", "command-r"]
IGNORE_MERGES = ["llama-bpe", "tekken", "youtu"]
TEXTS = [
    "Hello, world!", " Hello  World\n\n\n  next line\r\n\tEND ", "don't DON'T we'LL they've I'm he'd 's'", "'\u017fa \u212aelvin", "1 12 123 1234 12345 1234567",
    "x1234y 12.345,678 \u00bd\u00b2\u0662\u0663\u0664\u0665", "camelCase HTTPServer iPhone XMLHttpRequest ABCdef", "Gr\u00fc\u00dfe na\u00efve e\u0301te\u0301 a\u0308\u0323", "\u4f60\u597d\u4e16\u754c\u3001\u65e5\u672c\u8a9e\u30c6\u30ad\u30b9\u30c8\u3002abc\u6f22\u5b57",
    "\ud55c\uad6d\uc5b4 \ubb38\uc7a5 a \uac00b", "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u0439\u0419", "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645\u060c \u0661\u0662\u0663", "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e\u0964", "\U0001f600\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea\u2764\ufe0f ok", "a\u00a0b\u2003c\u3000d\u180ee\u200bf\u0085g",
    "for (i = 0; i < n; i++) {\n    x[i] += \"a/b\\n\";  // done\n}\n", "http://a.b/c?d=e&f=#g_h /usr//lib/\n/x", "...!!!???---***\n\n", "   ", "\n", " \n \n", "\t\t\tx\t y", "a b c  d e", "\u01c5\u02b0\u0300\u0345 \u2160\u2170",
    "\U00031350\U00031351 \U0001e4d0\U00010d40 \u2427x", "\U00040000\U000e0100\ue000", "$100 <tag> ^a`b|c~ +1=2", "\u3007\u3005\u4e00\u4e8c x\u4e00y", "(a) [b], c. d! e? \u2026f\u3002g", "the quick  brown fox jumps over the lazy dog" * 2,
]


def write_bpe(out):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = GPT2[0]
    text = [t for t in TEXTS] + [t.replace(" ", "  ") for t in TEXTS] + ["12 123 345 678 234 456 567\n\n\n\n", "!!! ??? --- //"] * 3
    alphabet = P.ByteLevel.alphabet()
    tokenizer.train_from_iterator(text, trainers.BpeTrainer(vocab_size=900, initial_alphabet=alphabet, show_progress=False, special_tokens=["<s>", "</s>"]))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(os.path.join(out, "bpe.json"), pretty=False)
    model = json.loads(tokenizer.to_str())["model"]
    lines = []
    for text in TEXTS:
        found = {}
        for name, steps in NAMES.items():
            t = Tokenizer(models.BPE(model["vocab"], [tuple(m) for m in model["merges"]], ignore_merges=name in IGNORE_MERGES))
            t.pre_tokenizer = P.Sequence(steps)
            if name in NFC:
                t.normalizer = N.NFC()
            found.setdefault(",".join(map(str, t.encode(text).ids)), []).append(name)
        lines += [f"{text.encode().hex()} {ids} {' '.join(names)}" for ids, names in found.items()]
    with open(os.path.join(out, "bpe.txt"), "w", encoding="ascii") as f:
        f.write("\n".join(lines) + "\n")


def others():
    mark = "\u2581"
    byte_names = [f"<0x{b:02X}>" for b in range(256)]
    specials = [AddedToken("<tool>", normalized=False), AddedToken("  ", normalized=False)]

    def bpe(name, normalizer, pre, **kind):
        t = Tokenizer(models.BPE(**kind))
        if normalizer:
            t.normalizer = normalizer
        if pre:
            t.pre_tokenizer = pre
        raw = "unk_token" in kind
        t.decoder = decoders.Sequence([decoders.Replace(mark, " "), decoders.ByteFallback(), decoders.Fuse()]) if raw else decoders.ByteLevel()
        trainer = trainers.BpeTrainer(vocab_size=700 if raw else 420, show_progress=False, special_tokens=["<unk>", "<s>", "</s>"] + (byte_names if raw else []),
                                      initial_alphabet=[] if raw else P.ByteLevel.alphabet(), max_token_length=12)
        t.train_from_iterator(TEXTS, trainer)
        if not raw:
            t.add_tokens(specials)
        loaded = json.loads(t.to_str())
        loaded["added_tokens"] = [a for a in loaded["added_tokens"] if not a["content"].startswith("<0x")]
        return name, Tokenizer.from_str(json.dumps(loaded))

    odd = N.Sequence([N.NFKD(), N.StripAccents(), N.Lowercase(), N.Replace(Regex(r"\d{4,}"), "#"), N.Replace("dog", "cat"), N.Strip()])
    steps = P.Sequence([split(r"[\p{L}&&[^\p{Han}]]+|\s+"), split("[aeiou]", "merged_with_next"), split(r"\w+|[^\w\s]+", "removed", True), P.Punctuation("removed"), *BYTES])
    yield bpe("custom", odd, steps)
    yield bpe("prefix", None, P.ByteLevel(add_prefix_space=True, use_regex=True))
    yield bpe("qwen", N.NFC(), P.Sequence([split(QWEN2), *BYTES]))
    raw = {"unk_token": "<unk>", "byte_fallback": True, "fuse_unk": True}
    yield bpe("raw", N.Sequence([N.Prepend(mark), N.Replace(" ", mark)]), None, **raw)
    yield bpe("meta", None, P.Metaspace(mark, "first", split=True), **raw)
    yield bpe("unknown", None, P.Whitespace(), unk_token="<unk>", fuse_unk=True)
    name, full = bpe("llama", N.Sequence([N.Prepend(mark), N.Replace(" ", mark)]), None, **raw)
    loaded = json.loads(full.to_str())  # with all merges that its tokens allow, as converters from SentencePiece write them
    vocab = loaded["model"]["vocab"]
    pairs = [(i, t[:n], t[n:]) for t, i in vocab.items() if t[0] != "<" or len(t) < 3 for n in range(1, len(t)) if t[:n] in vocab and t[n:] in vocab]
    loaded["model"]["merges"] = [[a, b] for _, a, b in sorted(pairs, key=lambda p: p[0])]
    yield name, Tokenizer.from_str(json.dumps(loaded))
    unigram = Tokenizer(models.Unigram())
    unigram.normalizer = N.Sequence([N.NFKC(), N.Replace(Regex(" {2,}"), " ")])
    unigram.pre_tokenizer = P.Metaspace(mark, "always")
    unigram.decoder = decoders.Metaspace()
    unigram.train_from_iterator(TEXTS, trainers.UnigramTrainer(vocab_size=300, special_tokens=["<s>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False))
    yield "unigram", unigram


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "..", "tests", "golden")
    write_bpe(out)
    lines = []
    for name, tokenizer in others():
        with open(os.path.join(out, f"tokenizer-{name}.json"), "w", encoding="utf-8") as f:
            f.write(tokenizer.to_str())
        for text in TEXTS + ["", "  <tool>  x", "a<tool>b   c"]:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            lines.append(f"tokenizer-{name}.json {text.encode().hex() or '-'} {','.join(map(str, ids)) or '-'}")
    with tempfile.NamedTemporaryFile("w", suffix=".tsv", delete=False) as rules:  # a few lines of a character map
        for old, new in ((" \u00a0", " "), ("\u00a0", " "), ("\u3000", " "), ("A", "a"), ("Hel", "hal"), ("H", "h"), ("\u00bd", "1\u20442"), ("\t", " "), ("\u00df", "ss"), ("\u200b", "")):
            rules.write(" ".join(f"{ord(c):X}" for c in old) + "\t" + " ".join(f"{ord(c):X}" for c in new) + "\n")
    for kind in ("bpe", "unigram"):
        model = io.BytesIO()
        sentences = iter([s for t in TEXTS for s in (t, t[len(t) // 2 :], t[: len(t) // 2]) if s.strip() and "\0" not in s])
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=sentences, model_writer=model, vocab_size=400 + 150 * (kind == "bpe"), model_type=kind, minloglevel=2,
                                                 byte_fallback=kind == "bpe", hard_vocab_limit=False, remove_extra_whitespaces=kind != "bpe",
                                                 **({"normalization_rule_name": "identity"} if kind == "bpe" else {"normalization_rule_tsv": rules.name}))
        with open(os.path.join(out, f"tokenizer-{kind}.model"), "wb") as f:
            f.write(model.getvalue())
        processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
        for text in TEXTS:
            lines.append(f"tokenizer-{kind}.model {text.encode().hex()} {','.join(map(str, processor.encode(text))) or '-'}")
    os.unlink(rules.name)
    with open(os.path.join(out, "tokenizers.txt"), "w", encoding="ascii") as f:
        f.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

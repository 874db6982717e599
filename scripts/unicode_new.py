#!/usr/bin/env python3
"""Writes text/unicode_new.h: characters that Unicode 15 to 16 added, each with an older one that stands in for it.

    python3 scripts/unicode_new.py > text/unicode_new.h        needs tokenizers (its Oniguruma knows Unicode 16)

The stand-in has the same general category, script class (Han or not) and length in UTF-8, and is the nearest such
character, so that ranges written out in a regular expression treat the two alike as far as that can be. For punctuation it
is one that the library's own Punctuation does not know either.
"""
import unicodedata

from tokenizers import Regex, pre_tokenizers

assert unicodedata.unidata_version.startswith("14."), "needs a Python whose unicodedata is that of Unicode 14"
CATEGORIES = ["Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Cf"]
SEPARATOR = "\x00"


def matching(pattern, points):
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    text = SEPARATOR + SEPARATOR.join(map(chr, points)) + SEPARATOR
    return {ord(piece) for piece, _ in split.pre_tokenize_str(text) if len(piece) == 1 and piece != SEPARATOR}


def length(point):
    return len(chr(point).encode())


def main():
    new = [p for p in range(0x110000) if not 0xD800 <= p < 0xE000 and unicodedata.category(chr(p)) == "Cn"]
    category = {p: c for c in CATEGORIES for p in matching(rf"\p{{{c}}}", new)}
    known = pre_tokenizers.Punctuation("isolated")
    han = matching(r"\p{Han}", list(category))
    old = {}
    for p in range(0x80, 0x110000):
        c = unicodedata.category(chr(p))
        if c in CATEGORIES and not (c[0] == "P" and known.pre_tokenize_str(chr(p) + "a")[0][0] == chr(p)):
            is_han = 0x20000 <= p < 0x31350 and c == "Lo"
            old.setdefault((c, length(p), is_han), []).append(p)
    rows = []
    for p, c in sorted(category.items()):
        if rows and rows[-1][1] == p - 1 and rows[-1][3] == (c, p in han):
            rows[-1][1] = p
        else:
            nearest = min(old[(c, length(p), p in han)], key=lambda q: abs(q - p))
            rows.append([p, p, nearest, (c, p in han)])
    print("// text/unicode_new.h -- characters that Unicode 15 to 16 added, and older ones that stand in for them.\n"
          "//\n// Printed by scripts/unicode_new.py, which says how a stand-in is chosen.\n"
          "#ifndef TEXT_UNICODE_NEW_H\n#define TEXT_UNICODE_NEW_H\n\n#include <stdint.h>\n\n"
          "// Sorted. U+180E is not new, but PCRE2 takes U+180E for a space, which it has not been since Unicode 6.3.\n"
          "static const struct unicode_new {\n    uint32_t first, last, stand_in;\n} unicode_new[] = {\n    // clang-format off")
    rows = sorted(rows + [[0x180E, 0x180E, 0x2060, None]])
    for i in range(0, len(rows), 4):
        print("    " + " ".join(f"{{0x{a:04X}, 0x{b:04X}, 0x{s:04X}}}," for a, b, s, _ in rows[i : i + 4]))
    print("    // clang-format on\n};\n\n#endif")


if __name__ == "__main__":
    main()

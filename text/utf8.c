// text/utf8.c -- where a stream of bytes may be cut so that no UTF-8 character is split.
//
// Well-formed sequences are those of table 3-7 of the Unicode standard: the second byte of some leads has a
// narrower range, which excludes overlong forms, surrogates and numbers above U+10FFFF.
#include "text/tokenizer.h"

// True where the `have` bytes at s are a proper beginning of a character that needs more bytes.
static bool is_begun(const unsigned char *s, size_t have)
{
    unsigned lead = s[0];
    size_t need = lead >= 0xC2 && lead <= 0xDF   ? 2
                  : lead >= 0xE0 && lead <= 0xEF ? 3
                  : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                 : 1;
    if (have >= need) return false;
    if (have >= 2) {
        unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
        unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
        if (s[1] < low || s[1] > high) return false;
    }
    return have < 3 || (s[2] & 0xC0) == 0x80;
}

size_t utf8_complete(const char *text, size_t bytes)
{
    const unsigned char *s = (const unsigned char *)text;
    for (size_t back = 1; back <= 3 && back <= bytes; back++) {
        if ((s[bytes - back] & 0xC0) == 0x80) continue; // a continuation: its lead is further back
        return is_begun(s + bytes - back, back) ? bytes - back : bytes;
    }
    return bytes;
}

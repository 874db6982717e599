// text/byte_alphabet.h -- GPT-2's alphabet, in which byte-level vocabularies write their tokens: a character a byte.
//
// Bytes that are printable in Latin-1 stand for themselves; the 68 others are U+0100 to U+0143, in order. So a space
// is U+0120 and a newline U+010A.
#ifndef TEXT_BYTE_ALPHABET_H
#define TEXT_BYTE_ALPHABET_H

#include <stddef.h>
#include <stdint.h>

static inline unsigned byte_alphabet_point(unsigned byte)
{
    if (byte <= 32) return 256 + byte;
    if (byte >= 127 && byte <= 160) return 289 + byte - 127;
    return byte == 173 ? 323 : byte;
}

// Writes the character of a byte and returns its length, 1 or 2.
static inline size_t byte_alphabet_put(unsigned byte, char *out)
{
    unsigned point = byte_alphabet_point(byte);
    if (point < 0x80) {
        out[0] = (char)point;
        return 1;
    }
    out[0] = (char)(0xC0 | point >> 6);
    out[1] = (char)(0x80 | (point & 0x3F));
    return 2;
}

// The byte that the character at s stands for, and the character's length; or -1 where s begins none of them.
static inline int byte_alphabet_get(const char *s, size_t left, size_t *length)
{
    unsigned point = (unsigned char)s[0];
    *length = 1;
    if (point >= 0x80) {
        if (left < 2 || point < 0xC2 || point > 0xC5 || ((unsigned char)s[1] & 0xC0) != 0x80) return -1;
        point = (point & 0x1F) << 6 | ((unsigned char)s[1] & 0x3F);
        *length = 2;
    }
    if (point >= 256)
        return point <= 288   ? (int)point - 256
               : point <= 322 ? (int)point - 289 + 127
               : point == 323 ? 173
                              : -1;
    return byte_alphabet_point(point) == point ? (int)point : -1;
}

#endif

// text/charsmap.h -- SentencePiece's precompiled character map: which beginnings of a text become which others.
//
//     u32 bytes of the trie    u32 units of a double array (Aoe 1989; as darts-clone packs them)    texts, each ended by 0
//
// A unit: bits 0..7 the byte that leads to it, or for a value (bit 31) the place of a text; bit 8 whether it has a value;
// bits 10..30 the offset to its children, shifted by 8 more where bit 9 is set.
#ifndef TEXT_CHARSMAP_H
#define TEXT_CHARSMAP_H

#include "core/error.h"

struct charsmap;

// Copies the table. Errors: FORMAT, MEMORY.
enum tlm_status charsmap_open(struct charsmap **out, const void *data, size_t bytes, struct tlm_error *err);
enum tlm_status charsmap_open_base64(struct charsmap **out, const char *text, size_t length,
                                     struct tlm_error *err);
void charsmap_close(struct charsmap *c); // NULL is allowed

// The longest beginning of the text that the map has: returns its bytes and sets what it becomes; 0 where there is none.
size_t charsmap_find(const struct charsmap *c, const char *text, size_t bytes, const char **mapped,
                     size_t *length);

#endif

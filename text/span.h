// text/span.h -- a part of a text.
#ifndef TEXT_SPAN_H
#define TEXT_SPAN_H

#include <stddef.h>

struct text_span {
    size_t begin, end; // bytes
};

#endif

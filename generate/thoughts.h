// generate/thoughts.h -- tells what a model thinks from what it says, while it writes.
//
//     THOUGHT_TAGS      <think> thoughts </think> answer                                       (DeepSeek-R1, Qwen3, SmolLM3)
//     THOUGHT_CHANNELS  <|channel|>analysis<|message|> thoughts <|end|><|start|>assistant<|channel|>final<|message|> answer
//                       (gpt-oss's harmony format)
#ifndef GENERATE_THOUGHTS_H
#define GENERATE_THOUGHTS_H

#include <stdbool.h>
#include <stddef.h>

enum thought_style { THOUGHT_TAGS, THOUGHT_CHANNELS };
enum thought_part { THOUGHT_ANSWER, THOUGHT_THOUGHT, THOUGHT_HEADER };

// Gets runs of text of one part; headers are not handed out. Nonzero stops the feeding.
typedef int thoughts_fn(void *user, enum thought_part part, const char *text, size_t bytes);

enum { THOUGHTS_HELD = 16 }; // bytes: no marker is longer

struct thoughts {
    enum thought_style style;
    enum thought_part part;
    char held[THOUGHTS_HELD]; // the end of the text, which may be the beginning of a marker
    size_t held_bytes;
    char header[64];
    size_t header_bytes;
    bool leading; // white space at the start of a part is left out
    thoughts_fn *out;
    void *user;
};

void thoughts_begin(struct thoughts *t, enum thought_style style, enum thought_part part, thoughts_fn *out,
                    void *user);
int thoughts_feed(struct thoughts *t, const char *text, size_t bytes);
// What was held back, once no more text comes.
int thoughts_end(struct thoughts *t);
// What a prompt ends with, that a template made: thoughts that it opened, a header, or the answer.
enum thought_part thoughts_of_prompt(enum thought_style style, const char *text, size_t bytes);
// What ends the thoughts early: text of the style's own markers.
const char *thoughts_closing(enum thought_style style);

#endif

// text/pretokenizer_json.h -- the "pre_tokenizer" of a tokenizer.json as a list of rules.
#ifndef TEXT_PRETOKENIZER_JSON_H
#define TEXT_PRETOKENIZER_JSON_H

#include <jansson.h>

#include "text/pretokenizer.h"

struct pretokenizer_rules {
    struct split_rule rules[SPLIT_RULES_MAX];
    size_t count;
    bool byte_level;              // one of the steps is ByteLevel
    bool byte_numbers;            // behind it the numbers are cut off, which has to come last here
    char *texts[SPLIT_RULES_MAX]; // the patterns
    size_t text_count;
};

// null is no rules. Errors: FORMAT, UNSUPPORTED, MEMORY; then nothing is to be freed.
enum tlm_status pretokenizer_rules_read(struct pretokenizer_rules *r, const json_t *json,
                                        struct tlm_error *err);
void pretokenizer_rules_free(struct pretokenizer_rules *r);

#endif

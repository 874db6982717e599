// models/create_keys.c -- the names of a new model's hyperparameters, for models/create.c and for the help of those who pass them on.
#include "models/create.h"

const struct create_key create_keys[] = {
    {"layers", CREATE_INTEGER, "layers. Required."},
    {"width", CREATE_INTEGER, "numbers a row of hidden states. Required."},
    {"heads", CREATE_INTEGER, "heads of queries. Required."},
    {"kv_heads", CREATE_INTEGER, "heads of keys and values. Default: heads."},
    {"head_dim", CREATE_INTEGER, "numbers a head. Default: width / heads."},
    {"feed_forward", CREATE_INTEGER,
     "width inside the feed-forward part. Default: 4 width, of gated parts 8/3 width rounded up to a "
     "multiple of 256."},
    {"context", CREATE_INTEGER, "tokens that the model is made for. Default: 1024."},
    {"vocab", CREATE_INTEGER, "rows of the embedding. Default: the tokens of the tokenizer."},
    {"norm_eps", CREATE_NUMBER, "epsilon of norms. Default: 1e-5."},
    {"rope_base", CREATE_NUMBER, "base of the rotation frequencies. Default: the architecture's."},
    {"rope_dims", CREATE_INTEGER,
     "numbers of a head that are rotated. Default: the architecture's, mostly all."},
    {"window", CREATE_INTEGER,
     "keys that a row sees in layers with a window; 0: all. Default: the architecture's."},
    {"experts", CREATE_INTEGER,
     "experts a layer; 0: a plain feed-forward part. Default: the architecture's."},
    {"experts_used", CREATE_INTEGER, "experts that a row passes through. Default: 2."},
    {"expert_feed_forward", CREATE_INTEGER, "width inside an expert. Default: feed_forward."},
    {"tied", CREATE_BOOL,
     "the output matrix is the embedding. Default: as in the architecture's published models."},
    {"bias", CREATE_BOOL,
     "the biases that the architecture leaves open. Default: as in its published models, mostly false."},
    {"init_std", CREATE_NUMBER,
     "standard deviation of new weights. Default: the architecture's, mostly 0.02."},
};

const size_t create_key_count = sizeof create_keys / sizeof *create_keys;

// models/create_keys.c -- the names of a new model's hyperparameters, for models/create.c and for the help of those who pass them on.
#include "models/create.h"

#define INTEGER(from, to) CREATE_INTEGER, .low = from, .high = to
#define NUMBER(from, to)  CREATE_NUMBER, .low = from, .high = to

// clang-format off
const struct create_key create_keys[] = {
    {"layers", INTEGER(1, 4096), .gguf = "block_count", .help = "layers. Required."},
    {"width", INTEGER(1, 1 << 20), .gguf = "embedding_length", .help = "numbers a row of hidden states. Required."},
    {"heads", INTEGER(1, 1 << 16), .gguf = "attention.head_count", .help = "heads of queries. Required."},
    {"kv_heads", INTEGER(1, 1 << 16), .gguf = "attention.head_count_kv", .help = "heads of keys and values. Default: heads."},
    {"head_dim", INTEGER(1, 4096), .gguf = "attention.key_length", .help = "numbers a head. Default: width / heads."},
    {"value_dim", INTEGER(1, 4096), .gguf = "attention.value_length", .help = "numbers a head of values. Default: head_dim."},
    {"feed_forward", INTEGER(1, 1 << 24), .gguf = "feed_forward_length",
     .help = "width inside the feed-forward part. Default: 4 width, of gated parts 8/3 width rounded up to a multiple of 256."},
    {"context", INTEGER(1, 1 << 30), .gguf = "context_length", .help = "tokens that the model is made for. Default: 1024."},
    {"vocab", INTEGER(1, 1 << 24), .help = "rows of the embedding. Default: the tokens of the tokenizer."},
    {"norm_eps", NUMBER(0, 1), .help = "epsilon of norms. Default: the architecture's, mostly 1e-5."},
    {"rope_base", NUMBER(1, 1e12), .gguf = "rope.freq_base", .help = "base of the rotation's frequencies. Default: the architecture's, mostly 10000."},
    {"rope_dims", INTEGER(2, 4096), .gguf = "rope.dimension_count", .help = "numbers of a head that are rotated. Default: the architecture's, mostly all."},
    {"window", INTEGER(0, 1 << 30), .gguf = "attention.sliding_window",
     .help = "keys that a row sees in layers with a window; 0: all. Default: the architecture's."},
    {"q_rank", INTEGER(0, 1 << 20), .gguf = "attention.q_lora_rank", .help = "of latent attention: numbers a compressed query; 0: not compressed. Default: 0."},
    {"kv_rank", INTEGER(1, 4096), .gguf = "attention.kv_lora_rank", .help = "of latent attention: numbers of a compressed key. Default: 4 width / heads."},
    {"experts", INTEGER(0, 1 << 16), .gguf = "expert_count", .help = "experts a layer; 0: a plain feed-forward part. Default: the architecture's."},
    {"experts_used", INTEGER(1, 1 << 16), .gguf = "expert_used_count", .help = "experts that a row passes through. Default: 2."},
    {"expert_feed_forward", INTEGER(1, 1 << 24), .gguf = "expert_feed_forward_length", .help = "width inside an expert. Default: feed_forward."},
    {"tied", CREATE_BOOL, .help = "the output matrix is the embedding. Default: as in the architecture's published models."},
    {"bias", CREATE_BOOL, .help = "the biases that the architecture leaves open. Default: as in its published models, mostly false."},
    {"init_std", NUMBER(0, 10), .help = "standard deviation of new weights. Default: the architecture's, mostly 0.02."},
};
// clang-format on

const size_t create_key_count = sizeof create_keys / sizeof *create_keys;

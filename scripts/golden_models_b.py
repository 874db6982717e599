#!/usr/bin/env python3
"""Writes tests/golden/models/{gpt2,gptneox,bloom,starcoder2,phi3,olmo2,cohere,cohere2}-*: see golden_common.py.

    python3 scripts/golden_models_b.py [PREFIX ...]      needs torch, transformers

What each shape is there for:

  gpt2-own          a feed-forward size of its own; longer than a tile of keys
  gpt2-four         the usual four widths, its own output
  gpt2-head         one head
  gptneox-parallel  a quarter of each head turned, its own output
  gptneox-serial    attention before feed-forward, half of a head turned, another base
  gptneox-tied      all of a head turned, tied; longer than a tile of keys
  bloom-eight       as many heads as a power of two
  bloom-six         six heads: slopes between those of eight
  bloom-long        longer than a tile of keys
  starcoder2-window a window shorter than the text, one key-value head
  starcoder2-all    no window, head size of width / heads, its own output
  starcoder2-long   longer than a tile of keys
  phi3-window       a window shorter than the text
  phi3-long         LongRoPE, short and long factors
  phi3-part         part of a head turned (Phi-4-mini), tied
  olmo2-grouped     grouped heads
  olmo2-one         one key-value head, another base, tied
  olmo2-long        as many key-value heads as heads; longer than a tile of keys
  cohere-norms      norms of queries and keys, a weight for each head
  cohere-biases     biases, no norms
  cohere-long       longer than a tile of keys
  cohere2-four      three layers with a window and rotation to one that sees all and has no positions
  cohere2-order     windows in an order of their own, biases, one key-value head, its own output
  cohere2-long      a window longer than a tile of keys, in all layers
"""
import sys

from transformers import (BloomConfig, BloomForCausalLM, Cohere2Config, Cohere2ForCausalLM, CohereConfig,
                          CohereForCausalLM, GPT2Config, GPT2LMHeadModel,
                          GPTNeoXConfig, GPTNeoXForCausalLM, Olmo2Config, Olmo2ForCausalLM, Phi3Config, Phi3ForCausalLM,
                          Starcoder2Config, Starcoder2ForCausalLM)

from golden_common import only, write


def rope(theta, **more):
    return dict(dict(rope_type="default", rope_theta=theta), **more)


IDS = dict(bos_token_id=1, eos_token_id=2, pad_token_id=0)
GPT2 = dict(IDS, vocab_size=101, n_embd=36, n_layer=2, n_head=4, n_positions=128)
NEOX = dict(IDS, vocab_size=101, hidden_size=48, intermediate_size=67, num_hidden_layers=2, num_attention_heads=3,
            max_position_embeddings=128)
BLOOM = dict(IDS, vocab_size=101, hidden_size=48, n_layer=2, n_head=8)
STAR = dict(IDS, vocab_size=101, hidden_size=36, intermediate_size=53, num_hidden_layers=2, num_attention_heads=6,
            num_key_value_heads=2, max_position_embeddings=128)
PHI = dict(IDS, vocab_size=101, hidden_size=48, intermediate_size=45, num_hidden_layers=2, num_attention_heads=4,
           num_key_value_heads=2, max_position_embeddings=128, original_max_position_embeddings=128)
OLMO = dict(IDS, vocab_size=101, hidden_size=36, intermediate_size=45, num_hidden_layers=2, num_attention_heads=6,
            num_key_value_heads=2, max_position_embeddings=128)
COHERE = dict(IDS, vocab_size=101, hidden_size=36, intermediate_size=45, num_hidden_layers=2, num_attention_heads=6,
              num_key_value_heads=2, max_position_embeddings=128, logit_scale=0.8)
LOCAL, GLOBAL = "sliding_attention", "full_attention"
LONGROPE = dict(rope_type="longrope", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=32,
                short_factor=[1.0, 1.05, 1.1, 1.15, 1.2, 1.25], long_factor=[1.0, 1.5, 2.25, 3.0, 4.5, 6.0])

MODELS = {
    "gpt2-own": (GPT2LMHeadModel, GPT2Config(**GPT2, n_inner=51), [20, 100], None),
    "gpt2-four": (GPT2LMHeadModel, GPT2Config(**dict(GPT2, n_embd=24, n_head=3), tie_word_embeddings=False), [40], None),
    "gpt2-head": (GPT2LMHeadModel, GPT2Config(**dict(GPT2, n_embd=20, n_head=1, n_layer=3)), [33], None),
    "gptneox-parallel": (GPTNeoXForCausalLM, GPTNeoXConfig(**NEOX, rope_parameters=rope(10000.0, partial_rotary_factor=0.25)),
                         [33], None),
    "gptneox-serial": (GPTNeoXForCausalLM, GPTNeoXConfig(**dict(NEOX, hidden_size=40, num_attention_heads=5),
                                                         use_parallel_residual=False,
                                                         rope_parameters=rope(500.0, partial_rotary_factor=0.5)), [40], None),
    "gptneox-tied": (GPTNeoXForCausalLM, GPTNeoXConfig(**dict(NEOX, hidden_size=32, num_attention_heads=4),
                                                       tie_word_embeddings=True,
                                                       rope_parameters=rope(10000.0, partial_rotary_factor=1.0)), [100], None),
    "bloom-eight": (BloomForCausalLM, BloomConfig(**BLOOM), [33], None),
    "bloom-six": (BloomForCausalLM, BloomConfig(**dict(BLOOM, hidden_size=30, n_head=6)), [40], None),
    "bloom-long": (BloomForCausalLM, BloomConfig(**dict(BLOOM, hidden_size=33, n_head=3, n_layer=3)), [100], None),
    "starcoder2-window": (Starcoder2ForCausalLM, Starcoder2Config(**dict(STAR, num_key_value_heads=1), sliding_window=9,
                                                                  rope_parameters=rope(10000.0)), [40], None),
    "starcoder2-all": (Starcoder2ForCausalLM, Starcoder2Config(**STAR, sliding_window=None, tie_word_embeddings=False,
                                                               rope_parameters=rope(500.0)), [33], None),
    "starcoder2-long": (Starcoder2ForCausalLM, Starcoder2Config(**dict(STAR, num_key_value_heads=6), sliding_window=70,
                                                                rope_parameters=rope(10000.0)), [100], None),
    "phi3-window": (Phi3ForCausalLM, Phi3Config(**PHI, sliding_window=9, rope_parameters=rope(10000.0)), [40], None),
    "phi3-long": (Phi3ForCausalLM, Phi3Config(**dict(PHI, original_max_position_embeddings=32), rope_parameters=LONGROPE),
                  [20, 100], lambda n: 32 if n <= 32 else 128),
    "phi3-part": (Phi3ForCausalLM, Phi3Config(**dict(PHI, hidden_size=40), tie_word_embeddings=True,
                                              rope_parameters=rope(10000.0, partial_rotary_factor=0.6)), [33], None),
    "olmo2-grouped": (Olmo2ForCausalLM, Olmo2Config(**OLMO, rope_parameters=rope(10000.0)), [33], None),
    "olmo2-one": (Olmo2ForCausalLM, Olmo2Config(**dict(OLMO, num_key_value_heads=1), tie_word_embeddings=True,
                                                rope_parameters=rope(500.0)), [40], None),
    "olmo2-long": (Olmo2ForCausalLM, Olmo2Config(**dict(OLMO, num_key_value_heads=6), rope_parameters=rope(10000.0)), [100],
                   None),
    "cohere-norms": (CohereForCausalLM, CohereConfig(**COHERE, use_qk_norm=True, rope_parameters=rope(10000.0)), [33], None),
    "cohere-biases": (CohereForCausalLM, CohereConfig(**COHERE, attention_bias=True, rope_parameters=rope(500.0)), [40], None),
    "cohere-long": (CohereForCausalLM, CohereConfig(**dict(COHERE, num_key_value_heads=1), rope_parameters=rope(10000.0)), [100],
                    None),
    "cohere2-four": (Cohere2ForCausalLM, Cohere2Config(**dict(COHERE, hidden_size=24, intermediate_size=29, num_hidden_layers=4),
                                                       sliding_window=7, rope_parameters=rope(10000.0)), [33], None),
    "cohere2-order": (Cohere2ForCausalLM, Cohere2Config(**dict(COHERE, hidden_size=30, num_attention_heads=3, num_key_value_heads=1,
                                                             num_hidden_layers=3),
                                                        attention_bias=True, sliding_window=9, tie_word_embeddings=False,
                                                        layer_types=[GLOBAL, LOCAL, GLOBAL], rope_parameters=rope(500.0)),
                      [40], None),
    "cohere2-long": (Cohere2ForCausalLM, Cohere2Config(**dict(COHERE, num_key_value_heads=6), sliding_window=67,
                                                       layer_types=[LOCAL, LOCAL], rope_parameters=rope(10000.0)), [20, 100],
                     None),
}


def weight(name, shape, rng):
    """Norms of GPT-2 and BLOOM are called ln_*; Conv1D matrices are (in, out)."""
    if name.endswith("weight") and len(shape) == 1:
        return rng.uniform(0.5, 1.5, shape)
    if "c_attn.weight" in name or "c_proj.weight" in name or "c_fc.weight" in name:
        return 1.2 / shape[0] ** 0.5 * rng.standard_normal(shape)
    return None


if __name__ == "__main__":
    for name in only(MODELS, sys.argv[1:]):
        model_class, config, lengths, context = MODELS[name]
        write(name, model_class, config, lengths, special=weight, context=context)

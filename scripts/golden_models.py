#!/usr/bin/env python3
"""Writes tests/golden/models/{llama,mistral,mixtral,qwen2,qwen3,qwen3moe,granite,ernie4_5}-*: see golden_common.py.

    python3 scripts/golden_models.py [PREFIX ...]      needs torch, transformers

What each shape is there for:

  llama-llama3      divided frequencies, biases of attention, tied; shorter and longer than the original context
  llama-linear      linear scaling, biases of the feed-forward part; F32
  mistral-window    every layer sees 7 keys; head size not width / heads
  mistral-all       no window; one key-value head
  mistral-wide      a window longer than a tile of keys
  mixtral-window    four experts, two used, and a window
  mixtral-all       seven experts, three used; tied
  mixtral-one       as many experts as are used, one key-value head
  qwen2-tied        tied, no window though one is named
  qwen2-windows     the upper layers see a window
  qwen2-yarn        YaRN; shorter and longer than the original context
  qwen3-window      all layers see a window; biases of attention
  qwen3-plain       tied, one key-value head
  qwen3-types       windows in an order of their own; YaRN
  qwen3moe-norm     weights of experts divided by their sum
  qwen3moe-plain    weights as the softmax gives them; a window; biases
  qwen3moe-mixed    layers without experts between those with them
  granite-biases    all four multipliers, biases
  granite-tied      multipliers, tied; linear scaling
  granite-plain     a scale of scores alone
  ernie4_5-biases   biases everywhere
  ernie4_5-tied     tied, one key-value head
  ernie4_5-head     head size as transformers has it by default not: width / heads
"""
import sys

from transformers import (Ernie4_5Config, Ernie4_5ForCausalLM, GraniteConfig, GraniteForCausalLM, LlamaConfig, LlamaForCausalLM,
                          MistralConfig, MistralForCausalLM, MixtralConfig, MixtralForCausalLM, Qwen2Config, Qwen2ForCausalLM,
                          Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM)

from golden_common import only, write

BASE = dict(vocab_size=97, hidden_size=32, intermediate_size=45, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=False)
THETA = dict(rope_type="default", rope_theta=10000.0)
LINEAR = dict(rope_type="linear", factor=4.0, rope_theta=500.0)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32,
              rope_theta=500.0)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32, rope_theta=100.0)
LOCAL, GLOBAL = "sliding_attention", "full_attention"

LLAMA = {
    "llama-llama3": (dict(BASE, head_dim=10, attention_bias=True, tie_word_embeddings=True, rope_parameters=LLAMA3), [20, 70]),
    "llama-linear": (dict(BASE, hidden_size=27, num_attention_heads=3, num_key_value_heads=1, head_dim=10, intermediate_size=31,
                          mlp_bias=True, rope_parameters=LINEAR), [33]),
}
MISTRAL = {
    "mistral-window": (dict(BASE, head_dim=10, sliding_window=7, rope_parameters=THETA), [5, 33]),
    "mistral-all": (dict(BASE, hidden_size=33, num_attention_heads=3, num_key_value_heads=1, sliding_window=None,
                         head_dim=14, rope_parameters=dict(THETA, rope_theta=1e6)), [40]),
    "mistral-wide": (dict(BASE, num_key_value_heads=4, head_dim=6, sliding_window=67, rope_parameters=THETA), [20, 140]),
}
MIXTRAL = {
    "mixtral-window": (dict(BASE, head_dim=10, intermediate_size=17, num_local_experts=4, num_experts_per_tok=2,
                            sliding_window=9, rope_parameters=THETA), [5, 33]),
    "mixtral-all": (dict(BASE, hidden_size=30, num_attention_heads=3, num_key_value_heads=3, intermediate_size=13, head_dim=12,
                         num_local_experts=7, num_experts_per_tok=3, tie_word_embeddings=True, rope_parameters=THETA), [40]),
    "mixtral-one": (dict(BASE, num_key_value_heads=1, head_dim=14, intermediate_size=19, num_local_experts=2,
                         num_experts_per_tok=2, rope_parameters=dict(THETA, rope_theta=1e6)), [70]),
}
QWEN2 = {
    "qwen2-tied": (dict(BASE, hidden_size=40, tie_word_embeddings=True, rope_parameters=THETA), [20, 70]),
    "qwen2-windows": (dict(BASE, num_hidden_layers=3, use_sliding_window=True, sliding_window=7, max_window_layers=1,
                           rope_parameters=THETA), [5, 33]),
    "qwen2-yarn": (dict(BASE, hidden_size=30, num_attention_heads=3, num_key_value_heads=1, max_position_embeddings=128,
                        rope_parameters=YARN), [20, 40]),
}
QWEN3 = {
    "qwen3-window": (dict(BASE, head_dim=10, attention_bias=True, use_sliding_window=True, sliding_window=7,
                          max_window_layers=0, rope_parameters=THETA), [5, 33]),
    "qwen3-plain": (dict(BASE, hidden_size=33, num_attention_heads=3, num_key_value_heads=1, head_dim=14,
                         tie_word_embeddings=True, rope_parameters=dict(THETA, rope_theta=1e6)), [20, 70]),
    "qwen3-types": (dict(BASE, num_hidden_layers=3, num_key_value_heads=4, head_dim=6, use_sliding_window=True,
                         sliding_window=11, layer_types=[GLOBAL, LOCAL, GLOBAL], max_position_embeddings=128,
                         rope_parameters=YARN), [20, 40]),
}
MOE = dict(BASE, head_dim=10, moe_intermediate_size=11, num_experts=6, num_experts_per_tok=3)
QWEN3_MOE = {
    "qwen3moe-norm": (dict(MOE, norm_topk_prob=True, rope_parameters=THETA), [20, 70]),
    "qwen3moe-plain": (dict(MOE, hidden_size=27, num_attention_heads=3, num_key_value_heads=1, norm_topk_prob=False,
                            attention_bias=True, use_sliding_window=True, sliding_window=9, rope_parameters=THETA), [5, 33]),
    "qwen3moe-mixed": (dict(MOE, num_hidden_layers=4, hidden_size=24, num_experts=5, num_experts_per_tok=2, norm_topk_prob=True,
                            decoder_sparse_step=2, mlp_only_layers=[3], tie_word_embeddings=True, rope_parameters=THETA), [40]),
}
GRANITE = {
    "granite-biases": (dict(BASE, embedding_multiplier=1.7, residual_multiplier=0.6, attention_multiplier=0.4,
                            logits_scaling=0.7, attention_bias=True, mlp_bias=True, rope_parameters=THETA), [20, 70]),
    "granite-tied": (dict(BASE, hidden_size=30, num_attention_heads=3, num_key_value_heads=1, embedding_multiplier=3.0,
                          residual_multiplier=0.3, attention_multiplier=0.2, logits_scaling=1.3, tie_word_embeddings=True,
                          rope_parameters=LINEAR), [33]),
    "granite-plain": (dict(BASE, num_key_value_heads=4, attention_multiplier=0.15, rope_parameters=THETA), [40]),
}
ERNIE = {
    "ernie4_5-biases": (dict(BASE, head_dim=10, use_bias=True, rope_parameters=THETA), [20, 70]),
    "ernie4_5-tied": (dict(BASE, hidden_size=33, num_attention_heads=3, num_key_value_heads=1, head_dim=14,
                           tie_word_embeddings=True, rope_parameters=dict(THETA, rope_theta=5e5)), [33]),
    "ernie4_5-head": (dict(BASE, num_key_value_heads=4, head_dim=8, rope_parameters=THETA), [40]),
}


def main():
    kinds = [(LLAMA, LlamaForCausalLM, LlamaConfig), (MISTRAL, MistralForCausalLM, MistralConfig),
             (MIXTRAL, MixtralForCausalLM, MixtralConfig), (QWEN2, Qwen2ForCausalLM, Qwen2Config),
             (QWEN3, Qwen3ForCausalLM, Qwen3Config), (QWEN3_MOE, Qwen3MoeForCausalLM, Qwen3MoeConfig),
             (GRANITE, GraniteForCausalLM, GraniteConfig), (ERNIE, Ernie4_5ForCausalLM, Ernie4_5Config)]
    for models, model_class, config_class in kinds:
        for name in only(models, sys.argv[1:]):
            config, lengths = models[name]
            write(name, model_class, config_class(**config), lengths, dtype="float32" if name == "llama-linear" else "float16")


if __name__ == "__main__":
    main()

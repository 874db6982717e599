#!/usr/bin/env python3
"""Writes tests/golden/models/{gemma2,gemma3,gpt-oss,deepseek}-*: see golden_common.py.

    python3 scripts/golden_models_c.py [PREFIX ...]      needs torch, transformers

What each shape is there for:

  gemma2-caps       small caps, so that tanh bends; a scale that is not the head's; alternating windows
  gemma2-plain      no caps, windows in an order of their own, one key-value head, head size not width / heads
  gemma2-windows    Gemma's own caps, windows in all layers
  gemma3-linear     five local layers to one, linear scaling of the global ones, a scale that is not the head's
  gemma3-bases      other bases and another order of layers, capped logits
  gemma3-global     no local layer
  gpt-oss-yarn      the ramp's ends not rounded; odd sizes; three of five experts
  gpt-oss-mxfp4     experts as blocks and scales; longer than a tile of keys
  gpt-oss-truncate  no yarn in one sense of the word: rounded ends; windows in another order, one key-value head
  deepseek-v3       compressed queries, sigmoid gates with a bias, groups, YaRN with mscale; longer than a tile of keys
  deepseek-v2       softmax gates, groups by their best, norms with another eps than the latent ones
  deepseek-v2-lite  queries not compressed, no groups, no scaling
"""
import json
import math
import os
import sys

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import (DeepseekV2Config, DeepseekV2ForCausalLM, DeepseekV3Config, DeepseekV3ForCausalLM, Gemma2Config,
                          Gemma2ForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig, GptOssConfig, GptOssForCausalLM)

from golden_common import OUT, only, write

# ---- Gemma: norms multiply by 1 + w, embeddings by sqrt(D) ---------------------------------------------------------

GEMMA = dict(vocab_size=101, hidden_size=36, intermediate_size=44, num_attention_heads=4, num_key_value_heads=2, head_dim=10,
             max_position_embeddings=256, sliding_window=7, query_pre_attn_scalar=13)
CAPS = dict(attn_logit_softcapping=4.0, final_logit_softcapping=5.0)
OWN_CAPS = dict(attn_logit_softcapping=50.0, final_logit_softcapping=30.0)
NO_CAPS = dict(attn_logit_softcapping=None, final_logit_softcapping=None)
LOCAL, GLOBAL = "sliding_attention", "full_attention"


def gemma_weight(name, shape, rng):
    if "norm" in name:
        return rng.uniform(-0.5, 0.5, shape)
    if "proj" in name:
        return 1.5 / math.sqrt(shape[-1]) * rng.standard_normal(shape)
    return None


def bases(local, everywhere, factor=None):
    scaling = dict(rope_type="linear", factor=factor) if factor else dict(rope_type="default")
    return {LOCAL: dict(rope_type="default", rope_theta=local), GLOBAL: dict(scaling, rope_theta=everywhere)}


GEMMA2 = {
    "gemma2-caps": (dict(GEMMA, **CAPS, num_hidden_layers=4, hidden_size=32), [33]),
    "gemma2-plain": (dict(GEMMA, **NO_CAPS, num_hidden_layers=3, layer_types=[GLOBAL, LOCAL, LOCAL], hidden_size=33,
                          num_attention_heads=3, num_key_value_heads=1, head_dim=14, sliding_window=19,
                          query_pre_attn_scalar=14), [20, 70]),
    "gemma2-windows": (dict(GEMMA, **OWN_CAPS, num_hidden_layers=2, layer_types=[LOCAL, LOCAL], num_key_value_heads=4,
                            query_pre_attn_scalar=10), [40]),
}
GEMMA3 = {
    "gemma3-linear": (dict(GEMMA, num_hidden_layers=7, hidden_size=24, intermediate_size=29, num_attention_heads=3,
                           num_key_value_heads=1, rope_parameters=bases(1e4, 1e6, 8.0)), [20, 70]),
    "gemma3-bases": (dict(GEMMA, num_hidden_layers=3, layer_types=[LOCAL, GLOBAL, GLOBAL], num_attention_heads=2,
                          num_key_value_heads=1, head_dim=14, query_pre_attn_scalar=14, final_logit_softcapping=6.0,
                          rope_parameters=bases(500.0, 3e4)), [40]),
    "gemma3-global": (dict(GEMMA, num_hidden_layers=2, layer_types=[GLOBAL, GLOBAL], hidden_size=35, num_attention_heads=5,
                           num_key_value_heads=5, head_dim=8, rope_parameters=bases(1e4, 1e6, 4.0)), [33]),
}

# ---- gpt-oss -------------------------------------------------------------------------------------------------------

YARN = dict(rope_type="yarn", factor=8.0, beta_fast=32.0, beta_slow=1.0, original_max_position_embeddings=32, rope_theta=1000.0)
OSS = dict(vocab_size=97, hidden_size=32, intermediate_size=32, num_hidden_layers=3, num_local_experts=4, head_dim=10,
           num_attention_heads=4, num_key_value_heads=2, sliding_window=9, num_experts_per_tok=2, max_position_embeddings=256)
GPT_OSS = {
    "gpt-oss-yarn": (dict(OSS, hidden_size=27, intermediate_size=17, num_experts_per_tok=3, num_local_experts=5,
                          rope_parameters=dict(YARN, truncate=False)), [40]),
    "gpt-oss-mxfp4": (dict(OSS, head_dim=8, intermediate_size=64, rope_parameters=dict(YARN, truncate=False)), [20, 70]),
    "gpt-oss-truncate": (dict(OSS, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=1, head_dim=8,
                              intermediate_size=30, layer_types=[GLOBAL, LOCAL], rope_parameters=YARN), [33]),
}
FP4 = np.array([0, .5, 1, 1.5, 2, 3, 4, 6, -0., -.5, -1, -1.5, -2, -3, -4, -6])


def mxfp4(w):
    """(..., in) to codes (..., in / 32, 32) and exponents (..., in / 32): code c of exponent e stands for FP4[c] 2^(e - 127)."""
    blocks = w.reshape(*w.shape[:-1], -1, 32)
    exponents = np.floor(np.log2(np.abs(blocks).max(-1))) - 2
    codes = np.abs(blocks[..., None] / 2.0 ** exponents[..., None, None] - FP4).argmin(-1)
    return codes.astype(np.uint8), (exponents + 127).astype(np.uint8)


def is_experts(name):
    return ".experts." in name and not name.endswith("bias")


def oss_weight(name, shape, rng):
    if name.endswith("sinks"):
        return rng.standard_normal(shape)
    if is_experts(name):  # (experts, in, out)
        return 1.5 / math.sqrt(shape[1]) * rng.standard_normal(shape)
    return None


def mxfp4_weight(name, shape, rng):
    w = oss_weight(name, shape, rng)
    if not is_experts(name):
        return w
    codes, exponents = mxfp4(w.swapaxes(1, 2))
    return (FP4[codes] * 2.0 ** (exponents[..., None] - 127.0)).reshape(shape[0], shape[2], shape[1]).swapaxes(1, 2)


def pack_mxfp4(folder):
    """Experts of a saved folder to the blocks that gpt-oss is published with: byte j of 16 holds numbers 2j and 2j + 1."""
    path = os.path.join(folder, "model.safetensors")
    packed = {}
    for name, w in load_file(path).items():
        if not is_experts(name):
            packed[name] = w
            continue
        codes, exponents = mxfp4(w.numpy().astype(np.float64).swapaxes(1, 2))
        packed[name + "_blocks"] = torch.tensor(codes[..., 0::2] | codes[..., 1::2] << 4).contiguous()
        packed[name + "_scales"] = torch.tensor(exponents).contiguous()
    save_file(packed, path, metadata={"format": "pt"})
    path = os.path.join(folder, "config.json")
    with open(path) as f:
        config = json.load(f)
    config["quantization_config"] = dict(quant_method="mxfp4", modules_to_not_convert=[
        "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"])
    with open(path, "w") as f:
        json.dump(config, f, indent=2)
        f.write("\n")


# ---- DeepSeek ------------------------------------------------------------------------------------------------------

DEEPSEEK = dict(vocab_size=97, hidden_size=30, intermediate_size=40, moe_intermediate_size=10, num_hidden_layers=3,
                num_attention_heads=3, num_key_value_heads=3, n_shared_experts=2, n_routed_experts=8, kv_lora_rank=18,
                q_lora_rank=20, qk_rope_head_dim=6, v_head_dim=12, qk_nope_head_dim=9, n_group=4, topk_group=2,
                num_experts_per_tok=3, first_k_dense_replace=1, max_position_embeddings=256)
DEEPSEEK3 = {
    "deepseek-v3": (dict(DEEPSEEK, num_hidden_layers=2, num_nextn_predict_layers=0,
                         rope_parameters=dict(YARN, mscale=1.0, mscale_all_dim=1.0)), [20, 70]),
}
DEEPSEEK2 = {
    "deepseek-v2": (dict(DEEPSEEK, qk_nope_head_dim=10, num_attention_heads=2, num_key_value_heads=2, n_shared_experts=1,
                         num_hidden_layers=2, topk_method="group_limited_greedy", routed_scaling_factor=1.7,
                         rms_norm_eps=1e-3, rope_parameters=dict(YARN, mscale=0.707, mscale_all_dim=0.707)), [40]),
    "deepseek-v2-lite": (dict(DEEPSEEK, qk_nope_head_dim=8, q_lora_rank=None, n_group=1, topk_group=1, num_experts_per_tok=2,
                              n_routed_experts=5, rope_parameters=dict(rope_type="default", rope_theta=500.0)), [33]),
}


def deepseek_weight(name, shape, rng):
    if name.endswith("correction_bias"):
        return 0.2 * rng.standard_normal(shape)
    if "norm" not in name and "embed" not in name and "lm_head" not in name:
        return 1.5 / math.sqrt(shape[-1]) * rng.standard_normal(shape)
    return None


def main():
    kinds = [(GEMMA2, Gemma2ForCausalLM, Gemma2Config, gemma_weight), (GEMMA3, Gemma3ForCausalLM, Gemma3TextConfig, gemma_weight),
             (GPT_OSS, GptOssForCausalLM, GptOssConfig, oss_weight),
             (DEEPSEEK3, DeepseekV3ForCausalLM, DeepseekV3Config, deepseek_weight),
             (DEEPSEEK2, DeepseekV2ForCausalLM, DeepseekV2Config, deepseek_weight)]
    for models, model_class, config_class, special in kinds:
        for name in only(models, sys.argv[1:]):
            config, lengths = models[name]
            packs = name.endswith("mxfp4")
            write(name, model_class, config_class(**config), lengths, special=mxfp4_weight if packs else special)
            if packs:
                pack_mxfp4(os.path.join(OUT, name))


if __name__ == "__main__":
    main()

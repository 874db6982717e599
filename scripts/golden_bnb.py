#!/usr/bin/env python3
"""Writes what bitsandbytes, GPTQ and AWQ make of matrices: the golden data of tests/test_quant.c and tests/test_hf.c, and a table.

    python3 scripts/golden_bnb.py      needs torch, transformers, bitsandbytes (its CPU backend), safetensors

  quant/bnb_tables.c                      the values of the 8-bit scales of scales: bitsandbytes' dynamic map
  tests/golden/quant/{NF4,FP4}.numbers    f32 numbers, and the blocks that bitsandbytes makes of them
  tests/golden/quant/TYPE.blocks          blocks, and the f32 numbers that bitsandbytes reads from them (INT8_ASYM: numpy)
  tests/golden/hf/NAME                    folders of a tiny Llama, with quantization_config; NAME-T.ids and NAME-T.logits
                                          as scripts/golden_hf.py writes them, from the dequantized weights

bitsandbytes' tensors are its own. GPTQ's and AWQ's packages need a GPU: their tensors are packed here, by the layouts that AutoGPTQ
(qlinear_cuda_old.py) and AutoAWQ (gemm.py) publish.
"""

import json
import os
import shutil

import bitsandbytes.functional as bnb
import numpy as np
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from golden_llama import kept_rows, logits_of, random_weights, write_npy

QUANT, HF, TABLES = "tests/golden/quant", "tests/golden/hf", "quant/bnb_tables.c"
MODEL = dict(vocab_size=37, hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=4,
             num_key_value_heads=2, head_dim=16, max_position_embeddings=64, rms_norm_eps=1e-5,
             rope_parameters=dict(rope_type="default", rope_theta=10000.0))


# ---- formats ----------------------------------------------------------------------------------------------------------------------


def write_tables():
    values = bnb.create_dynamic_map(signed=True).numpy()
    assert values.shape == (256,) and (np.diff(values) > 0).all()
    lines = [", ".join(f"{float(v)!r}f" for v in values[i:i + 6]) for i in range(0, 256, 6)]
    with open(TABLES, "w") as f:
        f.write("// quant/bnb_tables.c -- written by scripts/golden_bnb.py: the dynamic map of bitsandbytes (arXiv 2110.02861).\n"
                '#include "quant/quant.h"\n\nconst float quant_dynamic_values[256] = {\n    '
                + ",\n    ".join(lines) + "};\n")


def four_bit_blocks(x, kind):
    """Blocks of 64 as quant/quant.h draws them, and their numbers."""
    codes, state = bnb.quantize_4bit(torch.tensor(x), blocksize=64, quant_type=kind)
    numbers = bnb.dequantize_4bit(codes, state).numpy()
    assert numbers.dtype == np.float32
    blocks = np.zeros((len(x) // 64, 36), np.uint8)
    blocks[:, :4] = state.absmax.numpy().astype(np.float32).view(np.uint8).reshape(-1, 4)
    blocks[:, 4:] = codes.numpy().reshape(-1, 32)
    return blocks, numbers


def eight_bit_blocks(x, middle):
    """Rows of 128 numbers. The last column of each stands apart."""
    x = x.reshape(-1, 128).copy()
    apart = x[:, -1].astype(np.float16)
    x[:, -1] = 0
    lean = x - middle[:, None]
    lean[:, -1] = 0
    codes, absmax, _ = bnb.int8_vectorwise_quant(torch.tensor(lean).half())
    codes, absmax = codes.numpy(), absmax.numpy().reshape(-1).astype(np.float32)
    numbers = bnb.int8_vectorwise_dequant(torch.tensor(codes), torch.tensor(absmax)).numpy().astype(np.float32)
    numbers = numbers + middle[:, None].astype(np.float32)
    numbers[:, -1] = apart
    blocks = np.zeros((len(x) * 2, 84), np.uint8)
    blocks[:, 0:4] = np.repeat(absmax, 2).view(np.uint8).reshape(-1, 4)
    blocks[:, 4:8] = np.repeat(middle.astype(np.float32), 2).view(np.uint8).reshape(-1, 4)
    blocks[:, 8:12] = 255
    blocks[1::2, 8] = 63
    blocks[1::2, 12:14] = apart.view(np.uint8).reshape(-1, 2)
    blocks[:, 20:84] = codes.reshape(-1, 64).view(np.uint8)
    return blocks, numbers.reshape(-1)


def write_formats():
    rng = np.random.default_rng(2305)
    x = rng.standard_normal(64 * 40).astype(np.float32)
    x[:64] *= 1e-6
    x[64:128] *= 1e4
    x[128:192] = np.linspace(-1, 1, 64, dtype=np.float32)
    for name, kind in [("NF4", "nf4"), ("FP4", "fp4")]:
        blocks, numbers = four_bit_blocks(x, kind)
        with open(f"{QUANT}/{name}.blocks", "wb") as f:
            f.write(blocks.tobytes() + numbers.tobytes())
        with open(f"{QUANT}/{name}.numbers", "wb") as f:
            f.write(x.tobytes() + blocks.tobytes())
    rows = rng.standard_normal((12, 128)).astype(np.float32)
    for name, middle in [("INT8", np.zeros(12, np.float32)), ("INT8_ASYM", rng.standard_normal(12).astype(np.float32))]:
        blocks, numbers = eight_bit_blocks(rows, middle)
        with open(f"{QUANT}/{name}.blocks", "wb") as f:
            f.write(blocks.tobytes() + numbers.tobytes())


# ---- packing: each takes a matrix (out, in) and gives tensors, and the numbers that they stand for ----------------------------------


def pack_bnb4(name, w, kind, dtype, double, blocksize):
    codes, state = bnb.quantize_4bit(w.to(dtype), blocksize=blocksize, quant_type=kind, compress_statistics=double)
    # Blocks go over all numbers in order, whatever the rows' length, which the CPU backend forgets unless there is one row.
    state.shape = torch.Size([1, w.numel()])
    numbers = bnb.dequantize_4bit(codes, state).reshape(w.shape)
    assert numbers.dtype == dtype
    state.shape = w.shape
    tensors = {f"{name}.weight": codes}
    tensors |= {f"{name}.weight.{k}": v for k, v in state.as_dict(packed=True).items()}
    return tensors, numbers


def pack_bnb8(name, w, dtype):
    codes, scale, _ = bnb.int8_vectorwise_quant(w.half())
    numbers = bnb.int8_vectorwise_dequant(codes, scale).to(dtype)
    return {f"{name}.weight": codes, f"{name}.SCB": scale.float(), f"{name}.weight_format": torch.tensor(0, dtype=torch.uint8)}, numbers


def bits_to_words(codes, bits):
    """Codes (..., n) as one string of bits along the last axis, in int32 words."""
    flat = ((codes[..., None].astype(np.uint32) >> np.arange(bits, dtype=np.uint32)) & 1).reshape(*codes.shape[:-1], -1, 32)
    return (flat << np.arange(32, dtype=np.uint32)).sum(-1, dtype=np.uint32).view(np.int32)


def round_groups(w, bits, group, symmetric, order, rng):
    """Codes (out, in), f16 scales and zeros (groups, out), and the group of each input."""
    out, inputs = w.shape
    groups = inputs // group
    group_of = np.arange(inputs) // group
    if order:
        group_of = group_of[rng.permutation(inputs)]
    scales, zeros, codes = np.zeros((groups, out), np.float16), np.zeros((groups, out), np.int64), np.zeros((out, inputs), np.int64)
    for g in range(groups):
        part = w[:, group_of == g]
        low, high = np.minimum(part.min(1), 0), np.maximum(part.max(1), 0)
        if symmetric:
            high = np.maximum(-low, high)
            low = -high
        scales[g] = (high - low) / (2 ** bits - 1)
        zeros[g] = 2 ** (bits - 1) if symmetric else np.clip(np.rint(-low / scales[g].astype(float)), 0, 2 ** bits - 1)
        if not symmetric and bits < 8:
            zeros[g] = np.maximum(zeros[g], 1)  # the first version of GPTQ's format stores zeros less 1
    for i in range(inputs):
        g = group_of[i]
        codes[:, i] = np.clip(np.rint(w[:, i] / scales[g].astype(float)) + zeros[g], 0, 2 ** bits - 1)
    s, z = torch.tensor(scales[group_of].T.copy()), torch.tensor(zeros[group_of].T.copy())
    return codes, scales, zeros, group_of, s * (torch.tensor(codes) - z).half()


def pack_gptq(name, w, bits, group, symmetric, order, version, rng):
    codes, scales, zeros, group_of, numbers = round_groups(w.double().numpy(), bits, group, symmetric, order, rng)
    stored = zeros - (1 if version == 1 else 0)
    return {f"{name}.qweight": torch.tensor(bits_to_words(codes, bits).T.copy()),
            f"{name}.qzeros": torch.tensor(bits_to_words(stored, bits)),
            f"{name}.scales": torch.tensor(scales),
            f"{name}.g_idx": torch.tensor(group_of.astype(np.int32))}, numbers


def pack_awq(name, w, group, rng):
    codes, scales, zeros, _, numbers = round_groups(w.double().numpy(), 4, group, False, False, rng)
    order = [0, 2, 4, 6, 1, 3, 5, 7]

    def words(x):
        x = x.reshape(x.shape[0], -1, 8)[:, :, order].astype(np.uint32)
        return torch.tensor((x << (4 * np.arange(8, dtype=np.uint32))).sum(-1, dtype=np.uint32).view(np.int32))
    return {f"{name}.qweight": words(codes.T), f"{name}.qzeros": words(zeros), f"{name}.scales": torch.tensor(scales)}, numbers


# ---- folders ----------------------------------------------------------------------------------------------------------------------


def bnb_config(**more):
    return dict(quant_method="bitsandbytes", load_in_4bit=False, load_in_8bit=False, llm_int8_threshold=6.0,
                bnb_4bit_quant_storage="uint8", **more)


def gptq_config(bits, group, symmetric, order, version):
    return dict(quant_method="gptq", bits=bits, group_size=group, sym=symmetric, desc_act=order,
                checkpoint_format="gptq" if version == 1 else "gptq_v2")


def folders(rng):
    """name -> (type of the rest, quantization_config, packer)"""
    f16, bf16 = torch.float16, torch.bfloat16
    yield "bnb-nf4", bf16, bnb_config(bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True), \
        lambda n, w: pack_bnb4(n, w, "nf4", bf16, True, 64)
    yield "bnb-fp4", f16, bnb_config(bnb_4bit_quant_type="fp4", bnb_4bit_use_double_quant=False), \
        lambda n, w: pack_bnb4(n, w, "fp4", f16, False, 128)
    yield "bnb-int8", f16, bnb_config(), lambda n, w: pack_bnb8(n, w, f16)
    for name, *how in [("gptq-sym", 4, 32, True, False, 1), ("gptq-order", 4, 16, False, True, 1),
                       ("gptq-8", 8, 32, True, False, 2), ("gptq-3", 3, 32, False, False, 1), ("gptq-2", 2, 16, False, False, 2)]:
        yield name, f16, gptq_config(*how), lambda n, w, how=how: pack_gptq(n, w, *how, rng)
    yield "awq", f16, dict(quant_method="awq", bits=4, group_size=32, version="gemm", zero_point=True), \
        lambda n, w: pack_awq(n, w, 32, rng)


def write_folder(name, seed, dtype, config_of, pack):
    config = LlamaConfig(attn_implementation="eager", **MODEL)
    model = LlamaForCausalLM(config)
    weights = random_weights(model, seed)
    tensors = {}
    for n, w in list(weights.items()):
        w = torch.tensor(w).to(dtype)
        if n.endswith("_proj.weight"):
            parts, w = pack(n.removesuffix(".weight"), w.float())
            tensors |= parts
        else:
            tensors[n] = w
        weights[n] = w.float().numpy()
    folder = f"{HF}/{name}"
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    text = json.loads(config.to_json_string(use_diff=True))
    text |= dict(architectures=["LlamaForCausalLM"], dtype=str(dtype).removeprefix("torch."), quantization_config=config_of)
    with open(f"{folder}/config.json", "w") as f:
        json.dump(text, f, indent=1, sort_keys=True)
    save_file({k: v.contiguous() for k, v in tensors.items()}, f"{folder}/model.safetensors", {"format": "pt"})
    length = 33
    ids = [int(x) for x in np.random.default_rng(seed + length).integers(3, config.vocab_size, length)]
    rows = kept_rows(length)
    with open(f"{HF}/{name}-{length}.ids", "w") as f:
        print(*ids, file=f), print(*rows, file=f), print(config.max_position_embeddings, file=f)
    write_npy(f"{HF}/{name}-{length}.logits", logits_of(config, weights, ids)[rows])


def main():
    write_tables()
    write_formats()
    for seed, (name, *how) in enumerate(folders(np.random.default_rng(2210))):
        write_folder(name, 90 + seed, *how)


if __name__ == "__main__":
    main()

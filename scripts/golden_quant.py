#!/usr/bin/env python3
"""Writes tests/golden/quant/: what the gguf package and llama.cpp make of fixed blocks and numbers.

    python3 scripts/golden_quant.py [shared/models/char-5m.gguf]         # needs gguf, llama_cpp (for its ggml library)

Nobody needs Python to build or to test.

    TYPE.blocks      blocks, then their numbers as f32: the block size tells how many of each
    TYPE.numbers     numbers as f32, then the blocks they are rounded to, for types the package can write
    expected.txt     lines of four words:
      dequantize TYPE BLOCKS HASH   FNV-1a of the numbers of so many blocks of random bytes (every NaN as 0x7fc00000); in
                                    each, the f16 scales are replaced by one of SCALES, by the block's index modulo 8
      quantize TYPE KIND HASH       FNV-1a of the blocks of COUNT random numbers of that kind
      error TYPE KIND RMSE          the root mean square error of llama.cpp's rounding of those
      error TYPE TENSOR RMSE        the same for a tensor of the model

Random bytes and numbers come from the counter in core/rng.h; numpy and C make the same of it to the bit.
"""

import ctypes
import glob
import os
import sys

import gguf
import llama_cpp
import numpy as np
from gguf import quants
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as Type

OUT = os.path.join(os.path.dirname(__file__), "..", "tests", "golden", "quant")
SEED, BLOCKS, COUNT = 7, 256, 64 * 256
SCALES = np.array([0x0000, 0x8001, 0x7BFF, 0x7C00, 0xFC00, 0x7E01, 0x2E66, 0xB800], np.uint16)
TENSORS = ["blk.0.attn_q.weight", "blk.5.ffn_down.weight"]

# Where the f16 scales (and minima) of a block stand. IQ1_M scatters its scale, MXFP4 and NVFP4 have others.
SCALE_AT = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ1_S": [0], "IQ1_M": [], "IQ2_XXS": [0], "IQ2_XS": [0],
    "IQ2_S": [0], "IQ3_XXS": [0], "IQ3_S": [0], "IQ4_NL": [0], "IQ4_XS": [0], "TQ1_0": [52], "TQ2_0": [64],
    "MXFP4": [], "NVFP4": [], "Q1_0": [0],
}
WRITES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0", "MXFP4"]
SEARCHES = ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"]

np.seterr(all="ignore")
ggml = ctypes.CDLL(glob.glob(os.path.join(os.path.dirname(llama_cpp.__file__), "lib", "libggml-base.so"))[0])
ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]


def philox(stream, count):
    """Draws 0 ... count-1 of a stream as (count, 4) uint32: rng_philox(SEED, stream, i)."""
    mask, index = np.uint64(0xFFFFFFFF), np.arange(count, dtype=np.uint64)
    c = [index & mask, index >> np.uint64(32), np.full(count, stream, np.uint64), np.zeros(count, np.uint64)]
    k0, k1 = SEED, 0
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k0), p1 & mask, (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k1), p0 & mask]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, 1).astype(np.uint32)


def numbers(kind, count):
    """Random numbers of a kind, from draws 4i ... 4i+3 of stream 1000 for number i."""
    r = philox(1000, 4 * count).reshape(count, 16).astype(np.float64)
    bell = r[:, :12].sum(1) * 2.0**-32 - 6
    u = (r[:, 12] + 0.5) * 2.0**-32
    x = {"bell": bell, "tails": bell / np.sqrt(np.sqrt(u)), "shifted": bell + 1.5, "cubes": u * u * u}[kind]
    return x.astype(np.float32)


def fnv(data):
    h = 0xCBF29CE484222325
    for byte in bytes(data):
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{h:016x}"


def dequantize(name, blocks):
    if name != "Q1_0":
        return quants.dequantize(blocks, Type[name]).ravel()
    y = np.empty(blocks.shape[0] * 128, np.float32)  # not in the package
    ggml.dequantize_row_q1_0(ctypes.c_void_p(blocks.ctypes.data), ctypes.c_void_p(y.ctypes.data), ctypes.c_int64(y.size))
    return y


def llama_error(name, x, row):
    size, width = GGML_QUANT_SIZES[Type[name]]
    y = np.zeros(x.size // size * width, np.uint8)
    ggml.ggml_quantize_chunk(int(Type[name]), x.ctypes.data, y.ctypes.data, 0, x.size // row, row, None)
    return np.sqrt(np.mean((quants.dequantize(y, Type[name]).astype(np.float64) - x) ** 2))


def sizes(name):
    return (128, 18) if name == "Q1_0" else GGML_QUANT_SIZES[Type[name]]


def type_id(name):
    return 41 if name == "Q1_0" else int(Type[name])


os.makedirs(OUT, exist_ok=True)
kinds, lines = ["bell", "tails", "shifted", "cubes"], []
for name, at in SCALE_AT.items():
    size, width = sizes(name)
    calls = -(-width // 16)
    blocks = philox(type_id(name), BLOCKS * calls).view(np.uint8).reshape(BLOCKS, calls * 16)[:, :width].copy()
    for offset in at:
        blocks[:, offset : offset + 2] = SCALES[np.arange(BLOCKS) % 8].view(np.uint8).reshape(BLOCKS, 2)
    y = dequantize(name, blocks).view(np.uint32).copy()
    y[np.isnan(y.view(np.float32))] = 0x7FC00000
    lines.append(f"dequantize {name} {BLOCKS} {fnv(y.tobytes())}")
    few = np.ascontiguousarray(blocks[6:8] if size == 256 else blocks[4:12])
    with open(os.path.join(OUT, name + ".blocks"), "wb") as f:
        f.write(few.tobytes() + dequantize(name, few).tobytes())
for name in WRITES:
    size, _ = sizes(name)
    for kind in kinds:
        lines.append(f"quantize {name} {kind} {fnv(quants.quantize(numbers(kind, COUNT), Type[name]).tobytes())}")
    x = numbers("tails", size if size == 256 else 4 * size)
    x[:size] = np.where(np.arange(size) % 3 == 0, x[:size], 0)
    with open(os.path.join(OUT, name + ".numbers"), "wb") as f:
        f.write(x.tobytes() + quants.quantize(x, Type[name]).tobytes())
for name in SEARCHES:
    for kind in kinds:
        lines.append(f"error {name} {kind} {llama_error(name, numbers(kind, COUNT), 256):.9g}")
if len(sys.argv) > 1:
    for tensor in gguf.GGUFReader(sys.argv[1]).tensors:
        if tensor.name in TENSORS:
            x = np.array(tensor.data, np.float32)
            lines += [f"error {n} {tensor.name} {llama_error(n, x.ravel(), x.shape[-1]):.9g}" for n in SEARCHES]
with open(os.path.join(OUT, "expected.txt"), "w") as f:
    f.write("\n".join(lines) + "\n")

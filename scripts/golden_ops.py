#!/usr/bin/env python3
"""Writes tests/golden/ops.h: what PyTorch computes in double precision for the row-wise ops and attention.

    python3 scripts/golden_ops.py > tests/golden/ops.h          # needs torch

Nobody needs Python to build or to test. Inputs are random, rounded to 3 decimals so that float and double agree on them.
"""

import torch
import torch.nn.functional as F

torch.manual_seed(5)
torch.set_default_dtype(torch.float64)


def draw(*shape, spread=1.5):
    return (torch.randn(*shape) * spread * 1000).round() / 1000


def emit(name, x, comment):
    print(f"// {comment}")
    numbers = [repr(v) for v in x.flatten().tolist()]
    print(f"static const double {name}[{len(numbers)}] = {{")
    for i in range(0, len(numbers), 5):
        print("    " + ", ".join(numbers[i : i + 5]) + ",")
    print("};")


def rotate(x, cos, sin, halves):
    """x: (T, H, d), cos and sin: (T, pairs). The pairs of `halves` are (i, i + pairs), else (2 i, 2 i + 1)."""
    pairs = cos.shape[1]
    y = x.clone()
    first, second = (slice(0, pairs), slice(pairs, 2 * pairs)) if halves else (slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2))
    z = torch.complex(x[..., first], x[..., second]) * torch.complex(cos, sin)[:, None, :]
    y[..., first], y[..., second] = z.real, z.imag
    return y


print("// tests/golden/ops.h -- made by scripts/golden_ops.py; do not edit.")
print("#ifndef TESTS_GOLDEN_OPS_H")
print("#define TESTS_GOLDEN_OPS_H")
print()

x, w = draw(3, 7), draw(7)
emit("golden_rms_x", x, "RMSNorm: (3, 7), eps 1e-5")
emit("golden_rms_w", w, "(7)")
emit("golden_rms_y", F.rms_norm(x, (7,), w, 1e-5), "(3, 7)")

gate, up = draw(9, spread=4), draw(9)
emit("golden_swiglu_gate", gate, "SwiGLU: (9)")
emit("golden_swiglu_up", up, "(9)")
emit("golden_swiglu_y", F.silu(gate) * up, "(9)")

x = draw(2, 2, 9)
pos, freq = torch.tensor([3.0, 70001.0]), 10000.0 ** (-torch.arange(3) / 3)
angle = pos[:, None] * freq
cos, sin = 1.25 * angle.cos(), 1.25 * angle.sin()
emit("golden_rope_x", x, "RoPE: 2 rows at positions 3 and 70001, 2 heads of 9, 3 pairs, base 10000, magnitude 1.25")
emit("golden_rope_adjacent", rotate(x, cos, sin, False), "(2, 2, 9)")
emit("golden_rope_halves", rotate(x, cos, sin, True), "(2, 2, 9)")

T, H, G, d, d_v, window = 70, 4, 2, 5, 3, 33
q, k, v = draw(T, H, d), draw(T, G, d), draw(T, G, d_v)
seen = torch.ones(T, T, dtype=torch.bool).tril()
for name, mask in (("golden_attention_y", seen), ("golden_attention_window_y", seen.triu(1 - window))):
    y = F.scaled_dot_product_attention(q.transpose(0, 1), k.transpose(0, 1).repeat_interleave(H // G, 0),
                                       v.transpose(0, 1).repeat_interleave(H // G, 0), attn_mask=mask, scale=0.375)
    if name == "golden_attention_y":
        emit("golden_attention_q", q, f"Attention: ({T}, {H}, {d}), scale 0.375")
        emit("golden_attention_k", k, f"({T}, {G}, {d})")
        emit("golden_attention_v", v, f"({T}, {G}, {d_v})")
    # Every ninth row is enough.
    emit(name, y.transpose(0, 1)[::9], f"rows 0, 9, 18 ... of ({T}, {H}, {d_v})" + (f", window {window}" if mask is not seen else ""))

print("#endif")

#!/usr/bin/env python3
"""What PyTorch takes for the shapes of tests/gpu/bench_rows.c and bench_attention.c, op by op: records of JSON to standard output.

Unfused: each op is what its own kernels make of it, in f32 as ours, but for products and attention, which are bf16. Needs torch with CUDA.
"""

import json
import statistics

import torch

ROWS, COLS, HEAD = 8192, 4096, 128


def seconds(work):
    for _ in range(3):
        work()
    samples = []
    for _ in range(9):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(5):
            work()
        end.record()
        torch.cuda.synchronize()
        samples.append(begin.elapsed_time(end) / 5e3)
    return statistics.median(samples)


def record(name, work):
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    time = seconds(work)
    print(json.dumps({"kind": "torch", "name": name, "seconds": time,
                      "memory": torch.cuda.max_memory_allocated() - held}), flush=True)


def rotate(x, cos, sin):
    low, high = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-high, low), dim=-1) * sin


def rows():
    x, z = (torch.rand(ROWS, COLS, device="cuda") * 2 - 1 for _ in range(2))
    w = torch.rand(COLS, device="cuda")
    silu, gelu = torch.nn.functional.silu, torch.nn.functional.gelu
    record("add", lambda: x + z)
    record("bias", lambda: x + w)
    record("scale", lambda: x * 0.125)
    record("softcap", lambda: 0.5 * torch.tanh(x / 0.5))
    record("gelu", lambda: gelu(x))
    record("swiglu", lambda: silu(x) * z)
    record("rmsnorm", lambda: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * w)
    record("layernorm", lambda: torch.nn.functional.layer_norm(x, (COLS,), w, z[0]))
    heads, table = x.view(ROWS, COLS // HEAD, HEAD), torch.rand(ROWS, 1, HEAD, device="cuda")
    record("rope", lambda: rotate(heads, table, table))
    record("to bf16", lambda: x.to(torch.bfloat16))
    del x, z, heads, table
    logits = torch.rand(512, 128256, device="cuda")
    record("argmax", lambda: logits.argmax(-1))


def products():
    for n, k, count in ((14336, 4096, 1), (14336, 4096, 8), (14336, 4096, 512), (14336, 4096, 4096)):
        # So many matrices in turn that none is in a cache
        weights = [torch.rand(n, k, device="cuda", dtype=torch.bfloat16) for _ in range(4)]
        x = torch.rand(count, k, device="cuda", dtype=torch.bfloat16)
        turn = [0]

        def multiply():
            turn[0] = (turn[0] + 1) % 4
            return x @ weights[turn[0]].T

        record(f"BF16 {n} x {k}, {count} row{'s' if count > 1 else ''}", multiply)


def attention():
    attend = torch.nn.functional.scaled_dot_product_attention
    for heads, kv_heads, count in ((32, 8, 2048), (32, 32, 16384)):
        q = torch.rand(1, heads, count, HEAD, device="cuda", dtype=torch.bfloat16)
        k, v = (torch.rand(1, heads, count, HEAD, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        record(f"prompt, d{HEAD}, causal, {count} tokens", lambda: attend(q, k, v, is_causal=True))


if __name__ == "__main__":
    rows()
    products()
    attention()

#!/usr/bin/env python3
"""Writes tests/golden/llama-kld.txt: how far llama-plain.gguf, rounded to BF16, is from itself over llama-ppl.text, by numpy.

    python3 scripts/golden_kld.py ./tinylm

The logits are those of `tinylm eval logits --isa f64`, which other tests hold against PyTorch; all else is computed here, in double
precision: windows of 32 tokens, the second half of which counts. Nobody needs Python to build or to test.
"""

import json
import os
import subprocess
import sys
import tempfile

import numpy as np

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "golden")
CONTEXT = 32


def log_probabilities(tinylm, model, window, folder):
    out = os.path.join(folder, "logits.npy")
    subprocess.run([tinylm, "eval", "logits", "-m", model, "--isa", "f64", "--ids", " ".join(map(str, window)), "-o", out], check=True)
    logits = np.load(out).astype(np.float64)[CONTEXT // 2:CONTEXT - 1]
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def mean(x):
    return float(np.mean(x)), float(np.std(x, ddof=1) / np.sqrt(len(x)))


def main():
    tinylm = sys.argv[1]
    base = os.path.join(GOLDEN, "llama-plain.gguf")
    ids = [int(i) for i in open(os.path.join(GOLDEN, "llama-ppl.ids")).read().split()]
    kl, nll_base, nll, same = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        model = os.path.join(folder, "model.gguf")
        subprocess.run([tinylm, "quantize", base, model, "BF16"], check=True, stderr=subprocess.DEVNULL)
        for at in range(0, len(ids) - CONTEXT + 1, CONTEXT):
            window = ids[at:at + CONTEXT]
            p, q = (log_probabilities(tinylm, m, window, folder) for m in (base, model))
            targets = np.array(window[CONTEXT // 2 + 1:])
            kl += list((np.exp(p) * (p - q)).sum(axis=1))
            nll_base += list(-p[np.arange(len(targets)), targets])
            nll += list(-q[np.arange(len(targets)), targets])
            same += list(p.argmax(axis=1) == q.argmax(axis=1))
    kl, nll_base, nll = np.array(kl), np.array(nll_base), np.array(nll)
    change = np.exp(-nll) - np.exp(-nll_base)
    values = {"tokens": len(kl), "kld_median": np.median(kl), "kld_max": kl.max()}
    for share, name in ((90, "90"), (95, "95"), (99, "99"), (99.9, "99_9")):
        values["kld_" + name] = np.percentile(kl, share)
    for name, (value, error) in {"kld": mean(kl), "same_top": mean(np.array(same, float)), "log_ratio": mean(nll - nll_base),
                                 "change": mean(change)}.items():
        values[name], values[name + "_error"] = value, error
    for name, x in {"perplexity": nll, "perplexity_base": nll_base, "ratio": nll - nll_base}.items():
        value, error = mean(x)
        values[name], values[name + "_error"] = np.exp(value), np.exp(value) * error
    square, error = mean(change ** 2)
    values["change_rms"], values["change_rms_error"] = np.sqrt(square), error / (2 * np.sqrt(square))
    with open(os.path.join(GOLDEN, "llama-kld.txt"), "w") as f:
        f.write("# llama-plain.gguf rounded to BF16 beside itself over llama-ppl.text, windows of 32; see scripts/golden_kld.py\n")
        for name in sorted(values):
            f.write(f"{name} {json.dumps(float(values[name]))}\n")


main()

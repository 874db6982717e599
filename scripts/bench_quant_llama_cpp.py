#!/usr/bin/env python3
"""Files of every mix beside llama.cpp: do they open there, with the same perplexity?

    python3 scripts/bench_quant_llama_cpp.py TINYLM MODEL.gguf TEXT [MIX ...]      needs llama_cpp

Each mix is written by `tinylm quantize` and read by both over the same windows of 512 tokens, the second half of which counts; both with
keys and values in f32. Prints a table; exit 1 where the two are further apart than 0.5%.
"""

import ctypes
import json
import math
import os
import subprocess
import sys
import tempfile

import llama_cpp
import numpy as np

CONTEXT, WINDOWS = 512, 10
MIXES = ["F16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_1", "Q4_0", "IQ4_NL", "IQ4_XS", "Q3_K_L",
         "Q3_K_M", "Q3_K_S", "Q2_K", "TQ2_0"]


def by_tinylm(tinylm, model, text):
    out = subprocess.run([tinylm, "eval", "ppl", "-m", model, "-f", text, "-c", str(CONTEXT), "-t", "1", "--chunks", str(WINDOWS), "-ctk", "f32",
                          "-ctv", "f32", "-o", "json"], check=True, capture_output=True, text=True).stdout
    return json.loads(out)


def by_llama_cpp(model, windows):
    llm = llama_cpp.Llama(model, n_ctx=CONTEXT, n_batch=CONTEXT, n_threads=1, logits_all=True, type_k=0, type_v=0,
                          flash_attn=False, verbose=False)
    nll, count = 0.0, 0
    for window in windows:
        llm.reset()
        llm.eval(window)
        logits = llm.scores[CONTEXT // 2:CONTEXT - 1].astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        targets = window[CONTEXT // 2 + 1:]
        nll -= logits[np.arange(len(targets)), targets].sum()
        count += len(targets)
    return math.exp(nll / count), count


def main():
    tinylm, model, text = sys.argv[1:4]
    # llama.cpp's remarks about the file go nowhere.
    quiet = llama_cpp.llama_log_callback(lambda level, words, user: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    with open(text, "rb") as f:
        ids = subprocess.run([tinylm, "tokenize", "-m", model], input=f.read(), check=True, capture_output=True).stdout.split()
    ids = [int(i) for i in ids]
    windows = [ids[i * CONTEXT:(i + 1) * CONTEXT] for i in range(min(WINDOWS, len(ids) // CONTEXT))]
    print("| mix | tinylm | llama.cpp | apart |\n|---|---:|---:|---:|")
    worst = 0
    with tempfile.TemporaryDirectory() as folder:
        for mix in sys.argv[4:] or MIXES:
            path = os.path.join(folder, "model.gguf")
            subprocess.run([tinylm, "quantize", model, path, mix], check=True, capture_output=True)
            ours = by_tinylm(tinylm, path, text)
            theirs, count = by_llama_cpp(path, windows)
            assert count == ours["tokens"], "not the same tokens"
            apart = theirs / ours["perplexity"] - 1
            worst = max(worst, abs(apart))
            print(f"| {mix} | {ours['perplexity']:.4f} | {theirs:.4f} | {100 * apart:+.3f}% |", flush=True)
    sys.exit(worst > 0.005)


main()

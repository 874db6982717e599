#!/usr/bin/env python3
"""Writes tests/golden/train.txt: how PyTorch trains the tiny models of tests/golden/models for ten steps of AdamW.

    python3 scripts/golden_train.py [PREFIX ...]      needs torch, transformers

A line a model: the name of its ids (NAME-T), then eleven losses: before each step and behind the last. Everything is computed in double
precision. A model's documents are its ids cut behind the first third (those of LongRoPE, whose frequencies follow the length, are one
document); the loss is the mean cross entropy of the next token over both. AdamW: rate 0.003, betas 0.9 and 0.95, decay 0.1 of
matrices (not of norms and biases), no clipping.
"""
import glob
import os
import sys

import torch
from transformers import AutoModelForCausalLM

from golden_common import OUT, double_precision

STEPS, RATE, BETAS, DECAY = 10, 3e-3, (0.9, 0.95), 0.1
SKIPPED = ("gpt-oss-mxfp4",)  # its weights are blocks: nothing that PyTorch would train


def decays(name, parameter):
    return parameter.dim() >= 2 and not name.endswith("bias") and "norm" not in name


def losses(folder, ids, cut):
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                                  experts_implementation="eager")
    with double_precision():
        model = type(loaded)(loaded.config).eval()
        model.to(torch.float64)
        model.load_state_dict(loaded.state_dict())
        groups = [{"params": [p for n, p in model.named_parameters() if decays(n, p) == d], "weight_decay": DECAY * d}
                  for d in (True, False)]
        optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, eps=1e-8)
        out = []
        for step in range(STEPS + 1):
            total, count = 0, 0
            for document in (ids[:cut], ids[cut:]) if cut else (ids,):
                logits = model(input_ids=torch.tensor([document]), use_cache=False).logits[0]
                total = total + torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(document[1:]), reduction="sum")
                count += len(document) - 1
            loss = total / count
            out.append(loss.item())
            if step < STEPS:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return out


def main():
    seen = set()
    path = os.path.join(OUT, "..", "train.txt")
    kept = {line.split()[0]: line for line in open(path)} if sys.argv[1:] and os.path.exists(path) else {}
    for file in sorted(glob.glob(os.path.join(OUT, "*.ids"))):
        stem = os.path.basename(file)[: -len(".ids")]
        name = stem.rsplit("-", 1)[0]
        if name in seen or name in SKIPPED or (sys.argv[1:] and not any(name.startswith(p) for p in sys.argv[1:])):
            continue
        seen.add(name)
        ids = [int(x) for x in open(file).readline().split()]
        values = losses(os.path.join(OUT, name), ids, 0 if "phi3" in name else len(ids) // 3)
        kept[stem] = stem + "".join(f" {v:.9f}" for v in values) + "\n"
        print(kept[stem], end="", flush=True)
    with open(path, "w") as f:
        f.writelines(kept[k] for k in sorted(kept))


if __name__ == "__main__":
    main()

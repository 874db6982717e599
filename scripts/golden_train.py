#!/usr/bin/env python3
"""Writes tests/golden/train.txt and train_distill.txt: how PyTorch trains the tiny models of tests/golden/models for ten steps of AdamW.

    python3 scripts/golden_train.py [PREFIX ...]      needs torch, transformers

A line a model: the name of its ids (NAME-T), then eleven losses: before each step and behind the last. Everything is computed in double
precision. A model's documents are its ids cut behind the first third (those of LongRoPE, whose frequencies follow the length, are one
document); the loss is the mean cross entropy of the next token over both. AdamW: rate 0.003, betas 0.9 and 0.95, decay 0.1 of
matrices (not of norms and biases), no clipping.

A line of train_distill.txt has the name of another model, which teaches, and a share behind the name of the ids: the loss is (1 - share) times
the cross entropy and share times KL(teacher || model).
"""
import glob
import os
import sys

import torch
from transformers import AutoModelForCausalLM

from golden_common import OUT, double_precision

STEPS, RATE, BETAS, DECAY = 10, 3e-3, (0.9, 0.95), 0.1
SKIPPED = ("gpt-oss-mxfp4",)  # its weights are blocks: nothing that PyTorch would train
# Heads that are tied, capped and scaled, with biases; a teacher with experts.
DISTILLED = (("gpt2-own-{}", "gemma2-caps", 0.5), ("qwen3-plain-{}", "mixtral-all", 1.0), ("granite-tied-{}", "llama-llama3", 0.25),
             ("phi3-part-{}", "cohere-biases", 0.75))


def decays(name, parameter):
    return parameter.dim() >= 2 and not name.endswith("bias") and "norm" not in name


def load(name):
    loaded = AutoModelForCausalLM.from_pretrained(os.path.join(OUT, name), dtype=torch.float32, attn_implementation="eager",
                                                  experts_implementation="eager")
    with double_precision():
        model = type(loaded)(loaded.config).eval()
        model.to(torch.float64)
        model.load_state_dict(loaded.state_dict())
    return model


def loss_of(model, teacher, share, document):
    logits, targets = model(input_ids=torch.tensor([document]), use_cache=False).logits[0, :-1], torch.tensor(document[1:])
    loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    if teacher is None:
        return loss
    with torch.no_grad():
        goal = torch.log_softmax(teacher(input_ids=torch.tensor([document]), use_cache=False).logits[0, :-1], -1)
    apart = torch.nn.functional.kl_div(torch.log_softmax(logits, -1), goal, reduction="sum", log_target=True)
    return (1 - share) * loss + share * apart


def losses(name, ids, cut, teacher=None, share=0.0):
    model, teacher = load(name), teacher and load(teacher)
    with double_precision():
        groups = [{"params": [p for n, p in model.named_parameters() if decays(n, p) == d], "weight_decay": DECAY * d}
                  for d in (True, False)]
        optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, eps=1e-8)
        out = []
        for step in range(STEPS + 1):
            total, count = 0, 0
            for document in (ids[:cut], ids[cut:]) if cut else (ids,):
                total = total + loss_of(model, teacher, share, document)
                count += len(document) - 1
            loss = total / count
            out.append(loss.item())
            if step < STEPS:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return out


def read_ids(file):
    return [int(x) for x in open(file).readline().split()]


def cut_of(name, ids):
    return 0 if "phi3" in name else len(ids) // 3


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
        ids = read_ids(file)
        values = losses(name, ids, cut_of(name, ids))
        kept[stem] = stem + "".join(f" {v:.9f}" for v in values) + "\n"
        print(kept[stem], end="", flush=True)
    with open(path, "w") as f:
        f.writelines(kept[k] for k in sorted(kept))
    with open(os.path.join(OUT, "..", "train_distill.txt"), "w") as f:
        for pattern, teacher, share in DISTILLED:
            file = sorted(glob.glob(os.path.join(OUT, pattern.format("*") + ".ids")))[0]
            stem = os.path.basename(file)[: -len(".ids")]
            ids = read_ids(file)
            values = losses(stem.rsplit("-", 1)[0], ids, cut_of(stem, ids), teacher, share)
            f.write(f"{stem} {teacher} {share}" + "".join(f" {v:.9f}" for v in values) + "\n")


if __name__ == "__main__":
    main()

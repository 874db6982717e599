#!/usr/bin/env python3
"""Writes tests/golden/bpe_train.txt: the merges that Hugging Face's trainer learns of two texts.

    python3 scripts/golden_bpe_train.py      needs tokenizers

A text is tests/golden/tales.txt, or tests/golden/bpe.json, which has many scripts; the blocks are "TEXT VOCAB_SIZE MIN_FREQUENCY PRE COUNT" and
a merge a line.
"""
import json
import os

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
          r"\s*[\r\n]+|\s+(?!\S)|\s+")
PRE = {"gpt-2": pre_tokenizers.ByteLevel(add_prefix_space=False),
       "llama-bpe": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(CL100K), "isolated"),
                                             pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])}

with open(os.path.join(ROOT, "tests/golden/bpe_train.txt"), "w") as out:
    for name, size, least, pre in (("tests/golden/tales.txt", 700, 2, "gpt-2"), ("tests/golden/tales.txt", 1500, 0, "llama-bpe"),
                                   ("tests/golden/bpe.json", 900, 2, "gpt-2")):
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = PRE[pre]
        trainer = trainers.BpeTrainer(vocab_size=size, min_frequency=least, special_tokens=["<|end|>"],
                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
        with open(os.path.join(ROOT, name), newline="", encoding="utf-8") as f:
            tokenizer.train_from_iterator([f.read()], trainer)
        merges = json.loads(tokenizer.to_str())["model"]["merges"]
        print(name, size, least, pre, len(merges), file=out)
        for left, right in merges:
            print(left, right, file=out)

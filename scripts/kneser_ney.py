#!/usr/bin/env python3
"""Perplexity of an n-gram model of tokens: what a language model has to beat.

    scripts/kneser_ney.py TRAIN.gguf [...] HELD_OUT.gguf [--order 5]

The files are shards of `tinylm data tokenize`, made with one vocabulary. The model is interpolated modified Kneser-Ney (Chen and
Goodman, "An empirical study of smoothing techniques for language modeling", 1998): three discounts an order, from counts of
counts; lower orders count the different tokens in front. Every token of the held-out file but the first is predicted, ends of
documents too. Needs numpy and gguf.
"""

import argparse
import sys

import numpy as np
from gguf import GGUFReader


def tokens_of(path):
    """All tokens of a shard, as int64."""
    for tensor in GGUFReader(path).tensors:
        if tensor.name == "tokens":
            return np.asarray(tensor.data).reshape(-1).view(np.uint16 if tensor.data.dtype.itemsize == 2 else np.int32).astype(np.int64)
    sys.exit(f"{path}: expected a tensor 'tokens'")


def grams(tokens, order, bits):
    """The n-grams that end at tokens[order - 1], ..., each in one number."""
    keys = np.zeros(len(tokens) - order + 1, np.int64)
    for i in range(order):
        keys = keys << bits | tokens[i:len(tokens) - order + 1 + i]
    return keys


def find(table, keys):
    """Where keys stand in the sorted table; -1 where they do not."""
    at = np.minimum(np.searchsorted(table, keys), len(table) - 1)
    return np.where(table[at] == keys, at, -1)


class Order:
    """Discounted counts of the n-grams of one order."""

    def __init__(self, keys, counts, bits):
        self.keys, self.counts = keys, counts
        ones, twos, threes, fours = (float(np.count_nonzero(counts == n)) for n in (1, 2, 3, 4))
        share = ones / (ones + 2 * twos)
        self.discounts = np.array([0, 1 - 2 * share * twos / ones, 2 - 3 * share * threes / twos, 3 - 4 * share * fours / threes])
        self.histories, first = np.unique(keys >> bits, return_index=True)
        self.totals = np.add.reduceat(counts, first)
        self.mass = np.add.reduceat(self.discounts[np.minimum(counts, 3)], first)  # what all discounts of a history leave

    def refine(self, keys, histories, below):
        """P(last token | the others), with `below` where fewer tokens are looked at."""
        at, history = find(self.keys, keys), find(self.histories, histories)
        count = np.where(at >= 0, self.counts[at], 0)
        own = np.maximum(count - self.discounts[np.minimum(count, 3)], 0)
        total = self.totals[history]
        return np.where(history >= 0, (own + self.mass[history] * below) / total, below)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", nargs="+")
    parser.add_argument("--order", type=int, default=5)
    a = parser.parse_args()
    if len(a.shards) < 2:
        parser.error("expected at least one shard to count and one to predict")
    train = np.concatenate([tokens_of(path) for path in a.shards[:-1]])
    test = tokens_of(a.shards[-1])
    vocab = int(max(train.max(), test.max())) + 1
    bits = int(vocab - 1).bit_length()
    if bits * a.order > 62:
        parser.error(f"order {a.order} of a vocabulary of {vocab} does not fit into 62 bits")
    keys, counts = np.unique(grams(train, a.order, bits), return_counts=True)
    orders = [None] * (a.order + 1)
    for n in range(a.order, 0, -1):
        orders[n] = Order(keys, counts, bits)
        # Lower orders count how many different tokens stand in front.
        keys, counts = np.unique(keys & ((1 << bits * (n - 1)) - 1), return_counts=True)
    log_sum, predicted = 0.0, 0
    for begin in range(0, len(test) - 1, 1 << 20):  # token t of [begin + 1, end) from those before it
        end = min(len(test), begin + 1 + (1 << 20))
        p = np.full(end - begin - 1, 1 / vocab)
        for n in range(1, a.order + 1):
            first = max(begin + 1, n - 1)  # tokens before it know too little of their past for this order
            part = test[first - n + 1:end]
            key = grams(part, n, bits)
            at = first - begin - 1
            p[at:] = orders[n].refine(key, key >> bits, p[at:])
        log_sum += np.log(p).sum()
        predicted += len(p)
    loss = -log_sum / predicted
    print(f"{a.order}-gram of {len(train)} tokens: loss {loss:.4f}, perplexity {np.exp(loss):.4f} on {predicted} tokens")


if __name__ == "__main__":
    main()

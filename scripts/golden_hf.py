#!/usr/bin/env python3
"""Writes tests/golden/hf: tiny Llamas as transformers saves them, and the logits that it computes for them.

    python3 scripts/golden_hf.py [--verify TINYLM]      needs torch, transformers, tokenizers

  single   one file, F32, biases, no tokenizer
  shards   three files with an index, BF16, tied, Llama 3's rotary positions; a byte-level tokenizer with fewer tokens than rows, a
           chat template, several tokens that end an answer
and NAME-T.ids, NAME-T.logits as scripts/golden_llama.py writes them. --verify converts both to GGUF and back with that program,
loads what it wrote into transformers and compares logits, tensors and token ids.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from golden_llama import kept_rows, logits_of, random_weights, write_npy

OUT = "tests/golden/hf"
MODELS = {
    "single": dict(vocab_size=61, hidden_size=20, intermediate_size=27, num_hidden_layers=2, num_attention_heads=4,
                   num_key_value_heads=2, head_dim=6, max_position_embeddings=64, attention_bias=True, mlp_bias=True,
                   bos_token_id=1, eos_token_id=2, rope_parameters=dict(rope_type="default", rope_theta=10000.0)),
    "shards": dict(vocab_size=292, hidden_size=24, intermediate_size=20, num_hidden_layers=2, num_attention_heads=3,
                   num_key_value_heads=1, head_dim=8, max_position_embeddings=128, tie_word_embeddings=True,
                   bos_token_id=0, eos_token_id=[1, 2, 3],
                   rope_parameters=dict(rope_type="llama3", rope_theta=500.0, factor=8.0, low_freq_factor=1.0,
                                        high_freq_factor=4.0, original_max_position_embeddings=32)),
}
TEMPLATE = ("{{ bos_token }}{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}")
TEXTS = ["Hello there, hello!", "  two  spaces\n\nand 12345 lines", "don't é 你好 😀", "<|end|> <|start|>x", " "]


def make_tokenizer(folder):
    """Byte-level BPE: four special tokens, the bytes, a few merges. Llama 3's steps before."""
    special = ["<|begin|>", "<|end|>", "<|stop|>", "<|pause|>", "<|start|>"]
    vocab = {t: i for i, t in enumerate(special + sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("Ġ", "t"), ("Ġt", "he"), ("1", "2"), ("Ġ", "Ġ")]
    for a, b in merges:
        vocab[a + b] = len(vocab)
    t = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=True))
    pattern = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
               r"|\s*[\r\n]+|\s+(?!\S)|\s+")
    from tokenizers import AddedToken, Regex
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.post_processor = processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[("<|begin|>", 0)])
    t.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in special])
    fast = PreTrainedTokenizerFast(tokenizer_object=t, bos_token="<|begin|>", eos_token="<|end|>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)


def make(name, seed):
    config = LlamaConfig(rms_norm_eps=1e-5, attn_implementation="eager", **MODELS[name])
    model = LlamaForCausalLM(config)
    weights = random_weights(model, seed)
    half = name == "shards"
    if half:
        weights = {n: torch.tensor(w).bfloat16().float().numpy() for n, w in weights.items()}
    model.load_state_dict({n: torch.tensor(w) for n, w in weights.items()}, strict=False)
    folder = f"{OUT}/{name}"
    shutil.rmtree(folder, ignore_errors=True)
    (model.bfloat16() if half else model).save_pretrained(folder, max_shard_size="8KB" if half else "1MB")
    if half:
        make_tokenizer(folder)
    for length in ([33] if name == "single" else [90]):
        ids = [int(x) for x in np.random.default_rng(seed + length).integers(3, config.vocab_size, length)]
        rows = kept_rows(length)
        with open(f"{OUT}/{name}-{length}.ids", "w") as f:
            print(*ids, file=f), print(*rows, file=f), print(config.max_position_embeddings, file=f)
        write_npy(f"{OUT}/{name}-{length}.logits", logits_of(config, weights, ids)[rows])


def verify(program, name):
    temp = tempfile.mkdtemp()
    folder, gguf, back = f"{OUT}/{name}", f"{temp}/model.gguf", f"{temp}/back"
    subprocess.run([program, "convert", folder, gguf], check=True)
    subprocess.run([program, "convert", gguf, back], check=True)
    ids = torch.arange(3, 50)[None]
    a, b = (AutoModelForCausalLM.from_pretrained(d) for d in (folder, back))
    assert a.dtype == b.dtype and torch.equal(a(ids).logits, b(ids).logits)
    state, other = a.state_dict(), b.state_dict()
    assert state.keys() == other.keys() and all(torch.equal(state[k], other[k]) for k in state)
    if os.path.exists(f"{folder}/tokenizer.json"):
        a, b = (AutoTokenizer.from_pretrained(d) for d in (folder, back))
        chat = [{"role": "user", "content": "hello"}]
        assert all(a(t)["input_ids"] == b(t)["input_ids"] for t in TEXTS)
        assert a.apply_chat_template(chat, tokenize=False) == b.apply_chat_template(chat, tokenize=False)
        for text in TEXTS:
            run = subprocess.run([program, "tokenize", "-m", folder, "--special", "--bos"], input=text.encode(),
                                 stdout=subprocess.PIPE, check=True)
            assert [int(i) for i in run.stdout.split()] == a(text)["input_ids"], text
    shutil.rmtree(temp)
    print(name, "is the same after there and back")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--verify", metavar="TINYLM")
    args = parser.parse_args()
    os.makedirs(OUT, exist_ok=True)
    for seed, name in enumerate(MODELS):
        if not args.verify:
            make(name, 70 + seed)
        else:
            verify(args.verify, name)


if __name__ == "__main__":
    main()

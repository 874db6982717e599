#!/usr/bin/env python3
"""Writes tests/golden/llama-*: tiny Llamas with random weights, and the logits that transformers computes for them.

    python3 scripts/golden_llama.py [--verify] [OUT_DIR]      needs torch, transformers, gguf; --verify also llama_cpp

For each model there is llama-NAME.gguf, and for each length T that it is tried at
    llama-NAME-T.ids     line 1: the T token ids; line 2: the rows that are kept; line 3: the context to open a session with
    llama-NAME-T.logits  NPY 1.0, f4, C order, (rows kept, V): the logits after those tokens
and llama-ppl.txt, llama-ppl.text: perplexities of llama-plain over a text, with their definition.

The reference is transformers' own LlamaForCausalLM, run in double precision from end to end: `double_precision()` makes
its requests for float32 (norms, softmax, rotary angles) mean float64. The same model in float32 agrees to about 1e-6.
All weights, norms from 0.5 to 1.5 and biases included, are random, so no part of the computation can hide.

What the GGUF keys mean, as llama.cpp and transformers both have it (with --verify the two are compared, see `verify`):

  pairing   GGUF rotates neighbours (x0, x1), (x2, x3) ...; transformers rotates (x0, x[d/2]) ...: the rows of the query
            and key matrices, and their biases, are permuted by `permute`, head by head.
  linear    rope.scaling.type = linear, .factor = s: every frequency is divided by s. No original context is needed.
  llama3    no key at all: the tensor rope_freqs.weight (d/2) divides the frequencies. With w the wavelength 2 pi / freq
            and c the original context: 1 where w < c / high; s where w > c / low; 1 / ((1-m)/s + m) between them,
            m = (c/w - low) / (high - low).
  yarn      rope.scaling.type = yarn, .factor = s, .original_context_length = c, .yarn_beta_fast = 32, .yarn_beta_slow = 1.
            r(beta) = d * ln(c / (2 pi beta)) / (2 ln base) is the pair that turns beta times over c tokens. The ramp
            runs from low = max(0, floor(r(beta_fast))) to high = min(d - 1, ceil(r(beta_slow))), both rounded outwards
            (transformers: truncate = True; GGUF has no key for False):
            t = clamp((i - low) / max(0.001, high - low), 0, 1);  freq[i] = (1 - t) * f[i] + t * f[i] / s.
            cos and sin are multiplied by (0.1 ln s + 1) * attn_factor: rope.scaling.attn_factor is a factor ON TOP of
            YaRN's own. So transformers' attention_factor = a is written as a / (0.1 ln s + 1), and without one the key
            is absent. llama.cpp reads the beta keys in few architectures, not in `llama`: there --verify hands them over.
  longrope  rope.scaling.type = longrope, .original_context_length = c, .attn_factor = sqrt(1 + ln(s) / ln(c)); the tensors
            rope_factors_long.weight and rope_factors_short.weight (d/2) divide the frequencies; rope.scaling.factor stays
            absent, since llama.cpp would divide by it once more. cos and sin are multiplied by attn_factor, short or
            long. transformers takes the long factors for a sequence of more than c tokens; engines that keep rotated
            keys decide once: long factors if the session's context (-c) is more than c. Line 3 of the .ids file is the
            context for which both rules agree: c for T <= c, T beyond. (llama.cpp rounds contexts up to 256, so
            --verify tries the short factors on a copy with a larger c.)
"""

import argparse
import contextlib
import math
import os
import sys
import tempfile

import gguf
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

BOS = 1
LETTERS = "▁etaoinshrdlucmfwypvbgkjqxz"
MERGES = ["▁t", "he", "▁the", "in", "er", "an", "re", "on"]


def longrope_factors(seed, count, top):
    """Growing from about 1 to `top`, as real models have them, and exact in f32."""
    steps = np.sort(np.random.default_rng(seed).uniform(1.0, top, count)).astype(np.float32)
    return [float(x) for x in steps]


# name: shape and options of the model, the rope parameters as transformers names them, the lengths to try.
# D model dim, H heads, G key-value heads, d head dim (never D / H), F ffn, V vocab, L layers.
MODELS = {
    "plain": dict(D=48, H=6, G=2, d=10, F=67, V=293, L=2, theta=10000.0, tied=True, lengths=[33]),
    "bias": dict(D=32, H=4, G=4, d=10, F=45, V=131, L=3, theta=500000.0, attention_bias=True, mlp_bias=True,
                 lengths=[70]),
    "linear": dict(D=35, H=5, G=1, d=12, F=47, V=97, L=2, theta=10000.0, original=32,
                   rope=dict(rope_type="linear", factor=4.0), lengths=[20, 32, 128]),
    "llama3": dict(D=36, H=6, G=3, d=16, F=41, V=97, L=2, theta=500.0, tied=True, attention_bias=True, original=32,
                   rope=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0),
                   lengths=[20, 32, 128]),
    "yarn": dict(D=40, H=4, G=2, d=16, F=43, V=97, L=2, theta=100.0, original=32,
                 rope=dict(rope_type="yarn", factor=4.0), lengths=[20, 32, 128]),
    "yarn-own": dict(D=36, H=4, G=1, d=18, F=37, V=97, L=2, theta=10000.0, tied=True, mlp_bias=True, original=32,
                     rope=dict(rope_type="yarn", factor=8.0, beta_fast=4.0, beta_slow=0.5, attention_factor=1.3),
                     lengths=[20, 32, 128]),
    "longrope": dict(D=42, H=3, G=1, d=16, F=39, V=131, L=2, theta=10000.0, original=32,
                     rope=dict(rope_type="longrope", factor=4.0, short_factor=longrope_factors(1, 8, 1.5),
                               long_factor=longrope_factors(2, 8, 6.0)),
                     lengths=[20, 32, 128]),
}


@contextlib.contextmanager
def double_precision():
    """Within it, code that asks torch for float32 gets float64: transformers' norms, softmax and rotary angles do."""
    kept = torch.float, torch.float32, torch.Tensor.float
    torch.float = torch.float32 = torch.float64
    torch.Tensor.float = torch.Tensor.double
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.float, torch.float32, torch.Tensor.float = kept
        torch.set_default_dtype(torch.float32)


def make_config(m):
    context = m["lengths"][-1] if "original" in m else 256
    rope = dict(m.get("rope", dict(rope_type="default")), rope_theta=m["theta"])
    if rope["rope_type"] in ("llama3", "yarn", "longrope"):
        rope["original_max_position_embeddings"] = m["original"]
    return LlamaConfig(
        vocab_size=m["V"], hidden_size=m["D"], intermediate_size=m["F"], num_hidden_layers=m["L"],
        num_attention_heads=m["H"], num_key_value_heads=m["G"], head_dim=m["d"], max_position_embeddings=context,
        rms_norm_eps=1e-5, tie_word_embeddings=m.get("tied", False), attention_bias=m.get("attention_bias", False),
        mlp_bias=m.get("mlp_bias", False), rope_parameters=rope, attn_implementation="eager")


def random_weights(model, seed):
    """name -> f32 array. Matrices: normal, scaled for queries, keys and logits that differ clearly between tokens."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, p in model.named_parameters():
        if name.endswith("norm.weight"):
            w = rng.uniform(0.5, 1.5, p.shape)
        elif name.endswith(".bias"):
            w = 0.1 * rng.standard_normal(p.shape)
        elif "embed_tokens" in name or "lm_head" in name:
            w = 2.0 / math.sqrt(p.shape[1]) * rng.standard_normal(p.shape)
        else:
            w = 1.2 / math.sqrt(p.shape[1]) * rng.standard_normal(p.shape)
        weights[name] = w.astype(np.float32)
    return weights


def logits_of(config, weights, ids, double=True):
    """(T, V) logits, in double precision throughout or in float32 throughout."""
    with double_precision() if double else contextlib.nullcontext(), torch.no_grad():
        model = LlamaForCausalLM(config).eval()
        state = {name: torch.tensor(w, dtype=torch.get_default_dtype()) for name, w in weights.items()}
        missing, unexpected = model.load_state_dict(state, strict=False)
        assert not unexpected and all(name == "lm_head.weight" for name in missing), (missing, unexpected)
        out = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
        assert out.dtype == (torch.float64 if double else torch.float32)
        return out.numpy()


def permute(w, heads):
    """Rows of each head from (first half, second half) to neighbours, as llama.cpp's converter permutes them."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def vocabulary(size):
    """(tokens, scores, types) of a SentencePiece vocabulary: unk, bos, eos; 256 bytes if there is room; letters; merges."""
    tokens, types = ["<unk>", "<s>", "</s>"], [2, 3, 3]
    if size >= 3 + 256 + len(LETTERS):
        tokens += [f"<0x{b:02X}>" for b in range(256)]
        types += [6] * 256
    pieces = MERGES + list(LETTERS) + [c for c in map(chr, range(33, 127)) if c not in LETTERS]
    if size < len(tokens) + len(pieces):  # letters matter more than merges
        pieces = pieces[len(MERGES):] if size < len(tokens) + len(pieces) - len(MERGES) else pieces
    pieces = pieces[: size - len(tokens)]
    pieces += [f"<extra_{i}>" for i in range(size - len(tokens) - len(pieces))]
    scores = [0.0] * len(tokens) + [-float(i) for i in range(len(pieces))]
    return tokens + pieces, scores, types + [1] * len(pieces)


GGUF_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def gguf_name(name):
    if name in GGUF_NAMES:
        return GGUF_NAMES[name]
    layer, rest = name.removeprefix("model.layers.").split(".", 1)
    part, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{GGUF_NAMES[part]}.{kind}"


def llama3_factors(m):
    """What divides the frequencies; see llama3 in the text above."""
    rope, c = m["rope"], m["original"]
    low, high, s = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    factors = []
    for i in range(0, m["d"], 2):
        w = 2 * math.pi * m["theta"] ** (i / m["d"])
        mix = (c / w - low) / (high - low)
        factors.append(1.0 if w < c / high else s if w > c / low else 1 / ((1 - mix) / s + mix))
    return factors


def add_rope(writer, m, original):
    """The keys and tensors of the scaling; `original` is the original context to write."""
    rope = m.get("rope", {})
    kind, s = rope.get("rope_type"), rope.get("factor")
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(s)
    elif kind == "llama3":
        writer.add_tensor("rope_freqs.weight", np.array(llama3_factors(m), np.float32))
    elif kind == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(s)
        writer.add_rope_scaling_orig_ctx_len(original)
        if "beta_fast" in rope:
            writer.add_rope_scaling_yarn_beta_fast(rope["beta_fast"])
            writer.add_rope_scaling_yarn_beta_slow(rope["beta_slow"])
        if "attention_factor" in rope:
            writer.add_rope_scaling_attn_factors(rope["attention_factor"] / (0.1 * math.log(s) + 1))
    elif kind == "longrope":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE)
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(s) / math.log(m["original"])))
        writer.add_tensor("rope_factors_long.weight", np.array(rope["long_factor"], np.float32))
        writer.add_tensor("rope_factors_short.weight", np.array(rope["short_factor"], np.float32))


def write_gguf(path, m, weights, original):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(m["lengths"][-1] if "original" in m else 256)
    writer.add_embedding_length(m["D"])
    writer.add_block_count(m["L"])
    writer.add_feed_forward_length(m["F"])
    writer.add_head_count(m["H"])
    writer.add_head_count_kv(m["G"])
    writer.add_key_length(m["d"])
    writer.add_value_length(m["d"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(m["d"])
    writer.add_rope_freq_base(m["theta"])
    writer.add_vocab_size(m["V"])
    tokens, scores, types = vocabulary(m["V"])
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(True)
    add_rope(writer, m, original)
    for name, w in weights.items():
        if ".q_proj." in name or ".k_proj." in name:
            w = permute(w, m["H"] if ".q_proj." in name else m["G"])
        writer.add_tensor(gguf_name(name), np.ascontiguousarray(w))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_npy(path, array):
    """NPY 1.0 by numpy's own writer, with the version pinned."""
    with open(path, "wb") as f:
        np.lib.format.write_array(f, np.ascontiguousarray(array, np.float32), version=(1, 0), allow_pickle=False)


def kept_rows(length):
    """All rows of a short sequence; of a long one every seventh and the last."""
    return list(range(length)) if length <= 40 else sorted(set(range(0, length, 7)) | {length - 1})


# ---- perplexity ---------------------------------------------------------------------------------------------------

PPL_TEXT = ("The wind had gone round to the north in the night, and the river, which had been brown all week, ran clear "
            "over its stones. Anna counted three herons, one boat & 12 ducks; then she shut the window and put the kettle on. "
            "\"Too cold for fishing,\" said her father, and he went on mending the net as if he had not looked out at all.\n"
            "By noon the sun was on the roof and the snow began to slide.\n")

PPL_HEAD = """\
# Perplexity of llama-plain.gguf over llama-ppl.text, by transformers in double precision. Context C = 32.
# The text is encoded as one sequence (leading space, no BOS). A window of C tokens is run alone, positions from 0.
#   half      windows at 0, C, 2C ... as long as they are whole; targets are window[C/2+1 .. C-1], each predicted from all
#             tokens of its window that stand before it (what llama-perplexity counts)
#   half-bos  the same, with token 0 of each window replaced by BOS (id 1)
#   stride    windows at 0, S, 2S ... as long as they are whole; targets are window[C-S .. C-1]
#   stride-all  windows at 0, S, 2S ... until one reaches the end of the text (that one may be shorter); every token but
#             the first is a target exactly once, in the first window that holds it (the strided form of transformers)
# nll is the mean of -ln p over all targets, ppl = exp(nll), stderr the standard error of nll: sqrt(var / (count - 1))
# kind context stride count nll ppl stderr
"""


def spm_encode(text, tokens, scores):
    """SentencePiece's merging, by its definition: the best-scored adjacent pair first, the leftmost of equals."""
    ids = {t: i for i, t in enumerate(tokens)}
    parts = list("▁" + text.replace(" ", "▁"))
    while True:
        pairs = [(-scores[ids[a + b]], i) for i, (a, b) in enumerate(zip(parts, parts[1:])) if a + b in ids]
        if not pairs:
            break
        i = min(pairs)[1]
        parts[i:i + 2] = [parts[i] + parts[i + 1]]
    out = []
    for p in parts:
        out += [ids[p]] if p in ids else [ids[f"<0x{b:02X}>"] for b in p.encode()]
    return out


def nll_of(config, weights, window, first):
    """-ln p of window[first:], each given the tokens before it."""
    logp = torch.log_softmax(torch.tensor(logits_of(config, weights, window)), -1)
    return [-float(logp[j - 1, window[j]]) for j in range(first, len(window))]


def perplexities(config, weights, ids, context=32, stride=8):
    n, rows = len(ids), []
    starts = range(0, n - context + 1, context)
    nll = [x for s in starts for x in nll_of(config, weights, ids[s:s + context], context // 2 + 1)]
    rows.append(("half", 0, nll))
    nll = [x for s in starts for x in nll_of(config, weights, [BOS] + ids[s + 1:s + context], context // 2 + 1)]
    rows.append(("half-bos", 0, nll))
    starts = range(0, n - context + 1, stride)
    nll = [x for s in starts for x in nll_of(config, weights, ids[s:s + context], context - stride)]
    rows.append(("stride", stride, nll))
    nll, done = [], 1
    for s in range(0, n, stride):
        window = ids[s:s + context]
        nll += nll_of(config, weights, window, done - s)
        done = s + len(window)
        if done == n:
            break
    assert len(nll) == n - 1
    rows.append(("stride-all", stride, nll))
    lines = []
    for kind, step, x in rows:
        x = np.array(x)
        stderr = math.sqrt(x.var() / (len(x) - 1))
        lines.append(f"{kind} {context} {step} {len(x)} {x.mean():.9f} {math.exp(x.mean()):.9f} {stderr:.9f}\n")
    return lines


# ---- verification -------------------------------------------------------------------------------------------------

def relative(a, b):
    """(||a-b|| / ||b||, max |a-b| / max |b|)"""
    return np.linalg.norm(a - b) / np.linalg.norm(b), np.abs(a - b).max() / np.abs(b).max()


def verify(path, m, ids, expected):
    """The file through llama.cpp, keys and values in f32, against all rows of the reference."""
    import llama_cpp
    rope = m.get("rope", {})
    own = dict(yarn_beta_fast=rope["beta_fast"], yarn_beta_slow=rope["beta_slow"]) if "beta_fast" in rope else {}
    llm = llama_cpp.Llama(path, n_ctx=256, n_batch=256, n_threads=2, logits_all=True, type_k=0, type_v=0,
                          flash_attn=False, verbose=False, **own)
    llm.eval(ids)
    return relative(llm.scores[:len(ids)].astype(np.float64), expected)


def main():
    parser = argparse.ArgumentParser(description="Writes the golden files of the Llama architecture.")
    parser.add_argument("out", nargs="?", default=os.path.join(os.path.dirname(__file__), "..", "tests", "golden"))
    parser.add_argument("--verify", action="store_true", help="also run the files through llama.cpp (needs llama_cpp)")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    torch.set_num_threads(1)
    bad = 0
    for index, (name, m) in enumerate(MODELS.items()):
        config = make_config(m)
        weights = random_weights(LlamaForCausalLM(config), 100 + index)
        path = os.path.join(args.out, f"llama-{name}.gguf")
        original = m.get("original", 0)
        write_gguf(path, m, weights, original)
        for length in m["lengths"]:
            ids = np.random.default_rng(1000 * index + length).integers(3, m["V"], length).tolist()
            ids[0] = BOS
            expected = logits_of(config, weights, ids)
            single = relative(logits_of(config, weights, ids, double=False), expected)
            rows = kept_rows(length)
            stem = os.path.join(args.out, f"llama-{name}-{length}")
            write_npy(stem + ".logits", expected[rows])
            with open(stem + ".ids", "w") as f:
                context = original if length < original else length
                f.write(" ".join(map(str, ids)) + "\n" + " ".join(map(str, rows)) + "\n" + f"{context}\n")
            note = f"llama-{name}-{length}: spread {expected.std():.2f}, float32 {single[0]:.1e}"
            bad += single[0] > 1e-5 or expected.std() < 1
            if args.verify:
                with tempfile.TemporaryDirectory() as folder:
                    tried = path
                    if m.get("rope", {}).get("rope_type") == "longrope" and length <= original:
                        tried = os.path.join(folder, "short.gguf")
                        write_gguf(tried, m, weights, 1024)
                    other = verify(tried, m, ids, expected)
                note += f", llama.cpp {other[0]:.1e} {other[1]:.1e}"
                bad += other[0] > 1e-4
            print(note)
        if name == "plain":
            tokens, scores, _ = vocabulary(m["V"])
            ids = spm_encode(PPL_TEXT, tokens, scores)
            with open(os.path.join(args.out, "llama-ppl.text"), "w") as f:
                f.write(PPL_TEXT)
            with open(os.path.join(args.out, "llama-ppl.ids"), "w") as f:
                f.write(" ".join(map(str, ids)) + "\n")
            with open(os.path.join(args.out, "llama-ppl.txt"), "w") as f:
                f.write(PPL_HEAD)
                f.writelines(perplexities(config, weights, ids))
            if args.verify:
                import llama_cpp
                llm = llama_cpp.Llama(path, vocab_only=True, verbose=False)
                same = llm.tokenize(PPL_TEXT.encode(), add_bos=False) == ids
                print(f"llama-ppl: {len(ids)} tokens, llama.cpp's are {'the same' if same else 'DIFFERENT'}")
                bad += not same
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

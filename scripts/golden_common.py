"""What scripts/golden_models*.py share: a tiny model of transformers with every parameter random, saved as transformers saves it, and
its logits in double precision.

    write("qwen2-a", Qwen2ForCausalLM, Qwen2Config(...), lengths=[9, 40])

writes, below tests/golden/models,
    NAME/           config.json and model.safetensors, and tokenizer.json where asked for
    NAME-T.ids      line 1: T token ids; line 2: the rows that are kept; line 3: the context to open a session with
    NAME-T.logits   NPY 1.0, f4, C order, (rows kept, V): the logits after those tokens
and fails where the logits have a spread below 1, or where what was saved does not load as the same model.

tests/test_architectures.c takes every folder there is: a new architecture needs no new test.
"""

import contextlib
import math
import os
import shutil
import zlib

import numpy as np
import torch
from transformers import AutoModelForCausalLM

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "golden", "models")


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


def default_weight(name, shape, rng):
    """Norms from 0.5 to 1.5, biases of 0.1, matrices scaled for queries, keys and logits that differ clearly between tokens."""
    if name.endswith("bias"):
        return 0.1 * rng.standard_normal(shape)
    if len(shape) == 1 or "norm" in name:
        return rng.uniform(0.5, 1.5, shape)
    if "embed" in name or "lm_head" in name or name.endswith("wte.weight") or name.endswith("wpe.weight"):
        return 2.0 / math.sqrt(shape[-1]) * rng.standard_normal(shape)
    return 1.2 / math.sqrt(shape[-1]) * rng.standard_normal(shape)


def randomize(model, seed, dtype, special):
    """Sets every parameter, and every buffer that is saved, to random numbers that `dtype` holds."""
    rng = np.random.default_rng(seed)
    state = model.state_dict()
    done = set()
    with torch.no_grad():
        for name, t in state.items():
            if not t.is_floating_point() or t.data_ptr() in done:  # tied weights are one
                continue
            done.add(t.data_ptr())
            w = special(name, tuple(t.shape), rng) if special else None
            if w is None:
                w = default_weight(name, tuple(t.shape), rng)
            t.copy_(torch.tensor(np.asarray(w)).to(dtype).to(t.dtype))


def logits_of(model_class, config, state, ids, double):
    """(T, V) logits, in double precision throughout or in float32 throughout."""
    with double_precision() if double else contextlib.nullcontext(), torch.no_grad():
        model = model_class(config).eval()
        model.to(torch.get_default_dtype())  # a class may have its own idea of some parameters
        missing, unexpected = model.load_state_dict({k: v.to(torch.get_default_dtype()) if v.is_floating_point() else v
                                                     for k, v in state.items()}, strict=False)
        assert not unexpected and not missing, (missing, unexpected)
        out = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
        assert out.dtype == torch.get_default_dtype(), out.dtype
        return out.numpy()


def write_npy(path, array):
    """NPY 1.0 by numpy's own writer, with the version pinned."""
    with open(path, "wb") as f:
        np.lib.format.write_array(f, np.ascontiguousarray(array, np.float32), version=(1, 0), allow_pickle=False)


def kept_rows(length):
    """All rows of a short sequence; of a long one every seventh and the last."""
    return list(range(length)) if length <= 20 else sorted(set(range(0, length, 7)) | {length - 1})


def relative(a, b):
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def write(name, model_class, config, lengths, dtype="float16", context=None, special=None, folder_hook=None, out=OUT):
    """`context`: length -> context of the session, the length itself unless given (LongRoPE chooses by it). `special`: (name, shape,
    rng) -> array or None for parameters that default_weight does not suit (norms of 1 + w, sinks, ...). `folder_hook`: called with
    the folder when it is saved, to add files."""
    seed = zlib.crc32(name.encode())
    dtype = getattr(torch, dtype)
    config._attn_implementation = "eager"
    if getattr(config, "_experts_implementation", "none") is None:
        config._experts_implementation = "eager"
    torch.manual_seed(0)
    model = model_class(config).eval()
    randomize(model, seed, dtype, special)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    folder = os.path.join(out, name)
    shutil.rmtree(folder, ignore_errors=True)
    model.to(dtype).save_pretrained(folder)
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(folder, "generation_config.json"))
    if folder_hook:
        folder_hook(folder)
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                                  experts_implementation="eager").eval()
    for length in lengths:
        ids = np.random.default_rng(seed + length).integers(3, config.vocab_size, length).tolist()
        expected = logits_of(model_class, config, state, ids, True)
        single = relative(logits_of(model_class, config, state, ids, False), expected)
        with torch.no_grad():
            again = relative(loaded(input_ids=torch.tensor([ids]), use_cache=False).logits[0].numpy(), expected)
        stem = os.path.join(out, f"{name}-{length}")
        rows = kept_rows(length)
        write_npy(stem + ".logits", expected[rows])
        with open(stem + ".ids", "w") as f:
            f.write(" ".join(map(str, ids)) + "\n" + " ".join(map(str, rows)) + "\n")
            f.write(f"{context(length) if context else length}\n")
        size = sum(os.path.getsize(os.path.join(folder, x)) for x in os.listdir(folder))
        print(f"{name}-{length}: {size // 1024} KiB, spread {expected.std():.2f}, float32 {single:.1e}, as saved {again:.1e}")
        assert expected.std() >= 1 and single < 2e-5 and again < 2e-5


def only(names, argv):
    """The models whose names begin with an argument of the command line; all where there is none."""
    return [n for n in names if not argv or any(n.startswith(a) for a in argv)]

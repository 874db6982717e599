#!/usr/bin/env python3
"""Asks others about what tinylm makes of tests/golden/models: folder -> GGUF -> folder.

    python3 scripts/golden_verify.py TINYLM [PREFIX ...]      needs torch, transformers, gguf; llama_cpp where it is installed

transformers loads the folder that comes back, and llama.cpp the GGUF file (with a vocabulary added, which it cannot do without); the logits
of both are compared with the golden ones. transformers has to agree. llama.cpp need not: it ignores the windows of some architectures, and
does not load layers that it has never seen (biases of Qwen3 and ERNIE, dense layers of Qwen3-MoE); it says so, or is far off.
"""
import glob
import os
import subprocess
import sys
import tempfile

import numpy as np

from golden_common import OUT, only, relative


def goldens(name):
    """(length, ids, rows, logits) of a model."""
    for path in sorted(glob.glob(os.path.join(OUT, name + "-*.ids"))):
        length = os.path.basename(path)[len(name) + 1:-len(".ids")]
        if length.isdigit():  # else of a model whose name goes on
            with open(path) as f:
                ids, rows = [list(map(int, f.readline().split())) for _ in range(2)]
            yield length, ids, rows, np.load(path.removesuffix(".ids") + ".logits")


def by_transformers(folder, name):
    import torch
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                                 experts_implementation="eager").eval()
    off = 0
    for _, ids, rows, want in goldens(name):
        with torch.no_grad():
            off = max(off, relative(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].numpy()[rows], want))
    return off


def add_vocabulary(path, out):
    import gguf
    from golden_llama import vocabulary
    reader = gguf.GGUFReader(path)
    arch = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(out, arch)
    for key, field in reader.fields.items():
        if not key.startswith(("GGUF.", "general.architecture", "tokenizer.")):
            writer.add_key_value(key, field.contents(), *field.types[:2])
    tokens, scores, types = vocabulary(reader.fields[arch + ".vocab_size"].contents())
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def by_llama_cpp(path, name):
    import llama_cpp
    llm = llama_cpp.Llama(path, n_ctx=256, n_batch=256, n_threads=2, logits_all=True, type_k=0, type_v=0, flash_attn=False,
                          verbose=False)
    notes = []
    for length, ids, rows, want in goldens(name):
        llm.reset()
        llm.eval(ids)
        notes.append(f"{length}: {relative(llm.scores[rows].astype(np.float64), want):.1e}")
    return ", ".join(notes)


def in_a_process(path, name):
    """llama.cpp may abort where a tensor is missing."""
    done = subprocess.run([sys.executable, __file__, "--llama", path, name], capture_output=True, text=True)
    last = (done.stdout.strip() or "?").split("\n")[-1]
    return last if not done.returncode else "does not load it"


def main():
    if sys.argv[1] == "--llama":
        print(by_llama_cpp(*sys.argv[2:]))
        return 0
    bad = 0
    for name in only(sorted(d for d in os.listdir(OUT) if os.path.isdir(os.path.join(OUT, d))), sys.argv[2:]):
        with tempfile.TemporaryDirectory() as work:
            file, single, voiced, back = [os.path.join(work, x) for x in ("a.gguf", "f32.gguf", "b.gguf", "back")]
            for step in ([os.path.join(OUT, name), file], [file, back], [os.path.join(OUT, name), single, "--type", "f32"]):
                subprocess.run([sys.argv[1], "convert", *step], check=True, stderr=subprocess.DEVNULL)
            off = by_transformers(back, name)
            add_vocabulary(single, voiced)
            print(f"{name}: transformers {off:.1e}; llama.cpp {in_a_process(voiced, name)}", flush=True)
            bad += off > 1e-5
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Writes tests/golden/spm.gguf, a vocabulary, and tests/golden/spm.txt, what llama.cpp makes of it.

    python3 scripts/golden_tokenizer.py stories260K.gguf [OUT_DIR]                  needs gguf, llama_cpp

The vocabulary is that of stories260K (512 tokens) and some that try the rules: control and user-defined tokens that
begin, contain and overlap each other, a token across two words, tokens of doubtful types. spm.txt has one case a line:

    encode MODE TEXT IDS     TEXT in hexadecimal ("-": none), IDS separated by commas ("-": none). MODE: plain, special
                             (control tokens are recognised), bare (plain, with add_space_prefix false)
    piece ID PLAIN SPECIAL   the bytes of a token in hexadecimal, and with the names of control tokens

Text that is not UTF-8 is tried only where a byte that begins a character is followed by another such byte, a
continuation, or the end: elsewhere llama.cpp lets the broken character swallow its neighbour.
"""
import ctypes
import os
import sys
import tempfile

import gguf
import llama_cpp

NORMAL, CONTROL, USER, UNUSED = 1, 3, 4, 5
EXTRA = [  # text, score, type
    ("<|im_start|>", 0, CONTROL),
    ("<|im_end|>", 0, USER),  # ends an answer: becomes a control token
    ("<end_of_turn>", 0, NORMAL),  # likewise
    ("<|user|>", 0, USER),
    ("<|us", 0, USER),
    ("user|>!", 0, USER),
    ("\n\n", 0, USER),
    ("\n\n\n", 0, USER),
    ("xyx", 0, USER),
    ("yxyx", 0, USER),
    (" tool", 0, USER),
    ("\u2581of\u2581the", 50, NORMAL),  # joins across words
    ("f\u2581the", 40, NORMAL),
    ("f\u2581", 30, NORMAL),
    ("\u2581\u2581", 20, NORMAL),
    ("\u2581\u2581\u2581\u2581", 10, NORMAL),
    ("zz", -5.5, UNUSED),
    ("\u4f60\u597d", -3, NORMAL),  # its characters are no tokens
    ("<0x4g>", 0, NORMAL),
]
TEXTS = [
    "", " ", "  ", "   ", "     ", " " * 33, "\n", "\n\n", "\n\n\n", "\n\n\n\n", "\n\n\n\n\n", "\t", "\r\n", "a", " a", "  a ",
    "Once upon a time", " Once upon a time, there was a little girl named Lily.", "of the", "one of the toys of  the  end",
    "the end of the", "f the f  the", "zzz zzzz", "Hello, world! 1234567890", "don't stop-it (now) [ok] {x}", "camelCaseAndABCDE",
    "gr\u00fc\u00df Gott na\u00efve", "e\u0301 a\u0308\u0323", "\u0301", "\u4f60\u597d\u4f60 \u597d", "\u65e5\u672c\u8a9e", "\ud55c\uad6d\uc5b4", "\u041f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440",
    "\u0645\u0631\u062d\u0628\u0627", "\u05e9\u05dc\u05d5\u05dd", "\U0001f600", "\U0001f469\u200d\U0001f469\u200d\U0001f467 ok", "\U0001f1e9\U0001f1ea", "\U0010ffff", "\ufeffBOM", "\u00a0\u2003\u3000",
    "\u2581", "a\u2581b", "\u2581\u2581 \u2581", "\u200a", "\0", "a\0b", "\x01\x7f\x1b[0m", "<s>", "</s>", "<unk>", "a</s>b", "<s> a <s>b", "<0x41>", "<0x0A><0x4g>",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>", "<end_of_turn>", "end_of_turn", "<|user|>", "<|user|>!", "<|us<|user", "a <|user|> b",
    "xyxyx", "xyxyxyx", "yxyxyxyx", "xyx yxyx", "the tool tool", " tool tool", "  tool", "tool", "\n\n tool\n\n\nxyx", "x" * 70, "ab" * 50,
]
BROKEN = [b"\x80", b"abc\x80\x80def", b"\xff", b"\xff\xfe", b"a\xc3", b"\xe4\xbd", b"ok \xf0\x9f\x98", b"\xe2\x96", b"\xed\xa0\x80", b"\xc0\x80",
          b"\xf4\x90\x80\x80", b"\xe0\x80\x80x", b"\xbf\xe4\xbd\xa0\xe5\xa5\xbd\xbf"]


def write_vocabulary(path, source, adds_space):
    reader = gguf.GGUFReader(source)
    fields = reader.fields
    tokens = fields["tokenizer.ggml.tokens"].contents() + [t for t, _, _ in EXTRA]
    scores = fields["tokenizer.ggml.scores"].contents() + [float(s) for _, s, _ in EXTRA]
    types = fields["tokenizer.ggml.token_type"].contents() + [k for _, _, k in EXTRA]
    w = gguf.GGUFWriter(path, "llama")
    w.add_context_length(512)
    w.add_embedding_length(64)
    w.add_block_count(1)
    w.add_feed_forward_length(64)
    w.add_head_count(1)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_vocab_size(len(tokens))
    w.add_tokenizer_model("llama")
    w.add_token_list(tokens)
    w.add_token_scores(scores)
    w.add_token_types(types)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    w.add_add_space_prefix(adds_space)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()


def piece(vocab, token, special):
    buffer = ctypes.create_string_buffer(256)
    n = llama_cpp.llama_token_to_piece(vocab, token, buffer, len(buffer), 0, special)
    assert n >= 0
    return buffer.raw[:n].hex() or "-"


def main():
    source = sys.argv[1]
    out = sys.argv[2] if len(sys.argv) > 2 else os.path.join(os.path.dirname(__file__), "..", "tests", "golden")
    path = os.path.join(out, "spm.gguf")
    write_vocabulary(path, source, True)
    with tempfile.TemporaryDirectory() as folder:
        bare_path = os.path.join(folder, "bare.gguf")
        write_vocabulary(bare_path, source, False)
        models = [llama_cpp.Llama(p, vocab_only=True, verbose=False) for p in (path, bare_path)]
    lines = ["# printed by scripts/golden_tokenizer.py, which says what the columns are"]
    for text in [t.encode() for t in TEXTS] + BROKEN:
        for mode, model, special in (("plain", 0, False), ("special", 0, True), ("bare", 1, False)):
            ids = models[model].tokenize(text, add_bos=False, special=special)
            lines.append(f"encode {mode} {text.hex() or '-'} {','.join(map(str, ids)) or '-'}")
    vocab = models[0]._model.vocab
    for token in [*range(16), *range(256, 300), *range(500, 512 + len(EXTRA))]:
        lines.append(f"piece {token} {piece(vocab, token, False)} {piece(vocab, token, True)}")
    ends = [i for i in range(512 + len(EXTRA)) if llama_cpp.llama_vocab_is_eog(vocab, i)]
    lines.append(f"ends {','.join(map(str, ends))}")
    with open(os.path.join(out, "spm.txt"), "w", encoding="ascii") as f:
        f.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

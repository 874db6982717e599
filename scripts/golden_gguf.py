#!/usr/bin/env python3
"""Prints tests/golden_gguf.h: a small GGUF file as the gguf package of Python writes it, as a C array."""
import os
import tempfile

import gguf
import numpy as np


def write(path):
    w = gguf.GGUFWriter(path, "test")
    w.add_uint8("t.u8", 255)
    w.add_int8("t.i8", -128)
    w.add_uint16("t.u16", 65535)
    w.add_int16("t.i16", -32768)
    w.add_uint32("t.u32", 2**32 - 1)
    w.add_int32("t.i32", -(2**31))
    w.add_float32("t.f32", 0.1)
    w.add_bool("t.bool", True)
    w.add_string("t.string", "snow \u2603")
    w.add_uint64("t.u64", 2**64 - 1)
    w.add_int64("t.i64", -(2**63))
    w.add_float64("t.f64", 0.1)
    w.add_array("t.numbers", [1, -2, 3])
    w.add_array("t.floats", [0.5, -0.25])
    w.add_array("t.strings", ["", "a", "\u2581the"])
    w.add_array("t.bools", [True, False])
    w.add_tensor("f32", np.arange(6, dtype=np.float32).reshape(2, 3))
    w.add_tensor("f16", np.arange(20, dtype=np.float16).reshape(2, 2, 5))
    x = np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 32)
    q = gguf.quantize(x, gguf.GGMLQuantizationType.Q8_0)
    w.add_tensor("q8_0", q, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    w.add_tensor("i8", np.array([-1, 2, -3], dtype=np.int8))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "golden.gguf")
        write(path)
        with open(path, "rb") as file:
            data = file.read()
    print("// tests/golden_gguf.h -- printed by scripts/golden_gguf.py: a file of the gguf package of Python.")
    print("// clang-format off")
    print("static const unsigned char golden_gguf[%d] = {" % len(data))
    for i in range(0, len(data), 22):
        print("    " + " ".join("%d," % byte for byte in data[i:i + 22]))
    print("};")


main()

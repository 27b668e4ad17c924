"""Makes types.gguf: one tensor of every type that is read, each beside its values in fp32 as the gguf
package dequantises them, and metadata of every type.

    make_types_gguf.py types.gguf

Blocks are random bytes with scales among which are subnormal, negative and zero ones. Needs gguf.
"""
import sys

import gguf
import numpy as np

ROWS, WIDTH, SUPER_WIDTH = 6, 64, 512
SCALES = np.array([1.0, -0.5, 6e-8, 6.1e-5, 0.0, 65504.0, 0.0123, -3e-7], np.float16)
TYPES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],  # offsets of halves
         "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0]}


def main():
    random = np.random.default_rng(1)
    writer = gguf.GGUFWriter(sys.argv[1], "types")
    writer.add_uint8("test.u8", 200)
    writer.add_int8("test.i8", -100)
    writer.add_uint16("test.u16", 60000)
    writer.add_int16("test.i16", -30000)
    writer.add_uint32("test.u32", 4000000000)
    writer.add_int32("test.i32", -2000000000)
    writer.add_uint64("test.u64", 2**63 + 1)
    writer.add_int64("test.i64", -2**62)
    writer.add_float32("test.f32", 0.1)
    writer.add_float64("test.f64", 0.1)
    writer.add_bool("test.bool", True)
    writer.add_string("test.string", "caf\u00e9")
    writer.add_array("test.strings", ["one", "", "three"])
    writer.add_array("test.i32s", [1, -2, 3])
    writer.add_array("test.f32s", [0.5, -1.5])
    writer.add_array("test.bools", [True, False, True])
    tensors = []
    for name, halves in TYPES.items():
        kind = gguf.GGMLQuantizationType[name]
        values, size = gguf.GGML_QUANT_SIZES[kind]
        width = WIDTH if values < 256 else SUPER_WIDTH
        blocks = random.integers(0, 256, (ROWS, width // values, size), np.uint8)
        for offset in halves:
            scales = random.choice(SCALES, blocks.shape[:2])
            blocks[:, :, offset:offset + 2] = scales[..., None].view(np.uint8)
        tensors.append((name, kind, blocks.reshape(ROWS, -1)))
    halves = random.integers(0, 2**16, (ROWS, WIDTH)).astype(np.uint16)
    halves[0, :8] = [0, 0x8000, 1, 0x8001, 0x03ff, 0x0400, 0x7bff, 0xfbff]
    f16 = halves.view(np.float16)
    f16 = np.where(np.isfinite(f16), f16, np.float16(1))
    tensors.append(("F16", gguf.GGMLQuantizationType.F16, f16.view(np.uint8).reshape(ROWS, -1)))
    bf16 = np.where((halves & 0x7f80) == 0x7f80, 0x3f80, halves).astype(np.uint16)
    tensors.append(("BF16", gguf.GGMLQuantizationType.BF16, bf16.view(np.uint8).reshape(ROWS, -1)))
    for name, kind, data in tensors:
        writer.add_tensor(name, data, raw_dtype=kind)
        raw = data.view(np.float16) if name == "F16" else data
        writer.add_tensor(name + ".values", gguf.dequantize(raw, kind).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


main()

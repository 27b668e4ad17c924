// How the rows of a memory block are coded: fp16, or int8 with one fp16 scale per row.
//
// A row is the key or the value of one (token, kv head): `head_dim` numbers. A payload is the rows
// of one block, one layer and one of K or V, in the order [tokens, kv_heads, head_dim], followed
// for int8 by the scales [tokens, kv_heads] as little-endian fp16.
//
// int8: scale = fp16(max|x| / 127), q = round(x / scale) clamped to [-127, 127]; the error is at
// most scale/2 (1 + 2^-10) per number. Where fp16 is subnormal and rounding the scale down would
// break that promise, it is rounded up. All functions are pure and thread-safe, and give the same
// bits on every instruction set; `set` must be supported (tests compare them).
#ifndef EIDETIC_KERNELS_BLOCK_CODEC_H_
#define EIDETIC_KERNELS_BLOCK_CODEC_H_

#include <cstddef>
#include <cstdint>

#include "kernels/instruction_set.h"

namespace eidetic::kernels {

enum class Codec : uint8_t { kFp16 = 1, kInt8 = 2 };  // values stand in files: never renumber

// The codec's name in options and reports: "fp16", "int8".
const char* CodecName(Codec codec);
// False when the name is unknown.
bool ParseCodec(const char* name, Codec* codec);

// Bytes of the payload of `tokens` rows of `kv_heads` heads.
size_t PayloadBytes(Codec codec, int tokens, int kv_heads, int head_dim);

// Codes `rows` [tokens, kv_heads, head_dim] into `payload` (PayloadBytes long). Returns false and
// leaves the payload undefined when a number is not finite or too large for the codec.
bool EncodeRows(Codec codec, const float* rows, int tokens, int kv_heads, int head_dim,
                uint8_t* payload, InstructionSet set = BestInstructionSet());

// The inverse, into `rows` [tokens, kv_heads, head_dim]. The payload need not be aligned.
void DecodeRows(Codec codec, const uint8_t* payload, int tokens, int kv_heads, int head_dim,
                float* rows, InstructionSet set = BestInstructionSet());

// IEEE binary16 <-> binary32, round to nearest even; also over arrays.
uint16_t FloatToHalf(float value);
float HalfToFloat(uint16_t half);
void FloatToHalf(const float* values, size_t count, uint16_t* halves,
                 InstructionSet set = BestInstructionSet());
void HalfToFloat(const uint16_t* halves, size_t count, float* values,
                 InstructionSet set = BestInstructionSet());

}  // namespace eidetic::kernels

#endif  // EIDETIC_KERNELS_BLOCK_CODEC_H_

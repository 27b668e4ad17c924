#include "model/gguf.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>

#include "model/config.h"
#include "model/error.h"
#include "model/gguf_writer.h"
#include "model/tokenizer.h"
#include "tests/model/model_files.h"

namespace eidetic::model {
namespace {

const std::string kGolden = EIDETIC_GOLDEN_DIR;

// Fails unless `call` throws an Error of `code` whose message holds `part`.
void ExpectError(const std::function<void()>& call, ErrorCode code, const std::string& part) {
  try {
    call();
    ADD_FAILURE() << "no error; expected one about: " << part;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

// A whole small model: llama, one layer, a tokenizer of 258 tokens.
GgufWriter SmallModel() {
  GgufWriter writer;
  writer.AddString("general.architecture", "llama");
  writer.AddUint32("general.alignment", 32);
  writer.AddUint32("llama.block_count", 1);
  writer.AddUint32("llama.embedding_length", 32);
  writer.AddUint32("llama.feed_forward_length", 64);
  writer.AddUint32("llama.attention.head_count", 2);
  writer.AddInt32Array("llama.attention.head_count_kv", {1});
  writer.AddFloat32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  writer.AddString("tokenizer.ggml.model", "gpt2");
  writer.AddString("tokenizer.ggml.pre", "smollm");
  writer.AddStringArray("tokenizer.ggml.tokens", {"<s>", "a", "b", "ab"});
  writer.AddInt32Array("tokenizer.ggml.token_type", {3, 1, 1, 1});
  writer.AddStringArray("tokenizer.ggml.merges", {"a b"});
  writer.AddBool("tokenizer.ggml.add_bos_token", false);
  writer.AddTensor("token_embd.weight", {4, 32}, GgmlType::kQ8_0);
  writer.AddTensor("output_norm.weight", {32}, GgmlType::kF32);
  writer.AddTensor("blk.0.attn_q.weight", {32, 32}, GgmlType::kQ4_1);
  return writer;
}

std::string WithData(const GgufWriter& writer) {
  return writer.Header() + std::string(writer.data_bytes(), '\x11');
}

std::string SmallModelBytes() {
  return WithData(SmallModel());
}

class GgufTest : public ::testing::Test {
 protected:
  std::shared_ptr<const GgufFile> Open(const std::string& bytes) {
    WriteFile(path_, bytes);
    return GgufFile::Open(path_);
  }
  // Opens `bytes` and expects a kCorruption about `part`.
  void ExpectCorrupt(const std::string& bytes, const std::string& part,
                     ErrorCode code = ErrorCode::kCorruption) {
    ExpectError([&] { Open(bytes); }, code, part);
  }
  TemporaryFolder folder_;
  const std::string path_ = folder_ / "model.gguf";
};

// Replaces the bytes behind the first occurrence of `name` (and `skip` more) by `value`.
template <typename T>
std::string Patched(std::string bytes, const std::string& name, size_t skip, T value) {
  const size_t at = bytes.find(name);
  if (at == std::string::npos) throw std::runtime_error("no " + name);
  std::memcpy(bytes.data() + at + name.size() + skip, &value, sizeof(value));
  return bytes;
}

TEST_F(GgufTest, ReadsMetadataOfEveryType) {
  const auto file = GgufFile::Open(kGolden + "/types.gguf");
  EXPECT_EQ(file->Unsigned("test.u8"), 200u);
  EXPECT_EQ(std::get<int64_t>(*file->Find("test.i8")), -100);
  EXPECT_EQ(file->Unsigned("test.u16"), 60000u);
  EXPECT_EQ(std::get<int64_t>(*file->Find("test.i16")), -30000);
  EXPECT_EQ(file->Unsigned("test.u32"), 4000000000u);
  EXPECT_EQ(std::get<int64_t>(*file->Find("test.i32")), -2000000000);
  EXPECT_EQ(file->Unsigned("test.u64"), (uint64_t{1} << 63) + 1);
  EXPECT_EQ(std::get<int64_t>(*file->Find("test.i64")), -(int64_t{1} << 62));
  EXPECT_EQ(file->Float("test.f32"), static_cast<double>(0.1f));
  EXPECT_EQ(file->Float("test.f64"), 0.1);
  EXPECT_TRUE(file->BoolOr("test.bool", false));
  EXPECT_EQ(file->String("test.string"), "caf\xc3\xa9");
  EXPECT_EQ(std::get<std::vector<std::string_view>>(*file->Find("test.strings")),
            (std::vector<std::string_view>{"one", "", "three"}));
  EXPECT_EQ(std::get<std::vector<int64_t>>(*file->Find("test.i32s")),
            (std::vector<int64_t>{1, -2, 3}));
  EXPECT_EQ(std::get<std::vector<double>>(*file->Find("test.f32s")),
            (std::vector<double>{0.5, -1.5}));
  EXPECT_EQ(std::get<std::vector<bool>>(*file->Find("test.bools")),
            (std::vector<bool>{true, false, true}));
}

TEST_F(GgufTest, NamesAKeyThatIsMissingOrOfAnotherType) {
  const auto file = GgufFile::Open(kGolden + "/types.gguf");
  ExpectError([&] { file->Unsigned("test.none"); }, ErrorCode::kCorruption, "'test.none'");
  ExpectError([&] { file->Unsigned("test.i8"); }, ErrorCode::kCorruption, "'test.i8'");
  ExpectError([&] { file->Float("test.u8"); }, ErrorCode::kCorruption, "'test.u8'");
  ExpectError([&] { file->String("test.u8"); }, ErrorCode::kCorruption, "'test.u8'");
  EXPECT_EQ(file->UnsignedOr("test.none", 7), 7u);
  EXPECT_EQ(file->FloatOr("test.none", 7.5), 7.5);
}

// The package computes in fp32 as well, in the same order: the values are the same bits.
TEST_F(GgufTest, DequantisesEveryTypeToTheBitsOfTheReference) {
  const auto file = GgufFile::Open(kGolden + "/types.gguf");
  int types = 0;
  for (const GgufTensor& tensor : file->tensors()) {
    const GgufTensor* expected = file->FindTensor(tensor.name + ".values");
    if (expected == nullptr) continue;
    ++types;
    const uint64_t width = SizeOf(tensor.type).values == 256 ? 512 : 64;
    ASSERT_EQ(tensor.shape, (std::vector<uint64_t>{6, width}));
    EXPECT_EQ(GgmlTypeName(tensor.type), tensor.name);
    std::vector<float> values(tensor.Values()), reference(expected->Values());
    file->ReadTensor(tensor, values.data());
    file->ReadTensor(*expected, reference.data());
    for (size_t i = 0; i < values.size(); ++i) {
      // 0 * -8 is -0 here or there: equal is enough for zeros.
      ASSERT_TRUE(values[i] == reference[i])
          << tensor.name << " value " << i << ": " << values[i] << " expected " << reference[i];
    }
  }
  EXPECT_EQ(types, 11);  // and F32 is what the expected values are read with
}

TEST_F(GgufTest, LargeTensorsAreTheSameWhateverTheNumberOfThreads) {
  GgufWriter writer;
  const uint64_t rows = 30000, width = 64;  // several chunks and a ragged last one
  writer.AddTensor("t", {rows, width}, GgmlType::kQ8_0);
  std::string bytes = writer.Header();
  std::vector<float> expected;
  for (uint64_t block = 0; block < rows * width / 32; ++block) {
    bytes += std::string("\x00\x3c", 2);  // 1.0 in fp16
    for (int i = 0; i < 32; ++i) {
      const auto value = static_cast<int8_t>((block * 7 + static_cast<uint64_t>(i) * 3) % 251);
      bytes += static_cast<char>(value);
      expected.push_back(value);
    }
  }
  bytes.append(GgufWriter::Padding(bytes.size() - writer.Header().size()), '\0');
  const auto file = Open(bytes);
  std::vector<float> values(expected.size());
  file->ReadTensor(file->tensors()[0], values.data());
  EXPECT_EQ(values, expected);
}

TEST_F(GgufTest, WhatTheWriterWritesIsReadBack) {
  const auto file = Open(SmallModelBytes());
  EXPECT_EQ(file->metadata().size(), 14u);
  EXPECT_EQ(file->String("tokenizer.ggml.pre"), "smollm");
  EXPECT_EQ(file->tensors().size(), 3u);
  const GgufTensor& tensor = file->Tensor("blk.0.attn_q.weight", {32, 32});
  EXPECT_EQ(tensor.bytes, 32u * 20);
  EXPECT_EQ(tensor.file_offset % GgufWriter::kAlignment, 0u);
  ExpectError(
      [&] {
        file->Tensor("blk.0.attn_q.weight", {32, 64});
      },
      ErrorCode::kCorruption, "shape [32, 32], expected [32, 64]");
  ExpectError([&] { file->Tensor("blk.1.attn_q.weight", {32}); }, ErrorCode::kCorruption,
              "'blk.1.attn_q.weight' is missing");
  // A raw copy of an entry is the entry.
  GgufWriter copy;
  copy.AddRaw("x", file->RawValue("tokenizer.ggml.tokens"));
  const auto copied = Open(copy.Header());
  EXPECT_EQ(std::get<std::vector<std::string_view>>(*copied->Find("x")),
            (std::vector<std::string_view>{"<s>", "a", "b", "ab"}));
}

TEST_F(GgufTest, RefusesWhatIsNoFile) {
  ExpectError([&] { GgufFile::Open(folder_ / "none.gguf"); }, ErrorCode::kNotFound, "none.gguf");
  ExpectError([&] { GgufFile::Open(folder_.path()); }, ErrorCode::kIo, "not a regular file");
  ExpectCorrupt("", "empty");
  ExpectCorrupt("GG", "the magic number needs 4 bytes");
  ExpectCorrupt("a text, not a model", "not a GGUF file");
}

TEST_F(GgufTest, RefusesOtherVersions) {
  const std::string bytes = SmallModelBytes();
  ExpectCorrupt(Patched<uint32_t>(bytes, "GGUF", 0, 2), "version 2", ErrorCode::kUnsupported);
  ExpectCorrupt(Patched<uint32_t>(bytes, "GGUF", 0, 4), "version 4", ErrorCode::kUnsupported);
  ExpectCorrupt(Patched<uint32_t>(bytes, "GGUF", 0, 0x03000000), "big-endian",
                ErrorCode::kUnsupported);
}

TEST_F(GgufTest, RefusesCountsThatTheFileCannotHold) {
  const std::string bytes = SmallModelBytes();
  for (const uint64_t count : {uint64_t{1} << 20, uint64_t{1} << 40, ~uint64_t{0}}) {
    ExpectCorrupt(Patched(bytes, "GGUF", 4, count), "the tensor count");
    ExpectCorrupt(Patched(bytes, "GGUF", 12, count), "the metadata count");
    ExpectCorrupt(Patched(bytes, "tokenizer.ggml.tokens", 8, count), "'tokenizer.ggml.tokens'");
    ExpectCorrupt(Patched(bytes, "tokenizer.ggml.token_type", 8, count),
                  "'tokenizer.ggml.token_type'");
    ExpectCorrupt(Patched(bytes, "tokenizer.ggml.pre", 4, count), "'tokenizer.ggml.pre'");
  }
}

TEST_F(GgufTest, RefusesBadTypesOfMetadata) {
  const std::string bytes = SmallModelBytes();
  ExpectCorrupt(Patched<uint32_t>(bytes, "llama.block_count", 0, 13), "the unknown type 13");
  ExpectCorrupt(Patched<uint32_t>(bytes, "tokenizer.ggml.tokens", 4, 99), "the unknown type 99");
  ExpectCorrupt(Patched<uint32_t>(bytes, "tokenizer.ggml.tokens", 4, 9), "array of arrays",
                ErrorCode::kUnsupported);
  ExpectCorrupt(Patched<uint8_t>(bytes, "tokenizer.ggml.add_bos_token", 4, 2), "a bool of value 2");
}

TEST_F(GgufTest, RefusesNamesThatAppearTwice) {
  GgufWriter keys;
  keys.AddUint32("key", 1);
  keys.AddBool("key", true);
  ExpectCorrupt(keys.Header(), "metadata 'key' appears twice");
  GgufWriter tensors;
  tensors.AddTensor("weight", {1}, GgmlType::kF32);
  tensors.AddTensor("weight", {2}, GgmlType::kF32);
  ExpectCorrupt(WithData(tensors), "tensor 'weight' appears twice");
}

TEST_F(GgufTest, RefusesBadShapes) {
  const std::string bytes = SmallModelBytes();
  const std::string name = "token_embd.weight";
  ExpectCorrupt(Patched<uint32_t>(bytes, name, 0, 0), "0 dimensions");
  ExpectCorrupt(Patched<uint32_t>(bytes, name, 0, 5), "5 dimensions");
  ExpectCorrupt(Patched<uint64_t>(bytes, name, 4, 0), "a dimension of size 0");
  ExpectCorrupt(Patched<uint64_t>(bytes, name, 4, 33), "not a multiple of its type's block");
  ExpectCorrupt(Patched<uint64_t>(bytes, name, 12, uint64_t{1} << 62), "more values");
  ExpectCorrupt(Patched<uint64_t>(bytes, name, 12, uint64_t{1} << 30), "does not end within");
}

TEST_F(GgufTest, RefusesBadTensorTypesAndOffsets) {
  const std::string bytes = SmallModelBytes();
  const std::string name = "output_norm.weight";
  ExpectCorrupt(Patched<uint32_t>(bytes, name, 12, 10), "type 10", ErrorCode::kUnsupported);
  ExpectCorrupt(Patched<uint64_t>(bytes, name, 16, 8), "not a multiple of the alignment");
  ExpectCorrupt(Patched<uint64_t>(bytes, name, 16, 0), "overlap");
  ExpectCorrupt(Patched<uint64_t>(bytes, name, 16, uint64_t{1} << 20), "does not end within");
  ExpectCorrupt(Patched<uint64_t>(bytes, name, 16, ~uint64_t{31}), "does not end within");
  ExpectCorrupt(Patched<uint32_t>(bytes, "general.alignment", 4, 0), "power of two");
  ExpectCorrupt(Patched<uint32_t>(bytes, "general.alignment", 4, 48), "power of two");
  ExpectCorrupt(Patched<uint32_t>(bytes, "general.alignment", 4, 1u << 31), "alignment");
}

TEST_F(GgufTest, ErrorsNameTheFileAndTheByte) {
  const std::string bytes = SmallModelBytes();
  const std::string where = std::to_string(bytes.find("llama.block_count") + 17);
  ExpectCorrupt(Patched<uint32_t>(bytes, "llama.block_count", 0, 77), path_);
  ExpectCorrupt(Patched<uint32_t>(bytes, "llama.block_count", 0, 77), "at byte " + where);
}

TEST_F(GgufTest, NamesWithStrangeBytesArePrintedSafely) {
  GgufWriter writer;
  writer.AddUint32("bad\n\x1b[31m", 1);
  writer.AddUint32("bad\n\x1b[31m", 1);
  ExpectCorrupt(writer.Header(), "'bad\\x0a\\x1b[31m' appears twice");
}

// Whatever a damaged file says, reading it gives an error or a file that holds together: sizes
// agree, tensors lie in the file, and, when asked, what is built on it does its own checks.
void ReadEverything(const std::string& path, bool build) {
  try {
    const auto file = GgufFile::Open(path);
    std::vector<const GgufTensor*> tensors;
    for (const GgufTensor& tensor : file->tensors()) {
      const GgmlTypeSize size = SizeOf(tensor.type);
      ASSERT_LE(tensor.file_offset, file->size());
      ASSERT_LE(tensor.bytes, file->size() - tensor.file_offset);
      ASSERT_EQ(tensor.bytes, tensor.Values() / static_cast<uint64_t>(size.values) *
                                  static_cast<uint64_t>(size.bytes));
      tensors.push_back(&tensor);
    }
    std::sort(tensors.begin(), tensors.end(),
              [](const auto* a, const auto* b) { return a->file_offset < b->file_offset; });
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (i > 0) {
        ASSERT_LE(tensors[i - 1]->file_offset + tensors[i - 1]->bytes, tensors[i]->file_offset);
      }
      std::vector<float> values(tensors[i]->Values());
      file->ReadTensor(*tensors[i], values.data());
    }
    if (!build) return;
    const auto tokenizer = Tokenizer::FromGguf(*file);
    tokenizer->Decode(tokenizer->Encode("ab ba 12 \xff <s>", true));
    const ModelConfig config = ReadModelConfig(*file);
    ASSERT_GT(config.heads, 0);
    ASSERT_GT(config.kv_heads, 0);
    ASSERT_FALSE(config.layers.empty());
  } catch (const Error& error) {
    ASSERT_NE(std::string(error.what()), "");
  }
}

// Reads the small model with each byte of its header changed in each of the ways.
void ReadWithBytesChanged(const std::string& path, const std::string& bytes, size_t header,
                          const std::vector<int>& changes, bool build) {
  WriteFile(path, bytes);
  ReadEverything(path, true);
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(descriptor, 0);
  for (size_t at = 0; at < header; ++at) {
    for (const int change : changes) {
      const char changed = static_cast<char>(bytes[at] ^ change);
      ASSERT_EQ(::pwrite(descriptor, &changed, 1, static_cast<off_t>(at)), 1);
      ReadEverything(path, build);
      if (::testing::Test::HasFatalFailure()) FAIL() << "byte " << at << " changed by " << change;
    }
    ASSERT_EQ(::pwrite(descriptor, &bytes[at], 1, static_cast<off_t>(at)), 1);
  }
  ::close(descriptor);
}

TEST_F(GgufTest, AnyFlippedBitGivesAnErrorOrAConsistentFile) {
  ReadWithBytesChanged(path_, SmallModelBytes(), SmallModel().Header().size(),
                       {1, 2, 4, 8, 16, 32, 64, 128}, /*build=*/true);
}

// Building a tokenizer takes most of the time: here the file alone is read.
TEST_F(GgufTest, AnyChangedByteGivesAnErrorOrAConsistentFile) {
  std::vector<int> changes(255);
  std::iota(changes.begin(), changes.end(), 1);
  ReadWithBytesChanged(path_, SmallModelBytes(), SmallModel().Header().size(), changes,
                       /*build=*/false);
}

TEST_F(GgufTest, EveryTruncationIsAnError) {
  const std::string bytes = SmallModelBytes();
  // The last tensor is as long as a multiple of the alignment: no byte of the file is spare.
  for (size_t length = 0; length < bytes.size(); ++length) {
    WriteFile(path_, bytes.substr(0, length));
    ASSERT_THROW(GgufFile::Open(path_), Error) << length << " bytes";
  }
}

TEST_F(GgufTest, ReadsTheConfigurationOfTheBaseModel) {
  const auto file = GgufFile::Open(BaseModelPath());
  const ModelConfig config = ReadModelConfig(*file);
  EXPECT_EQ(config.architecture, "llama");
  EXPECT_EQ(config.vocabulary, 49152);
  EXPECT_EQ(config.hidden, 576);
  EXPECT_EQ(config.feed_forward, 1536);
  EXPECT_EQ(config.layers, std::vector<LayerKind>(30, LayerKind::kAttention));
  EXPECT_EQ(config.heads, 9);
  EXPECT_EQ(config.kv_heads, 3);
  EXPECT_EQ(config.head_dim, 64);
  EXPECT_EQ(config.rotary_base, 100000);
  EXPECT_EQ(config.rotary_dims, 64);
  EXPECT_EQ(config.attention_scale, 0.125f);
  EXPECT_EQ(config.norm_epsilon, 1e-5f);
  EXPECT_EQ(config.trained_context, 8192);
  EXPECT_TRUE(config.tied_embeddings);
  EXPECT_EQ(config.mamba.heads, 0);
}

// The small model with one entry more or replaced.
class ConfigTest : public GgufTest {
 protected:
  struct Change {
    std::string key;
    std::function<void(GgufWriter*, const std::string&)> add;  // null: leave the key out
  };
  ModelConfig Read(const std::string& architecture, const std::vector<Change>& changes) {
    const auto original = Open(SmallModelBytes());
    GgufWriter writer;
    for (const auto& [key, value] : original->metadata()) {
      const bool changed = std::any_of(changes.begin(), changes.end(),
                                       [&](const Change& change) { return change.key == key; });
      const std::string name = key.starts_with("llama.") ? architecture + key.substr(5) : key;
      if (key == "general.architecture") {
        writer.AddString(key, architecture);
      } else if (!changed) {
        writer.AddRaw(name, original->RawValue(key));
      }
    }
    for (const Change& change : changes) {
      const std::string& key = change.key;
      if (change.add)
        change.add(&writer, key.starts_with("llama.") ? architecture + key.substr(5) : key);
    }
    writer.AddTensor("token_embd.weight", {4, 32}, GgmlType::kF32);
    return ReadModelConfig(*Open(WithData(writer)));
  }
  static Change Number(const std::string& key, uint32_t value) {
    return {key, [value](GgufWriter* writer, const std::string& name) {
              writer->AddUint32(name, value);
            }};
  }
  static Change Real(const std::string& key, float value) {
    return {key, [value](GgufWriter* writer, const std::string& name) {
              writer->AddFloat32(name, value);
            }};
  }
  static Change Word(const std::string& key, const std::string& value) {
    return {key, [value](GgufWriter* writer, const std::string& name) {
              writer->AddString(name, value);
            }};
  }
  static Change Flag(const std::string& key, bool value) {
    return {key,
            [value](GgufWriter* writer, const std::string& name) { writer->AddBool(name, value); }};
  }
  static Change Array(const std::string& key, const std::vector<int32_t>& values) {
    return {key, [values](GgufWriter* writer, const std::string& name) {
              writer->AddInt32Array(name, values);
            }};
  }
  // A mixer of 4 heads of 16 in 2 groups, in the second of two layers.
  static std::vector<Change> Hybrid() {
    return {Number("llama.block_count", 2),     Array("llama.attention.head_count_kv", {1, 0}),
            Number("llama.ssm.conv_kernel", 4), Number("llama.ssm.inner_size", 64),
            Number("llama.ssm.state_size", 8),  Number("llama.ssm.time_step_rank", 4),
            Number("llama.ssm.group_count", 2)};
  }
  static std::vector<Change> Hybrid(const Change& change) {
    std::vector<Change> changes = Hybrid();
    std::erase_if(changes, [&](const Change& each) { return each.key == change.key; });
    changes.push_back(change);
    return changes;
  }
  void ExpectRefused(const std::string& architecture, const std::vector<Change>& changes,
                     ErrorCode code, const std::string& part) {
    ExpectError([&] { Read(architecture, changes); }, code, part);
  }
};

TEST_F(ConfigTest, DefaultsAreThoseOfTheFormat) {
  const ModelConfig config = Read("llama", {});
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.rotary_base, 10000);
  EXPECT_EQ(config.rotary_dims, 16);
  EXPECT_EQ(config.attention_scale, 0.25f);
  EXPECT_EQ(config.vocabulary, 4);
}

TEST_F(ConfigTest, LayersWithoutKeyValueHeadsAreMamba) {
  std::vector<Change> changes = Hybrid(Real("llama.logit_scale", 8));
  changes.push_back(Real("llama.attention.scale", 0.5f));
  const ModelConfig config = Read("granitehybrid", changes);
  EXPECT_EQ(config.AttentionLayers(), std::vector<int>{0});
  EXPECT_EQ(config.MambaLayers(), std::vector<int>{1});
  EXPECT_EQ(config.kv_heads, 1);
  EXPECT_EQ(config.mamba.heads, 4);
  EXPECT_EQ(config.mamba.head_dim, 16);
  EXPECT_EQ(config.mamba.ConvChannels(), 64 + 2 * 2 * 8);
  EXPECT_EQ(config.logit_scale, 8);
  EXPECT_EQ(config.residual_scale, 1);
  EXPECT_EQ(config.attention_scale, 0.5f);
  EXPECT_EQ(config.rotary_dims, 16);
}

TEST_F(ConfigTest, AHybridCanSayThatItHasNoRotaryPositions) {
  EXPECT_EQ(Read("granitehybrid", Hybrid(Flag("llama.rope.scaling.finetuned", false))).rotary_dims,
            0);
  EXPECT_EQ(Read("granitehybrid", Hybrid(Flag("llama.rope.scaling.finetuned", true))).rotary_dims,
            16);
}

TEST_F(ConfigTest, RotaryScalingIsReadByItsKeys) {
  for (const char* name : {"llama.rope.scaling.factor", "llama.rope.scale_linear"}) {
    const RotaryScaling linear = Read("llama", {Real(name, 4)}).rotary_scaling;
    EXPECT_EQ(linear, ParseRotaryScaling("linear:4"));
  }
  std::vector<Change> yarn = {Word("llama.rope.scaling.type", "yarn"),
                              Real("llama.rope.scaling.factor", 4),
                              Number("llama.context_length", 8192)};
  EXPECT_EQ(Read("llama", yarn).rotary_scaling, ParseRotaryScaling("yarn:4:8192"));
  yarn.push_back(Number("llama.rope.scaling.original_context_length", 2048));
  EXPECT_EQ(Read("llama", yarn).rotary_scaling, ParseRotaryScaling("yarn:4:2048"));
  yarn.push_back(Real("llama.rope.scaling.attn_factor", 0.5f));
  yarn.push_back(Real("llama.rope.scaling.yarn_beta_fast", 16));
  yarn.push_back(Real("llama.rope.scaling.yarn_beta_slow", 2));
  const RotaryScaling all = Read("llama", yarn).rotary_scaling;
  EXPECT_EQ(all.beta_fast, 16);
  EXPECT_EQ(all.beta_slow, 2);
  EXPECT_DOUBLE_EQ(RotaryLength(all), 0.5 * (0.1 * std::log(4) + 1));
  EXPECT_EQ(Read("llama", {Word("llama.rope.scaling.type", "none")}).rotary_scaling,
            RotaryScaling());
}

TEST_F(ConfigTest, RefusesWhatCannotBeComputed) {
  const ErrorCode unsupported = ErrorCode::kUnsupported;
  ExpectRefused("mamba2", {}, unsupported, "architecture 'mamba2'");
  ExpectRefused("granitehybrid", Hybrid(Number("llama.expert_count", 8)), unsupported,
                "mixtures of experts");
  ExpectRefused("llama", {Word("llama.rope.scaling.type", "longrope")}, unsupported, "'longrope'");
  ExpectRefused("llama",
                {Word("llama.rope.scaling.type", "yarn"), Real("llama.rope.scaling.factor", 4),
                 Real("llama.rope.scaling.yarn_ext_factor", 0.5f)},
                unsupported, "yarn_ext_factor");
  ExpectRefused("llama", {Real("llama.rope.scaling.factor", 0.5f)}, ErrorCode::kCorruption,
                "factor is 0.5");
  ExpectRefused("llama", {Number("llama.attention.value_length", 8)}, unsupported, "value_length");
  ExpectRefused("granitehybrid", Hybrid(Array("llama.attention.head_count_kv", {0, 0})),
                unsupported, "nothing to remember");
  EXPECT_NO_THROW(Read("llama", {Word("llama.rope.scaling.type", "none")}));
  EXPECT_NO_THROW(Read("llama", {Real("llama.rope.scaling.factor", 1)}));
}

TEST_F(ConfigTest, RefusesSizesThatContradictEachOther) {
  const ErrorCode corrupt = ErrorCode::kCorruption;
  ExpectRefused("llama", {{"llama.block_count", nullptr}}, corrupt,
                "'llama.block_count' is missing");
  ExpectRefused("llama", {Number("llama.block_count", 0)}, corrupt, "block_count");
  ExpectRefused("llama", {Number("llama.block_count", 1u << 31)}, corrupt, "block_count");
  ExpectRefused("llama", {Number("llama.block_count", 3)}, corrupt, "1 entries for 3 layers");
  ExpectRefused("llama", {Number("llama.attention.head_count", 3)}, corrupt, "the 3 heads");
  ExpectRefused("llama", {Array("llama.attention.head_count_kv", {3})}, corrupt,
                "not a multiple of the 3 key/value heads");
  ExpectRefused("llama", {Array("llama.attention.head_count_kv", {-1})}, corrupt, "negative");
  ExpectRefused("llama", {Number("llama.rope.dimension_count", 18)}, corrupt, "is 18");
  ExpectRefused("llama", {Number("llama.rope.dimension_count", 7)}, corrupt, "is 7");
  ExpectRefused("llama", {Real("llama.rope.freq_base", -1)}, corrupt, "rope.freq_base");
  ExpectRefused("llama", {Real("llama.attention.layer_norm_rms_epsilon", NAN)}, corrupt, "epsilon");
  ExpectRefused("llama", {Number("llama.vocab_size", 5)}, corrupt, "differs from the 4 rows");
  ExpectRefused("granitehybrid", Hybrid(Number("llama.ssm.time_step_rank", 3)), corrupt, "3 heads");
  ExpectRefused("granitehybrid", Hybrid(Number("llama.ssm.group_count", 3)), corrupt, "4 heads");
  ExpectRefused("granitehybrid", Hybrid({"llama.ssm.state_size", nullptr}), corrupt, "is missing");
  ExpectRefused("granitehybrid", Hybrid(Number("llama.ssm.state_size", 1u << 23)), corrupt,
                "convolution channels");
}

}  // namespace
}  // namespace eidetic::model

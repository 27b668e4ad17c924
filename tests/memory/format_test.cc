// The format's own promises: what was written is read, keys sort as numbers, and no bytes at all
// make a decoder crash or believe them.
#include "memory/format.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>
#include <set>

#include "memory/hash.h"
#include "memory/session_format.h"
#include "tests/memory/test_blocks.h"

namespace eidetic::memory {
namespace {

using testing::RandomBlock;
using testing::SmallLayout;

// One valid record of each kind, and how to decode it.
struct Sample {
  std::string name;
  std::string key;
  std::string value;
  std::function<Status(std::string_view key, std::string_view value)> decode;
};

template <typename Decode>
std::function<Status(std::string_view, std::string_view)> StatusOf(Decode decode) {
  return [decode](std::string_view key, std::string_view value) {
    return decode(key, value).status();
  };
}

std::vector<Sample> Samples() {
  std::vector<Sample> samples;
  const Layout layout = SmallLayout();

  const std::string format_key = format::FormatKey();
  samples.push_back(
      {"format", format_key, format::EncodeFormat(format_key, {}), StatusOf(format::DecodeFormat)});

  const std::string counter = format::CounterKey(format::Counter::kBlock);
  samples.push_back(
      {"number", counter, format::EncodeNumber(counter, 77), StatusOf(format::DecodeNumber)});

  const std::string text = format::TextKey(3, 1);
  samples.push_back(
      {"bytes", text, format::EncodeBytes(text, "some text"), StatusOf(format::DecodeBytes)});

  CollectionRecord collection;
  collection.name = "books";
  collection.layout = layout;
  collection.window = 1024;
  collection.sinks = 8 * layout.block_tokens;
  collection.segment = 512;
  const std::string collection_key = format::CollectionKey("books");
  samples.push_back({"collection", collection_key,
                     format::EncodeCollection(collection_key, collection),
                     StatusOf(format::DecodeCollection)});

  DocumentRecord document;
  document.id = 9;
  document.collection = "books";
  document.source = "moby.txt";
  document.content_hash = Sha256Hex("x");
  document.tokens = 100;
  document.committed_tokens = 64;
  document.committed_blocks = 2;
  const std::string document_key = format::DocumentKey("books", "moby.txt", 9);
  samples.push_back({"document", document_key, format::EncodeDocument(document_key, document),
                     StatusOf(format::DecodeDocument)});

  LineageRecord lineage;
  lineage.id = 4;
  lineage.layout = layout;
  lineage.committed_tokens = 64;
  lineage.committed_blocks = 2;
  lineage.owner = "document/9";
  const std::string lineage_key = format::LineageKey(4);
  samples.push_back({"lineage", lineage_key, format::EncodeLineage(lineage_key, lineage),
                     StatusOf(format::DecodeLineage)});

  lineage.id = 5;
  lineage.begin = 32;
  lineage.owner = "session/friend";
  const std::string begun_key = format::LineageKey(5);
  samples.push_back({"lineage that begins later", begun_key,
                     format::EncodeLineage(begun_key, lineage), StatusOf(format::DecodeLineage)});

  SessionHead session;
  session.created = 1;
  session.changed = 2;
  session.forked_from = "friend";
  session.writes = 9;
  session.path = {{4, 3, 70, 32}, {9, 5, 130, 64}};
  session.settings = "settings";
  const std::string session_key = format::HeadKey("branch");
  samples.push_back({"session", session_key, format::EncodeHead(session_key, session),
                     StatusOf(format::DecodeHead)});

  TurnHeader turn;
  turn.name = "arrival";
  turn.time = 3;
  turn.token_begin = 70;
  turn.token_end = 130;
  turn.blocks = 64;
  turn.block_count = 1;
  turn.window_begin = 64;
  turn.sinks = 32;
  turn.snapshot_chunks = 4;
  const std::string turn_key = format::TurnKey(9, 5);
  samples.push_back(
      {"turn", turn_key, format::EncodeTurn(turn_key, turn), StatusOf(format::DecodeTurn)});

  TurnContent content;
  content.tokens = {5, 6, 7, 8, 9};
  content.passes = {{3, 1, false, 0}, {1, 2, true, 1}};
  content.views = {{}, {{ViewOf("books", {2, 3, 11})}, "both"}};
  content.parts = {{"user", false, 3, "Hello?"}, {"assistant", true, 2, "Hello!"}};
  content.resume = "resume";
  const std::string content_key = format::ContentKey(9, 5);
  samples.push_back({"content", content_key, format::EncodeContent(content_key, content),
                     StatusOf(format::DecodeContent)});

  const std::string rows_key = format::RowsKey(9, 70);
  samples.push_back({"rows", rows_key, format::EncodeRows(rows_key, {70, 75, "some rows"}),
                     StatusOf(format::DecodeRows)});

  Block block = RandomBlock(layout, 32, 9, 1);
  block.header.id = 12;
  const std::string payload_key = format::PayloadRecordKey({4, 7, Part::kValues, 32});
  samples.push_back({"payload", payload_key,
                     format::EncodePayload(payload_key, layout, 9, block.values[1]),
                     StatusOf(format::DecodePayload)});

  const std::string embedding_key = format::EmbeddingKey(4, 32);
  samples.push_back(
      {"embedding", embedding_key,
       format::EncodeEmbedding(embedding_key, layout, block.header, block.representatives),
       [layout](std::string_view key, std::string_view value) {
         BlockHeader header;
         std::vector<uint16_t> representatives;
         return format::DecodeEmbedding(key, value, layout, &header, &representatives);
       }});

  format::BlobHead head;
  head.bytes = 3u << 20;
  head.chunks = 3;
  const std::string blob_key = format::BlobKey(format::SessionPrefix("friend"), 0);
  samples.push_back({"blob head", blob_key, format::EncodeBlobHead(blob_key, head),
                     StatusOf(format::DecodeBlobHead)});
  return samples;
}

// A value with a checksum that fits its bytes, whatever they are: so that the checks behind the
// checksum are reached.
std::string Sealed(std::string_view key, std::string value) {
  const uint64_t checksum = RecordChecksum(key, value);
  return value.append(reinterpret_cast<const char*>(&checksum), sizeof checksum);
}

TEST(Format, EveryKindOfRecordIsReadBack) {
  for (const Sample& sample : Samples()) {
    const Status status = sample.decode(sample.key, sample.value);
    EXPECT_TRUE(status.ok()) << sample.name << ": " << testing::Explain(status);
  }
  DocumentRecord document;
  document.id = 1;
  document.collection = "c";
  document.source = "s/ü.txt";
  document.content_hash = Sha256Hex("");
  document.bytes = 5;
  document.tokens = 4;
  document.lineage = 3;
  document.complete = true;
  document.committed_tokens = 4;
  document.committed_blocks = 1;
  const std::string key = format::DocumentKey("c", document.source, 1);
  EID_ASSERT_RESULT(const DocumentRecord read,
                    format::DecodeDocument(key, format::EncodeDocument(key, document)));
  EXPECT_EQ(read.source, document.source);
  EXPECT_EQ(read.content_hash, document.content_hash);
  EXPECT_EQ(read.bytes, 5u);
  EXPECT_EQ(read.tokens, 4u);
  EXPECT_EQ(read.lineage, 3u);
  EXPECT_TRUE(read.complete);
  EXPECT_EQ(read.committed_tokens, 4u);
  EXPECT_EQ(read.committed_blocks, 1u);
}

TEST(Format, EveryFlippedBitIsCorruption) {
  for (const Sample& sample : Samples()) {
    for (size_t bit = 0; bit < sample.value.size() * 8; ++bit) {
      std::string damaged = sample.value;
      damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
      ASSERT_EQ(sample.decode(sample.key, damaged).code(), Code::kCorruption)
          << sample.name << ", bit " << bit;
    }
    for (size_t bit = 0; bit < sample.key.size() * 8; ++bit) {
      std::string damaged = sample.key;
      damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
      ASSERT_EQ(sample.decode(damaged, sample.value).code(), Code::kCorruption)
          << sample.name << ", key bit " << bit;
    }
  }
}

TEST(Format, EveryTruncationAndExtensionIsCorruptionEvenWithAFittingChecksum) {
  for (const Sample& sample : Samples()) {
    const std::string body = sample.value.substr(0, sample.value.size() - 8);
    for (size_t length = 0; length < sample.value.size(); ++length) {
      ASSERT_EQ(sample.decode(sample.key, sample.value.substr(0, length)).code(), Code::kCorruption)
          << sample.name << ", " << length;
    }
    if (sample.name == "bytes") continue;  // any length is good there
    for (size_t length = 0; length < body.size(); ++length) {
      ASSERT_EQ(sample.decode(sample.key, Sealed(sample.key, body.substr(0, length))).code(),
                Code::kCorruption)
          << sample.name << ", " << length;
    }
    ASSERT_EQ(sample.decode(sample.key, Sealed(sample.key, body + 'x')).code(), Code::kCorruption)
        << sample.name;
  }
}

// Random bytes, and random changes of valid ones, under a checksum that fits: the decoder either
// refuses them or gives a record that is possible; it never reads outside (run under ASan too).
TEST(Format, RandomBytesNeverCrashADecoder) {
  std::mt19937_64 random(20261124);
  const std::vector<Sample> samples = Samples();
  int refused = 0;
  int tried = 0;
  for (int round = 0; round < 3000; ++round) {
    for (const Sample& sample : samples) {
      std::string value;
      if (round % 2 == 0) {
        value.resize(random() % 200);
        for (char& byte : value) byte = static_cast<char>(random());
        if (!value.empty() && round % 4 == 0) value[0] = static_cast<char>(format::kRecordVersion);
      } else {
        value = sample.value.substr(0, sample.value.size() - 8);
        for (uint64_t change = random() % 4 + 1; change > 0; --change) {
          value[random() % std::min<size_t>(value.size(), 48)] = static_cast<char>(random());
        }
      }
      std::string key = sample.key;
      if (round % 8 == 0) {
        key.resize(random() % 24);
        for (char& byte : key) byte = static_cast<char>(random());
      }
      const Status status = sample.decode(key, Sealed(key, value));
      ++tried;
      if (!status.ok()) {
        ++refused;
        EXPECT_TRUE(status.code() == Code::kCorruption || status.code() == Code::kUnsupported);
        EXPECT_FALSE(status.message().empty());
      }
      ASSERT_EQ(sample.decode(key, value).ok(), false);  // and without a checksum, never
      for (const Status& parsed :
           {format::ParsePayloadKey(key).status(), format::ParseEmbeddingKey(key).status(),
            format::ParseTextKey(key).status(), format::ParseSessionKey(key).status(),
            format::ParseTaggedId(format::MetaTag::kLineage, key).status()}) {
        EXPECT_TRUE(parsed.ok() || parsed.code() == Code::kCorruption);
      }
    }
  }
  EXPECT_GT(refused, tried / 2);
}

TEST(Format, CountsThatLieDoNotMakeADecoderAllocate) {
  const std::string key = format::PayloadRecordKey({1, 3, Part::kKeys, 0});
  std::string value(1, static_cast<char>(format::kRecordVersion));
  value += std::string("\x02\xff\xff\xff\xff\xff\xff", 7);  // int8, 65,535 of everything
  EXPECT_EQ(format::DecodePayload(key, Sealed(key, value)).status().code(), Code::kCorruption);
  const std::string head_key = format::BlobKey(format::SessionPrefix("s"), 0);
  std::string head(1, static_cast<char>(format::kRecordVersion));
  head += std::string(20, '\xff');
  EXPECT_EQ(format::DecodeBlobHead(head_key, Sealed(head_key, head)).status().code(),
            Code::kCorruption);
}

TEST(Format, PayloadKeysSortByLineageLayerPartAndPosition) {
  std::vector<PayloadKey> keys;
  for (LineageId lineage : {uint64_t{1}, uint64_t{255}, uint64_t{256}, uint64_t{1} << 40}) {
    for (int layer : {0, 1, 255, 256, 65535}) {
      for (Part part : {Part::kKeys, Part::kValues}) {
        for (uint64_t position : {uint64_t{0}, uint64_t{32}, uint64_t{256}, uint64_t{1} << 33}) {
          keys.push_back({lineage, layer, part, position});
        }
      }
    }
  }
  std::string last;
  for (const PayloadKey& key : keys) {
    const std::string bytes = format::PayloadRecordKey(key);
    EXPECT_LT(last, bytes);
    last = bytes;
    EID_ASSERT_RESULT(const PayloadKey parsed, format::ParsePayloadKey(bytes));
    EXPECT_EQ(parsed, key);
  }
}

TEST(Format, APrefixEndsBehindEverythingThatBeginsWithIt) {
  EXPECT_EQ(format::PrefixEnd("ab"), "ac");
  EXPECT_EQ(format::PrefixEnd("a\xff"), "b");
  EXPECT_EQ(format::PrefixEnd("\xff\xff"), "");
  EXPECT_EQ(format::PrefixEnd(""), "");
  EXPECT_LT(format::LineagePrefix(255) + std::string(40, '\xff'),
            format::PrefixEnd(format::LineagePrefix(255)));
  EXPECT_LE(format::PrefixEnd(format::LineagePrefix(255)), format::LineagePrefix(256));
}

TEST(Format, TheBytesOfVersionOneStayWhatTheyAre) {
  // Golden values: a change here is a new format version.
  const std::string key = format::PayloadRecordKey({1, 3, Part::kValues, 32});
  EXPECT_EQ(key, std::string("\0\0\0\0\0\0\0\1\0\3\1\0\0\0\0\0\0\0\x20", 19));
  Layout layout = SmallLayout();
  layout.kv_heads = 1;
  layout.head_dim = 2;
  const std::string value = format::EncodePayload(key, layout, 1, std::string("\x11\x22\x33\x44"));
  EXPECT_EQ(Sha256Hex(value), "a0c79fe7a0826b802975a3681f221b8235761bfe079b4a253745a39b2dacf794");
  std::string all, later;
  for (const Sample& sample : Samples()) {
    // Blocks are random numbers of this library's; the rest is fixed.
    if (sample.name == "payload" || sample.name == "embedding") continue;
    static const std::set<std::string> kCameLater = {"lineage that begins later", "session", "turn",
                                                     "content", "rows"};
    (kCameLater.contains(sample.name) ? later : all) += sample.key + sample.value;
  }
  EXPECT_EQ(Sha256Hex(all), "c67191d04bc7fc2ebf169f3610b136404c37ff2bcdbcfe3dddf2780b613f3c0d");
  EXPECT_EQ(Sha256Hex(later), "1454ab30b3b87007c49f617adb734bef8954bc974a6984ae2efe188593775ded");
}

}  // namespace
}  // namespace eidetic::memory

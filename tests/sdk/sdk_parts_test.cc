// Parts of the SDK that need no weights.
#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include <random>
#include <stdexcept>

#include "memory/hash.h"
#include "sdk/chat_tokens.h"
#include "sdk/error_wall.h"
#include "sdk/passages.h"
#include "sdk/session_record.h"
#include "sdk/turn_record.h"

namespace eidetic::sdk {
namespace {

using memory::Code;

SessionRecord Sample() {
  SessionRecord record;
  record.fingerprint = std::string(64, 'f');
  record.options.window = 512;
  record.options.span_layers = {7, 16};
  record.options.name = "talk";
  record.lineage = 9;
  record.collections = {"books", "notes"};
  record.options.words.attention_threshold = 0;
  record.pins = {{"books", 7, 64, 2.5}};
  record.tokens = {1, 2, 49151};
  record.logits = {0.5f, -1e30f, 3.25f};
  record.sampler = std::string("\0\x01\xff", 3);
  record.sampler_seeded = true;
  record.recall_random = 0xfedcba9876543210;
  record.model_state = std::string(1000, '\x07');
  return record;
}

TEST(SessionRecord, ComesBackAsItWentIn) {
  const SessionRecord in = Sample();
  const auto out = DecodeSessionRecord(EncodeSessionRecord(in), "talk");
  ASSERT_TRUE(out.ok()) << out.status().message();
  EXPECT_EQ(out->fingerprint, in.fingerprint);
  EXPECT_EQ(out->options.window, 512);
  EXPECT_EQ(out->options.span_layers, in.options.span_layers);
  EXPECT_EQ(out->options.name, "talk");
  EXPECT_EQ(out->lineage, 9u);
  EXPECT_EQ(out->collections, in.collections);
  ASSERT_EQ(out->pins.size(), 1u);
  EXPECT_EQ(out->pins[0].collection, "books");
  EXPECT_EQ(out->pins[0].position, 64u);
  EXPECT_EQ(out->pins[0].score, 2.5);
  EXPECT_EQ(out->tokens, in.tokens);
  EXPECT_EQ(out->logits, in.logits);
  EXPECT_EQ(out->sampler, in.sampler);
  EXPECT_TRUE(out->sampler_seeded);
  EXPECT_EQ(out->recall_random, in.recall_random);
  EXPECT_FALSE(out->turn_open);
  EXPECT_EQ(out->model_state, in.model_state);
}

// docs/formats/session.md describes these bytes: whoever changes them changes it, and the version.
TEST(SessionRecord, HasTheBytesOfVersionTwo) {
  const std::string bytes = EncodeSessionRecord(Sample());
  EXPECT_EQ(bytes.substr(0, 13),
            "\xad\x6b"
            "collections");
  EXPECT_NE(bytes.find(std::string("\x67options\xaf\x73"
                                   "attention_threshold\xfa\0\0\0\0\x70"
                                   "candidate_blocks\x18\x80"
                                   "ecodec\x64int8",
                                   62)),
            std::string::npos);
  EXPECT_NE(bytes.find("\x64pins\x81\x84\x65"
                       "books\x07\x18\x40\xfa\x40\x20"),
            std::string::npos);
  EXPECT_NE(bytes.find("\x66tokens\x4c" + std::string("\x01\0\0\0\x02\0\0\0\xff\xbf\0\0", 12)),
            std::string::npos);
  EXPECT_NE(bytes.find("recall_random\x1b\xfe\xdc\xba\x98\x76\x54\x32\x10"), std::string::npos);
  EXPECT_EQ(memory::Sha256Hex(bytes),
            "b55895e9777c6c6ce96344b551b584dbaddb5019f985d967d5f14fa9c5cce1ca");
}

TEST(SessionRecord, OfVersionOneIsReadAsRecalledByAttentionAlone) {
  nlohmann::json old = nlohmann::json::from_cbor(EncodeSessionRecord(Sample()));
  old["version"] = 1;
  old.erase("pins");
  for (const char* key : {"policy", "word_places", "place_threshold", "attention_threshold"}) {
    old["options"].erase(key);
  }
  std::string bytes;
  nlohmann::json::to_cbor(old, bytes);
  const auto out = DecodeSessionRecord(bytes, "talk");
  ASSERT_TRUE(out.ok()) << out.status().message();
  EXPECT_EQ(out->options.policy, memory::RecallPolicy::kAttention);
  EXPECT_TRUE(out->pins.empty());
  EXPECT_EQ(out->tokens, Sample().tokens);
  old["version"] = 3;
  bytes.clear();
  nlohmann::json::to_cbor(old, bytes);
  EXPECT_EQ(DecodeSessionRecord(bytes, "talk").status().code(), Code::kUnsupported);
}

TEST(SessionRecord, TruncatedAtAnyByteIsAnErrorThatNamesTheSession) {
  const std::string bytes = EncodeSessionRecord(Sample());
  for (size_t length = 0; length < bytes.size(); ++length) {
    const auto out = DecodeSessionRecord(bytes.substr(0, length), "talk");
    ASSERT_FALSE(out.ok()) << length;
    EXPECT_EQ(out.status().code(), Code::kCorruption);
    EXPECT_NE(out.status().message().find("'talk'"), std::string::npos);
  }
}

TEST(SessionRecord, RandomDamageNeverCrashes) {
  const std::string bytes = EncodeSessionRecord(Sample());
  std::mt19937_64 random(1);
  int refused = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string damaged = bytes;
    for (int flips = 0; flips < 3; ++flips) {
      damaged[random() % damaged.size()] ^= static_cast<char>(1 << (random() % 8));
    }
    if (!DecodeSessionRecord(damaged, "talk").ok()) ++refused;
  }
  EXPECT_GT(refused, 0);  // the rest changed a value; the archive's checksum guards these
}

TEST(TurnRecord, SettingsHaveTheOldestVersionThatSaysAllOfThem) {
  const auto version = [](const SessionOptions& options) {
    const std::string bytes = EncodeSettings({"f1", options});
    const auto back = DecodeSettings(bytes, "talk");
    EXPECT_TRUE(back.ok()) << back.status().message();
    EXPECT_EQ(options.layer_group, back->options.layer_group);
    EXPECT_EQ(options.successor_blocks, back->options.successor_blocks);
    EXPECT_EQ(options.linger, back->options.linger);
    return nlohmann::json::from_cbor(bytes).at("version").get<int>();
  };
  SessionOptions options;
  options.span_layers = {1};
  EXPECT_EQ(1, version(options));
  options.layer_group = 2;
  EXPECT_EQ(2, version(options));
  options.successor_blocks = 3;
  EXPECT_EQ(3, version(options));
  options.layer_group = 1;
  EXPECT_EQ(3, version(options));
  options.linger = 0.5;
  EXPECT_EQ(4, version(options));
  options.successor_blocks = 0;
  EXPECT_EQ(4, version(options));
  nlohmann::json newer = nlohmann::json::from_cbor(EncodeSettings({"f1", options}));
  newer["version"] = 5;
  std::string bytes;
  nlohmann::json::to_cbor(newer, bytes);
  EXPECT_EQ(Code::kUnsupported, DecodeSettings(bytes, "talk").status().code());
}

TEST(ErrorWall, TellsMemoryThatRanOutFromADefect) {
  const memory::Status huge = BehindWall([]() -> memory::Status {
    at::empty({int64_t{1} << 46}, at::kFloat);  // more than an address space
    return memory::Status();
  });
  EXPECT_EQ(huge.code(), Code::kOutOfMemory) << huge.message();
  EXPECT_EQ(huge.message().find('\n'), std::string::npos);
  const memory::Status defect =
      BehindWall([]() -> memory::Status { throw std::logic_error("a defect\nwith a trace"); });
  EXPECT_EQ(defect.code(), Code::kInternal);
  EXPECT_EQ(defect.message(), "a defect");
}

TEST(StopTextFilter, HoldsBackWhatMayBecomeTheStopText) {
  StopTextFilter filter("\n\nQ:");
  EXPECT_EQ(filter.Push("one\n"), "one");
  EXPECT_EQ(filter.Push("two\n\n"), "\ntwo");
  EXPECT_EQ(filter.Push("Q"), "");
  EXPECT_EQ(filter.Push(": three"), "");
  EXPECT_TRUE(filter.stopped());
  EXPECT_EQ(filter.Finish(), "");
}

TEST(StopTextFilter, GivesEverythingWhenTheStopTextNeverComes) {
  StopTextFilter filter("###");
  std::string shown;
  for (const char* piece : {"a#", "b##", "c", "##"}) shown += filter.Push(piece);
  shown += filter.Finish();
  EXPECT_EQ(shown, "a#b##c##");
  EXPECT_FALSE(filter.stopped());
}

// A block of the session's own past at `position`, in the span of every choice.
void AddUse(RecallRecord* record, uint64_t position, double retrieval,
            const std::map<int, LayerUse>& layers) {
  BlockUse& use = record->uses[{0, 1, position}];
  use.block.lineage = 1;
  use.block.position = position;
  use.block.tokens = 32;
  use.block.text_begin = 4 * position;
  use.block.text_end = 4 * position + 128;
  use.retrieval = retrieval;
  use.layers = layers;
}

// Four tokens of an answer. Layer 3 pays much to everything, and most to position 0; layer 7 pays
// little, but all of it to position 320.
RecallRecord LookedUpInLayerSeven() {
  RecallRecord record;
  record.selections = 8;
  record.layers = {{3, {4, 0, 4}}, {7, {4, 0, 4}}};
  AddUse(&record, 0, 4.0, {{3, {4, 0, 1.2}}, {7, {2, 0, 0.01}}});
  AddUse(&record, 320, 1.0, {{3, {4, 0, 0.8}}, {7, {4, 0, 0.36}}});
  AddUse(&record, 640, 0.5, {{3, {1, 0, 0.5}}, {7, {4, 0, 0.01}}});
  AddUse(&record, 672, 0.5, {{3, {3, 0, 0.5}}, {7, {1, 0, 0.02}}});
  return record;
}

std::vector<Passage> OwnPassages(const RecallRecord& record, PassageOrder order,
                                 int focus_layer = -1) {
  PassageSource own;
  own.session = "talk";
  own.text = [](uint64_t begin, uint64_t end) {
    return std::to_string(begin) + "-" + std::to_string(end);
  };
  auto passages = PassagesOf(record, {own}, 0, order, focus_layer);
  EXPECT_TRUE(passages.ok()) << passages.status().message();
  return *passages;
}

TEST(Passages, StandInTheOrderOfTheLayerThatLookedSomethingUp) {
  const std::vector<Passage> passages = OwnPassages(LookedUpInLayerSeven(), PassageOrder::kByFocus);
  ASSERT_EQ(passages.size(), 3u);  // 640 and 672 are neighbours: one passage
  EXPECT_EQ(passages[0].token_begin, 320u);
  EXPECT_EQ(passages[0].focus_layer, 7);
  EXPECT_NEAR(passages[0].focus, 0.36 / 4, 1e-12);
  EXPECT_NEAR(passages[0].attention, (0.8 + 0.36) / 8, 1e-12);  // two layers, four tokens
  EXPECT_EQ(passages[1].token_begin, 640u);
  EXPECT_EQ(passages[1].text, "640-704");
  EXPECT_NEAR(passages[1].focus, 0.03 / 4, 1e-12);
  EXPECT_NEAR(passages[1].presence, 1.0, 1e-12);
  EXPECT_EQ(passages[2].token_begin, 0u);
  EXPECT_GT(passages[2].attention, passages[0].attention);
}

TEST(Passages, StandInTheOrderOfTheFocusLayerThatTheProfileNames) {
  const std::vector<Passage> passages =
      OwnPassages(LookedUpInLayerSeven(), PassageOrder::kByFocus, /*focus_layer=*/3);
  ASSERT_EQ(passages.size(), 3u);
  EXPECT_EQ(passages[0].token_begin, 0u);
  EXPECT_EQ(passages[0].focus_layer, 3);
  EXPECT_NEAR(passages[0].focus, 1.2 / 4, 1e-12);
  // A layer that served nothing is no help.
  EXPECT_EQ(OwnPassages(LookedUpInLayerSeven(), PassageOrder::kByFocus, 5)[0].focus_layer, 7);
}

TEST(Passages, SayWhatEachLayerPaid) {
  const Passage passage =
      OwnPassages(LookedUpInLayerSeven(), PassageOrder::kByFocus)[1];  // 640 and 672
  ASSERT_EQ(passage.layers.size(), 2u);
  EXPECT_EQ(passage.layers[0].layer, 3);
  EXPECT_NEAR(passage.layers[0].attention, 1.0 / 4, 1e-12);
  EXPECT_NEAR(passage.layers[0].presence, 3.0 / 4,
              1e-12);  // of the block that was there more often
  EXPECT_EQ(passage.layers[1].layer, 7);
  EXPECT_NEAR(passage.layers[1].attention, 0.03 / 4, 1e-12);
  EXPECT_NEAR(passage.layers[1].presence, 1.0, 1e-12);
}

TEST(Passages, OfASearchStandInTheOrderOfTheirScore) {
  const std::vector<Passage> passages = OwnPassages(LookedUpInLayerSeven(), PassageOrder::kByScore);
  ASSERT_EQ(passages.size(), 3u);
  EXPECT_EQ(passages[0].token_begin, 0u);
  EXPECT_NEAR(passages[0].score, 4.0 / 8, 1e-12);
  EXPECT_NEAR(passages[1].score + passages[2].score, 2.0 / 8, 1e-12);
}

TEST(Passages, NobodyAttendedToHaveNoFocusLayer) {
  RecallRecord record = LookedUpInLayerSeven();
  for (auto& [key, use] : record.uses) {
    for (auto& [layer, of_layer] : use.layers) of_layer.answer_attention = 0;
  }
  for (const Passage& passage : OwnPassages(record, PassageOrder::kByFocus)) {
    EXPECT_EQ(passage.focus_layer, -1);
    EXPECT_EQ(passage.focus, 0);
  }
}

}  // namespace
}  // namespace eidetic::sdk

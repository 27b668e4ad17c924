// Parts of the SDK that need no weights.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "sdk/chat_tokens.h"
#include "sdk/fingerprint.h"
#include "sdk/session_record.h"

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
  record.tokens = {1, 2, 49151};
  record.logits = {0.5f, -1e30f, 3.25f};
  record.sampler = std::string("\0\x01\xff", 3);
  record.sampler_seeded = true;
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
  EXPECT_EQ(out->tokens, in.tokens);
  EXPECT_EQ(out->logits, in.logits);
  EXPECT_EQ(out->sampler, in.sampler);
  EXPECT_TRUE(out->sampler_seeded);
  EXPECT_FALSE(out->turn_open);
  EXPECT_EQ(out->model_state, in.model_state);
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

TEST(CachedFileHash, FollowsTheFileAndSurvivesADamagedCache) {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("eidetic-hash-" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  const std::string file = (folder / "weights").string();
  const std::string cache = (folder / "cache").string();
  std::ofstream(file) << "abc";
  const auto first = CachedFileHash(file, cache);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(*first, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(*CachedFileHash(file, cache), *first);
  std::ofstream(file) << "another content";
  EXPECT_NE(*CachedFileHash(file, cache), *first);
  for (const auto& entry : std::filesystem::directory_iterator(folder / "cache" / "hashes")) {
    std::ofstream(entry.path()) << "{not json";
  }
  std::ofstream(file) << "abc";
  EXPECT_EQ(*CachedFileHash(file, cache), *first);
  EXPECT_EQ(CachedFileHash((folder / "absent").string(), cache).status().code(), Code::kNotFound);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace eidetic::sdk

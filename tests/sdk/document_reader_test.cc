#include "sdk/document_reader.h"

#include <limits>

#include "tests/sdk/sdk_fixture.h"

namespace eidetic::sdk {
namespace {

using memory::Code;

IngestOptions Options() {
  IngestOptions options;
  options.collection = "books";
  options.source = "book.txt";
  options.window = 256;
  options.segment = 128;
  return options;
}

class DocumentReaderTest : public SdkTest {
 protected:
  static std::string Digest(const memory::Archive& archive) {
    const memory::VerifyReport report = Must(archive.Verify({}));
    EXPECT_TRUE(report.clean()) << report.damage.front().what;
    EXPECT_EQ(report.collections.size(), 1u);
    return report.collections.at(0).digest;
  }
};

TEST_F(DocumentReaderTest, EveryTokenAndByteOfADocumentIsInExactlyOneBlock) {
  const auto engine = HybridEngine();
  auto archive = OpenArchive();
  const std::string text = Prose(3000);
  const IngestResult read = Must(IngestDocument(*engine, archive.get(), text, Options()));
  const std::vector<int32_t> tokens = engine->tokenizer().Encode(text, false);
  const size_t sinks = 32;
  EXPECT_EQ(read.tokens, tokens.size() + sinks);
  EXPECT_EQ(read.tokens_read, tokens.size() + sinks);
  const auto document = Must(archive->FindDocument("books", "book.txt"));
  ASSERT_TRUE(document.has_value());
  EXPECT_TRUE(document->complete);

  std::vector<int32_t> stored;
  std::string covered;
  MustOk(archive->store().ScanBlocks(
      document->lineage,
      [&](const memory::BlockHeader& header, const std::vector<uint16_t>&) -> memory::Status {
        EXPECT_EQ(header.position, stored.size());
        EXPECT_EQ(header.text_begin, covered.size());
        stored.insert(stored.end(), header.tokens.begin(), header.tokens.end());
        covered += text.substr(header.text_begin, header.text_end - header.text_begin);
        return memory::Status();
      }));
  ASSERT_GE(stored.size(), sinks);
  stored.erase(stored.begin(), stored.begin() + static_cast<std::ptrdiff_t>(sinks));
  EXPECT_EQ(stored, tokens);
  EXPECT_EQ(covered, text);
  // The block of the sinks is kept, but not searched.
  EXPECT_EQ(Must(archive->Index("books", memory::IndexKind::kExact, 1))->size(),
            static_cast<int64_t>(read.blocks) - 1);
}

TEST_F(DocumentReaderTest, ADocumentShorterThanTheSinksIsWhollyStored) {
  const auto engine = HybridEngine();
  auto archive = OpenArchive();
  const IngestResult read =
      Must(IngestDocument(*engine, archive.get(), "A very short note.", Options()));
  EXPECT_EQ(read.blocks, 2u);  // the sinks, and the note
  EXPECT_EQ(Must(archive->Index("books", memory::IndexKind::kExact, 1))->size(), 1);
  EXPECT_EQ(Must(archive->FindDocument("books", "book.txt"))->committed_tokens, read.tokens);
}

TEST_F(DocumentReaderTest, AStoppedIngestGoesOnAndEndsInTheSameBytes) {
  const auto engine = HybridEngine();
  const std::string text = Prose(4000);
  std::string whole;
  {
    auto archive = OpenArchive();
    Must(IngestDocument(*engine, archive.get(), text, Options()));
    whole = Digest(*archive);
  }
  std::filesystem::remove_all(ArchivePath());

  uint64_t kept = 0;
  {
    auto archive = OpenArchive();
    IngestOptions stopped = Options();
    stopped.progress = [](const IngestProgress& progress) { return progress.tokens < 512; };
    const auto result = IngestDocument(*engine, archive.get(), text, stopped);
    EXPECT_EQ(result.status().code(), Code::kCancelled);
    EXPECT_NE(result.status().message().find("512"), std::string::npos);
    const auto documents = Must(archive->Documents("books"));
    ASSERT_EQ(documents.size(), 1u);
    EXPECT_FALSE(documents[0].complete);
    EXPECT_EQ(Must(archive->Index("books", memory::IndexKind::kExact, 1))->size(), 0);
    kept = documents[0].committed_tokens;
    EXPECT_GT(kept, 0u);
  }
  auto archive = OpenArchive();
  const IngestResult resumed = Must(IngestDocument(*engine, archive.get(), text, Options()));
  EXPECT_EQ(resumed.outcome, IngestOutcome::kResumed);
  EXPECT_EQ(resumed.tokens_read, resumed.tokens - 512);
  EXPECT_EQ(Digest(*archive), whole);
}

TEST_F(DocumentReaderTest, UnchangedIsSkippedAndChangedReplacesTheOldVersion) {
  const auto engine = HybridEngine();
  auto archive = OpenArchive();
  const std::string first = Prose(1500);
  const std::string second = "Now it is another text. " + Prose(800);
  EXPECT_EQ(Must(IngestDocument(*engine, archive.get(), first, Options())).outcome,
            IngestOutcome::kAdded);
  const IngestResult again = Must(IngestDocument(*engine, archive.get(), first, Options()));
  EXPECT_EQ(again.outcome, IngestOutcome::kUnchanged);
  EXPECT_EQ(again.tokens_read, 0u);
  const IngestResult replaced = Must(IngestDocument(*engine, archive.get(), second, Options()));
  EXPECT_EQ(replaced.outcome, IngestOutcome::kReplaced);
  const auto documents = Must(archive->Documents("books"));
  ASSERT_EQ(documents.size(), 1u);
  EXPECT_EQ(documents[0].bytes, second.size());
  EXPECT_EQ(Must(archive->Index("books", memory::IndexKind::kExact, 1))->size(),
            static_cast<int64_t>(replaced.blocks) - 1);
  EXPECT_EQ(Must(archive->store().Lineages()).size(), 1u);
  Digest(*archive);
}

TEST_F(DocumentReaderTest, ReadAgainItReplacesTheOldVersionInOneStep) {
  const auto engine = HybridEngine();
  const std::string text = Prose(3000);
  auto archive = OpenArchive();
  const IngestResult first = Must(IngestDocument(*engine, archive.get(), text, Options()));
  const std::string digest = Digest(*archive);

  IngestOptions stopped = Options();
  stopped.again = true;
  stopped.progress = [](const IngestProgress& progress) { return progress.tokens < 256; };
  EXPECT_EQ(IngestDocument(*engine, archive.get(), text, stopped).status().code(),
            Code::kCancelled);
  EXPECT_EQ(Must(archive->FindDocument("books", "book.txt"))->id, first.document);
  EXPECT_EQ(Must(archive->Index("books", memory::IndexKind::kExact, 1))->size(),
            static_cast<int64_t>(first.blocks) - 1);
  EXPECT_EQ(Digest(*archive), digest);
  // Not asked for again, it is as unchanged as before.
  EXPECT_EQ(Must(IngestDocument(*engine, archive.get(), text, Options())).outcome,
            IngestOutcome::kUnchanged);

  IngestOptions again = Options();
  again.again = true;
  const IngestResult resumed = Must(IngestDocument(*engine, archive.get(), text, again));
  EXPECT_EQ(resumed.outcome, IngestOutcome::kResumed);
  EXPECT_EQ(resumed.tokens_read, resumed.tokens - 256);
  EXPECT_EQ(Must(IngestDocument(*engine, archive.get(), text, again)).outcome,
            IngestOutcome::kReplaced);
  EXPECT_EQ(Must(archive->Documents("books")).size(), 1u);
  EXPECT_GT(Must(archive->FindDocument("books", "book.txt"))->id, resumed.document);
  EXPECT_EQ(Must(archive->store().Lineages()).size(), 1u);
  EXPECT_EQ(Digest(*archive), digest);
}

TEST_F(DocumentReaderTest, AnInterruptedChangeThatWasTakenBackLeavesNothingBehind) {
  const auto engine = HybridEngine();
  auto archive = OpenArchive();
  const std::string first = Prose(500);
  Must(IngestDocument(*engine, archive.get(), first, Options()));
  IngestOptions stopped = Options();
  stopped.progress = [](const IngestProgress&) { return false; };
  EXPECT_EQ(IngestDocument(*engine, archive.get(), Prose(1500), stopped).status().code(),
            Code::kCancelled);
  EXPECT_EQ(Must(archive->Documents("books")).size(), 2u);
  EXPECT_EQ(Must(IngestDocument(*engine, archive.get(), first, Options())).outcome,
            IngestOutcome::kUnchanged);
  EXPECT_EQ(Must(archive->Documents("books")).size(), 1u);
  Digest(*archive);
}

TEST_F(DocumentReaderTest, WhatIsNoTextIsRefusedWithTheByteThatShowsIt) {
  const auto engine = HybridEngine();
  auto archive = OpenArchive();
  auto refuse = [&](const std::string& text, const char* expected) {
    const auto result = IngestDocument(*engine, archive.get(), text, Options());
    EXPECT_EQ(result.status().code(), Code::kInvalidArgument);
    EXPECT_NE(result.status().message().find(expected), std::string::npos)
        << result.status().message();
  };
  refuse("", "empty");
  refuse(std::string("text\0more", 9), "byte 4");
  refuse("caf\xe9 au lait", "byte 3");
  refuse("\xed\xa0\x80", "byte 0");       // a surrogate
  refuse("ab\xc0\xaf", "byte 2");         // overlong
  refuse("tail \xf0\x9f\x98", "byte 5");  // cut in the middle
  EXPECT_TRUE(Must(archive->Collections()).empty());
}

TEST_F(DocumentReaderTest, OptionsOutOfRangeLeaveNothingBehind) {
  const auto engine = HybridEngine();
  auto archive = OpenArchive();
  auto refuse = [&](const char* named, auto change) {
    IngestOptions options = Options();
    change(&options);
    const auto result = IngestDocument(*engine, archive.get(), "A text.", options);
    EXPECT_EQ(result.status().code(), Code::kInvalidArgument) << named;
    EXPECT_NE(result.status().message().find(named), std::string::npos)
        << result.status().message();
  };
  refuse("segment", [](IngestOptions* options) { options->segment = -5; });
  refuse("window", [](IngestOptions* options) { options->window = -3; });
  refuse("sinks", [](IngestOptions* options) { options->sinks = 7; });
  refuse("commit_seconds", [](IngestOptions* options) {
    options->commit_seconds = std::numeric_limits<double>::quiet_NaN();
  });
  EXPECT_TRUE(Must(archive->Collections()).empty());
}

TEST_F(DocumentReaderTest, SettingsLeftOpenAreTheCollectionsOwn) {
  const auto engine = HybridEngine();
  auto archive = OpenArchive();
  IngestOptions first = Options();
  first.sinks = 64;
  first.codec = kernels::Codec::kFp16;
  Must(IngestDocument(*engine, archive.get(), "A text.", first));
  IngestOptions open;
  open.collection = "books";
  open.source = "another.txt";
  EXPECT_EQ(Must(IngestDocument(*engine, archive.get(), "A text.", open)).outcome,
            IngestOutcome::kAdded);
  const auto collection = Must(archive->Collection("books"));
  EXPECT_EQ(collection.window, 256);
  EXPECT_EQ(collection.sinks, 64);
  EXPECT_EQ(collection.segment, 128);
  EXPECT_EQ(collection.layout.codec, kernels::Codec::kFp16);

  auto refuse = [&](const char* own, const char* given, auto change) {
    IngestOptions options = open;
    change(&options);
    const auto status = IngestDocument(*engine, archive.get(), "A text.", options).status();
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
    EXPECT_NE(status.message().find(own), std::string::npos) << status.message();
    EXPECT_NE(status.message().find(given), std::string::npos) << status.message();
    EXPECT_NE(status.remedy().find("leave them open"), std::string::npos) << status.remedy();
  };
  refuse("window 256", "1024", [](IngestOptions* options) { options->window = 1024; });
  refuse("sinks 64", "32", [](IngestOptions* options) { options->sinks = 32; });
  refuse("sinks 64", "not 0", [](IngestOptions* options) { options->sinks = 0; });
  refuse("segment 128", "512", [](IngestOptions* options) { options->segment = 512; });
  refuse("fp16", "int8", [](IngestOptions* options) { options->codec = kernels::Codec::kInt8; });

  IngestOptions other = open;
  other.collection = "notes";
  Must(IngestDocument(*engine, archive.get(), "A text.", other));
  const auto made = Must(archive->Collection("notes"));
  EXPECT_EQ(made.window, 1024);
  EXPECT_EQ(made.sinks, 32);
  EXPECT_EQ(made.segment, 512);
  EXPECT_EQ(made.layout.codec, kernels::Codec::kInt8);
}

TEST_F(DocumentReaderTest, ATextWithoutTokensIsRefused) {
  const auto engine = HybridEngine();
  auto archive = OpenArchive();
  const auto result = IngestDocument(*engine, archive.get(), "\x04\x06", Options());
  EXPECT_EQ(result.status().code(), Code::kInvalidArgument);
  EXPECT_NE(result.status().message().find("no text"), std::string::npos)
      << result.status().message();
}

}  // namespace
}  // namespace eidetic::sdk

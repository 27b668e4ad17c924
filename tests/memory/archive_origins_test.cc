// What the archive keeps of the originals that its texts were extracted from.
#include <gtest/gtest.h>

#include "memory/archive.h"
#include "memory/blob.h"
#include "memory/format.h"
#include "memory/hash.h"
#include "tests/memory/fault_record_store.h"
#include "tests/memory/test_blocks.h"

namespace eidetic::memory {
namespace {

using testing::FaultRecordStore;
using testing::RandomBlock;
using testing::SmallLayout;

constexpr uint64_t kTokens = 40;

class ArchiveOrigins : public ::testing::Test {
 protected:
  void SetUp() override {
    Reopen();
    CollectionRecord books;
    books.name = "books";
    books.layout = SmallLayout();
    EID_ASSERT_OK(archive_->EnsureCollection(books).status());
  }

  void Reopen() {
    archive_.reset();
    ArchiveOptions options;
    options.path = "in RAM";
    options.create = true;
    EID_ASSERT_RESULT(archive_, Archive::OpenOver(records_, options));
  }

  // Every byte of the text stands `shift` bytes later in the original.
  static DocumentOrigin Shifted(uint64_t shift) {
    DocumentOrigin origin;
    origin.format = "html";
    origin.original_bytes = kTokens + shift + 7;
    origin.map =
        TextMap::Make({{0, kTokens, shift, kTokens}}, kTokens, origin.original_bytes).value();
    return origin;
  }

  Result<std::unique_ptr<DocumentWriter>> Begin(const DocumentOrigin& origin, char filling = 'x') {
    const std::string text(kTokens, filling);
    return archive_->BeginDocument("books", "page.html", Sha256Hex(text), text, kTokens, origin);
  }
  static Status Finish(DocumentWriter* writer) {
    for (uint64_t position = 0; position < kTokens;) {
      const int tokens = testing::BlockTokens(SmallLayout(), position, kTokens);
      EID_RETURN_IF_ERROR(writer->Append(RandomBlock(SmallLayout(), position, tokens, 1)));
      position += static_cast<uint64_t>(tokens);
    }
    return writer->Finish();
  }
  void Ingest(const DocumentOrigin& origin, char filling = 'x') {
    EID_ASSERT_RESULT(auto writer, Begin(origin, filling));
    EID_ASSERT_OK(Finish(writer.get()));
  }
  DocumentRecord Document() {
    auto found = archive_->FindDocument("books", "page.html");
    EXPECT_TRUE(found.ok() && found->has_value());
    return **found;
  }
  // Where the text's byte 3 stands in the original.
  uint64_t PlaceOfByteThree() {
    const auto map = archive_->MapOf(Document());
    EXPECT_TRUE(map.ok()) << testing::Explain(map.status());
    return map->ToOriginal({3, 4}).begin;
  }
  bool Clean() {
    const auto report = archive_->Verify(nullptr);
    EXPECT_TRUE(report.ok()) << testing::Explain(report.status());
    return report->clean();
  }

  std::shared_ptr<FaultRecordStore> records_ = std::make_shared<FaultRecordStore>();
  std::shared_ptr<Archive> archive_;
};

TEST_F(ArchiveOrigins, AMapIsKeptWithItsDocumentAndGoesWithIt) {
  Ingest(Shifted(5));
  Reopen();
  EXPECT_EQ(Document().format, "html");
  EXPECT_EQ(Document().original_bytes, kTokens + 12);
  EXPECT_EQ(PlaceOfByteThree(), 8u);
  EXPECT_TRUE(Clean());
  EXPECT_EQ(records_->Keys(Family::kText).size(), 3u);  // the text; the map's head and its bytes
  EID_ASSERT_OK(archive_->RemoveDocument(Document().id));
  EXPECT_TRUE(records_->Keys(Family::kText).empty());
  EXPECT_TRUE(Clean());
}

TEST_F(ArchiveOrigins, ATextThatIsItsOriginalIsWrittenAsEver) {
  Ingest({});
  const DocumentRecord document = Document();
  const std::string key = format::DocumentKey("books", "page.html", document.id);
  EID_ASSERT_RESULT(const std::string value, records_->Get(Family::kMeta, key));
  EXPECT_EQ(value[0], 1);  // the record's version
  EXPECT_EQ(records_->Keys(Family::kText).size(), 1u);
  EXPECT_EQ(PlaceOfByteThree(), 3u);
}

TEST_F(ArchiveOrigins, AnOriginThatChangedAroundTheSameTextIsBroughtUpToDate) {
  Ingest(Shifted(5));
  const DocumentId id = Document().id;
  EID_ASSERT_OK(archive_->UpdateOrigin(id, Shifted(9)));
  EXPECT_EQ(PlaceOfByteThree(), 12u);
  const uint64_t writes = records_->writes();
  EID_ASSERT_OK(archive_->UpdateOrigin(id, Shifted(9)));
  EXPECT_EQ(records_->writes(), writes);  // nothing to write
  Reopen();
  EXPECT_EQ(PlaceOfByteThree(), 12u);
  EXPECT_TRUE(Clean());
  EID_ASSERT_OK(archive_->UpdateOrigin(id, {}));
  EXPECT_EQ(PlaceOfByteThree(), 3u);
  EXPECT_EQ(records_->Keys(Family::kText).size(), 1u);
  EXPECT_TRUE(Clean());
  EXPECT_EQ(archive_->UpdateOrigin(99, {}).code(), Code::kNotFound);
}

TEST_F(ArchiveOrigins, AnInterruptedIngestGoesOnWithTheNewerOrigin) {
  {
    EID_ASSERT_RESULT(auto writer, Begin(Shifted(5)));
    EID_ASSERT_OK(writer->Append(RandomBlock(SmallLayout(), 0, 32, 1)));
    EID_ASSERT_OK(writer->Commit("state"));
  }
  Reopen();
  EID_ASSERT_RESULT(auto writer, Begin(Shifted(2)));
  EID_ASSERT_RESULT(const std::string state, writer->ResumeState());
  EXPECT_EQ(state, "state");
  EID_ASSERT_OK(writer->Append(RandomBlock(SmallLayout(), 32, 8, 1)));
  EID_ASSERT_OK(writer->Finish());
  EXPECT_EQ(PlaceOfByteThree(), 5u);
  EXPECT_TRUE(Clean());
}

TEST_F(ArchiveOrigins, ANewVersionBringsItsOwnMap) {
  Ingest(Shifted(5));
  Ingest(Shifted(6), 'y');
  EXPECT_EQ(PlaceOfByteThree(), 9u);
  EXPECT_EQ(records_->Keys(Family::kText).size(), 3u);
  EXPECT_TRUE(Clean());
}

TEST_F(ArchiveOrigins, ARangeToForgetIsOfTheOriginal) {
  Ingest(Shifted(30));
  ForgetRequest request;
  request.collection = "books", request.source = "page.html";
  request.has_range = true;
  request.byte_begin = 0, request.byte_end = 30;  // markup
  const auto markup = archive_->Forget(request);
  EXPECT_EQ(markup.status().code(), Code::kInvalidArgument);
  EXPECT_NE(markup.status().message().find("nothing of the text"), std::string::npos);
  request.byte_end = kTokens + 38;
  const auto beyond = archive_->Forget(request);
  EXPECT_EQ(beyond.status().code(), Code::kInvalidArgument);
  EXPECT_NE(beyond.status().message().find("has 77"), std::string::npos);

  // Bytes 35 and 36 of the text would be of the second block.
  request.byte_begin = 35, request.byte_end = 37;
  EID_ASSERT_RESULT(const ForgetReceipt receipt, archive_->Forget(request));
  ASSERT_EQ(receipt.documents.size(), 1u);
  EXPECT_EQ(receipt.documents[0].byte_begin, 30u);
  EXPECT_EQ(receipt.documents[0].byte_end, 62u);
  EXPECT_EQ(receipt.text_bytes, 32u);
  EID_ASSERT_RESULT(const std::string left, archive_->Text(Document().id, 0, kTokens));
  EXPECT_EQ(left, std::string(32, ' ') + std::string(8, 'x'));
  EXPECT_EQ(PlaceOfByteThree(), 33u);
  EXPECT_TRUE(Clean());

  request.byte_begin = 0, request.byte_end = kTokens + 37;
  EID_ASSERT_RESULT(const ForgetReceipt all, archive_->Forget(request));
  EXPECT_TRUE(all.documents.at(0).whole);
  EXPECT_EQ(all.documents.at(0).byte_end, kTokens + 37);
}

// The end of a page may stand first in its text: what is named is then in two places of it.
TEST_F(ArchiveOrigins, ARangeOfTheOriginalMayBeSeveralOfTheText) {
  DocumentOrigin origin = Shifted(0);
  origin.map = TextMap::Make({{0, 4, 36, 4}, {4, 36, 0, 36}}, kTokens, 47).value();
  Ingest(origin);
  ForgetRequest request;
  request.collection = "books", request.source = "page.html";
  request.has_range = true;
  request.byte_begin = 30, request.byte_end = 38;  // of the text 34 to 40, and 0 to 2
  EID_ASSERT_RESULT(const ForgetReceipt receipt, archive_->Forget(request));
  EXPECT_TRUE(receipt.documents.at(0).whole);  // both blocks
}

TEST_F(ArchiveOrigins, ADamagedOrMissingMapIsNamedAndNeverBelieved) {
  Ingest(Shifted(5));
  const std::string prefix = format::TextMapPrefix(Document().id);
  for (uint32_t chunk : {0u, 1u}) {
    const std::string key = format::BlobKey(prefix, chunk);
    EID_ASSERT_RESULT(const std::string whole, records_->Get(Family::kText, key));
    records_->FlipBit(Family::kText, key, 20);
    EXPECT_EQ(archive_->MapOf(Document()).status().code(), Code::kCorruption);
    EXPECT_FALSE(Clean());
    records_->Erase(Family::kText, key);
    EXPECT_FALSE(archive_->MapOf(Document()).ok());
    EXPECT_FALSE(Clean());
    records_->Overwrite(Family::kText, key, whole);
    EXPECT_TRUE(Clean());
  }
  // A map under a good checksum that is not the document's.
  const std::string other = Shifted(6).map.Serialize();
  RecordBatch batch;
  EID_ASSERT_OK(PutBlob(*records_, Family::kText, prefix, other, &batch));
  EID_ASSERT_OK(records_->Write(batch, true));
  EXPECT_EQ(archive_->MapOf(Document()).status().code(), Code::kCorruption);
  EXPECT_FALSE(Clean());
}

TEST_F(ArchiveOrigins, ALongNameOfAFormatIsRefused) {
  DocumentOrigin origin;
  origin.format = std::string(33, 'h');
  EXPECT_EQ(Begin(origin).status().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace eidetic::memory

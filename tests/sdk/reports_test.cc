#include "sdk/reports.h"

#include "sdk/document_reader.h"
#include "sdk/session.h"
#include "tests/sdk/sdk_fixture.h"

namespace eidetic::sdk {
namespace {

using memory::Code;
using nlohmann::json;

class Reports : public SdkTest {
 protected:
  static IngestOptions Ingest(const std::string& source) {
    IngestOptions options;
    options.collection = "books";
    options.source = source;
    options.window = 256;
    options.segment = 128;
    return options;
  }
  static json Stats(const memory::Archive& archive) {
    return json::parse(Must(StatsJson(archive)));
  }
};

TEST_F(Reports, CountWhatIsCommittedAndNotWhatWasRemoved) {
  const auto engine = HybridEngine();
  auto archive = OpenArchive();
  const json empty = Stats(*archive);
  EXPECT_EQ(empty.at("tokens"), 0);
  EXPECT_EQ(empty.at("bytes_per_token"), 0.0);

  const IngestResult first =
      Must(IngestDocument(*engine, archive.get(), Prose(1500), Ingest("first")));
  IngestOptions stopped = Ingest("second");
  stopped.progress = [](const IngestProgress& progress) { return progress.tokens < 256; };
  EXPECT_EQ(IngestDocument(*engine, archive.get(), Prose(3000), stopped).status().code(),
            Code::kCancelled);
  const json stats = Stats(*archive);
  EXPECT_EQ(stats.at("documents"), 1);
  EXPECT_EQ(stats.at("incomplete"), 1);
  EXPECT_EQ(stats.at("text_bytes"), 1500 + 3000);
  const json documents =
      json::parse(Must(ListJson(*archive, "books"))).at("collections").at(0).at("documents");
  ASSERT_EQ(documents.size(), 2u);
  EXPECT_EQ(documents[0].at("tokens"), first.tokens);
  EXPECT_EQ(documents[0].at("committed_tokens"), first.tokens);
  EXPECT_EQ(documents[0].at("blocks"), first.blocks);
  EXPECT_FALSE(documents[1].at("complete"));
  EXPECT_GT(documents[1].at("tokens"), documents[1].at("committed_tokens"));
  EXPECT_GT(documents[1].at("committed_tokens"), 0);
  EXPECT_EQ(stats.at("tokens"), first.tokens + documents[1].at("committed_tokens").get<size_t>());
  EXPECT_EQ(stats.at("blocks"), first.blocks + documents[1].at("blocks").get<size_t>());

  MustOk(archive->RemoveDocument(first.document));
  const json after = Stats(*archive);
  EXPECT_EQ(after.at("documents"), 0);
  EXPECT_EQ(after.at("tokens"), documents[1].at("committed_tokens"));
  EXPECT_EQ(after.at("text_bytes"), 3000);
}

TEST_F(Reports, CountWhatLeftTheWindowsOfSessions) {
  const auto engine = HybridEngine();
  auto archive = OpenArchive();
  SessionOptions options;
  options.window = 128;
  options.segment = 64;
  options.name = "talk";
  auto session = Must(Session::Create(engine, options, archive));
  MustOk(session->Append(engine->tokenizer().Encode(Prose(2000), false), false, {}));
  MustOk(session->Save());
  const json stats = Stats(*archive);
  const json info = json::parse(session->InfoJson());
  EXPECT_EQ(stats.at("sessions"), 1);
  EXPECT_EQ(stats.at("tokens"), 0);
  EXPECT_EQ(stats.at("session_tokens"), info.at("window_begin"));
  EXPECT_GT(stats.at("session_blocks"), info.at("memory_blocks"));  // that of the sinks is kept too
  EXPECT_NEAR(stats.at("bytes_per_token").get<double>() * stats.at("session_tokens").get<double>(),
              stats.at("bytes_on_disk").get<double>(), 1.0);
  EXPECT_EQ(info.at("options").at("window"), 128);
  EXPECT_EQ(info.at("options").at("span_layers"), engine->model().config().AttentionLayers());
  EXPECT_EQ(info.at("archive"), ArchivePath());
}

TEST_F(Reports, TheChatsMarkersMakeTheTurnsThatASessionMakes) {
  const auto engine = HybridEngine();
  const json chat = json::parse(EngineJson(*engine)).at("chat");
  const auto marker = [&](const char* role, const char* where) {
    return engine->tokenizer().Encode(chat.at(role).at(where).get<std::string>(), true);
  };
  const std::string text = "What is <|im_end|> for?";
  std::vector<int32_t> tokens;
  for (const auto& part :
       {marker("user", "before"), engine->tokenizer().Encode(text, /*special=*/false),
        marker("user", "after"), marker("assistant", "before")}) {
    tokens.insert(tokens.end(), part.begin(), part.end());
  }
  const auto by_hand = Must(Session::Create(engine, {}, nullptr));
  MustOk(by_hand->Append(tokens, /*use_span=*/false, {}));
  const auto by_role = Must(Session::Create(engine, {}, nullptr));
  MustOk(by_role->AppendMessage("user", text, /*use_span=*/false, {}));
  GenerateOptions answer;
  answer.max_tokens = 8;
  const std::string said = Must(by_hand->Generate(answer)).text;
  answer.assistant_turn = true;
  EXPECT_EQ(Must(by_role->Generate(answer)).text, said);
  EXPECT_EQ(json::parse(by_role->InfoJson()).at("position"),
            json::parse(by_hand->InfoJson()).at("position"));
}

}  // namespace
}  // namespace eidetic::sdk

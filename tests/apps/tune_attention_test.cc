// An option that the attention of a training run does not read is told, on the command line, in the
// configuration file and to the library.
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "apps/cli/application.h"
#include "apps/cli/tune_attention.h"
#include "tests/model/model_files.h"
#include "tests/temporary_folder.h"

namespace eidetic {
namespace {

const char* const kAttentions[] = {"se",        "se-no-memory", "se-random", "se-landmark",
                                   "se-stream", "window",       "s2",        "full"};

struct ReadBy {
  std::set<std::string> attentions;
  std::function<void(TuneOptions&)> set;
};

const std::map<std::string, ReadBy> kReaders = {
    {"chunk",
     {{"se", "se-no-memory", "se-random", "se-landmark"}, [](auto& o) { o.chunks = {8}; }}},
    {"block",
     {{"se", "se-random", "se-landmark", "se-stream"}, [](auto& o) { o.block_tokens = 8; }}},
    {"span-blocks",
     {{"se", "se-random", "se-landmark", "se-stream"}, [](auto& o) { o.span_blocks = 8; }}},
    {"groups", {{"s2"}, [](auto& o) { o.groups = 8; }}},
    {"window", {{"window", "se-stream"}, [](auto& o) { o.window = 8; }}},
    {"segment", {{"se-stream"}, [](auto& o) { o.segment = 8; }}},
    {"sinks", {{"se-stream"}, [](auto& o) { o.sinks = -1; }}},
    {"candidates", {{"se-stream"}, [](auto& o) { o.candidates = 8; }}},
    {"query-offset", {{"se-stream"}, [](auto& o) { o.query_offset = 8; }}},
    {"span-layers", {{"se-stream"}, [](auto& o) { o.span_layers = {8}; }}},
};

// The error of a run whose model is not there: that it is not, where the options are all right.
Error ErrorOf(const std::function<void()>& run) {
  try {
    run();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error";
  return {EID_OK, ""};
}

Error ErrorOfCommand(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"tune", "none.txt", "-o", "none", "--model", "none.gguf"});
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
  return ErrorOf([&] {
    CLI::App app;
    cli::Action action;
    cli::build_app(app, action);
    app.parse(arguments);
    action();
  });
}

TEST(TuneAttention, WhatItDoesNotReadIsRefusedByCommandAndLibrary) {
  for (const std::string attention : kAttentions) {
    for (const auto& [option, by] : kReaders) {
      SCOPED_TRACE(attention + " " + option);
      const bool is_read = by.attentions.contains(attention);
      const std::string value = option == "sinks" ? "0" : "8";
      const Error typed =
          ErrorOfCommand({"--no-config", "--attention", attention, "--" + option, value});
      EXPECT_EQ(typed.status(), is_read ? EID_NOT_FOUND : EID_INVALID_ARGUMENT) << typed.what();
      TuneOptions options;
      options.model_path = options.folder = "none";
      options.inputs = {"none.txt"};
      options.attention = attention;
      by.set(options);
      const Error of_library = ErrorOf([&] { tune(options); });
      EXPECT_EQ(of_library.status(), typed.status()) << of_library.what();
      if (is_read) continue;
      EXPECT_EQ(typed.what(), "the attention " + attention + " does not read --" + option);
      for (const std::string& reader : by.attentions) {
        EXPECT_NE(typed.remedy().find(reader), std::string::npos) << typed.remedy();
        EXPECT_NE(of_library.remedy().find(reader), std::string::npos) << of_library.remedy();
      }
    }
  }
}

TEST(TuneAttention, TheDefaultIsNamedAsSuch) {
  EXPECT_STREQ(ErrorOfCommand({"--no-config", "--groups", "8"}).what(),
               "the attention se, the default, does not read --groups");
  EXPECT_STREQ(ErrorOfCommand({"--no-config", "--distill-from", "none", "--chunk", "8"}).what(),
               "the attention full, the default with a teacher, does not read --chunk");
  EXPECT_STREQ(
      ErrorOfCommand({"--no-config", "--attention", "paper-random", "--groups", "8"}).what(),
      "the attention se-random does not read --groups");
}

TEST(TuneAttention, WhatTheConfigurationFileHasForOthersIsLeftOutWithANote) {
  const tests::TemporaryFolder folder;
  const std::string file = folder / "config.toml";
  std::string keys = "[tune]\n";
  for (const auto& [option, by] : kReaders) keys += option + " = 8\n";
  model::WriteFile(file, keys);
  for (const std::string attention : kAttentions) {
    SCOPED_TRACE(attention);
    ::testing::internal::CaptureStderr();
    const Error error = ErrorOfCommand({"--config", file, "--attention", attention});
    const std::string told = ::testing::internal::GetCapturedStderr();
    EXPECT_EQ(error.status(), EID_NOT_FOUND) << error.what();  // of the text, which is not there
    std::string unread;
    for (const char* option : {"chunk", "block", "span-blocks", "groups", "window", "segment",
                               "sinks", "candidates", "query-offset", "span-layers"}) {
      if (kReaders.at(option).attentions.contains(attention)) continue;
      unread += (unread.empty() ? "" : ", ") + std::string(option);
    }
    EXPECT_EQ(told, "eidetic: of the configuration file the attention " + attention +
                        " does not read: " + unread + "\n");
  }
  // What was typed is refused, whoever chose the attention.
  model::WriteFile(file, "[tune]\nattention = 'full'\n");
  EXPECT_STREQ(ErrorOfCommand({"--config", file, "--chunk", "8"}).what(),
               "the attention full does not read --chunk");
}

TEST(TuneAttention, WhatIsLeftOutIsAsIfItHadNotBeenThere) {
  TuneOptions options;
  for (const auto& [option, by] : kReaders) by.set(options);
  options.attention = "full";
  CLI::App app;
  cli::OptionsOfFile of_file;
  for (const auto& [option, by] : kReaders) {
    CLI::Option* flag = app.add_option("--" + option);
    flag->add_result("8");
    of_file.insert(flag);
  }
  ::testing::internal::CaptureStderr();
  cli::leave_out_unread(app, of_file, options);
  ::testing::internal::GetCapturedStderr();
  EXPECT_TRUE(options.chunks.empty() && options.span_layers.empty());
  EXPECT_EQ(options.block_tokens, 0);
  EXPECT_EQ(options.span_blocks, 0);
  EXPECT_EQ(options.groups, 0);
  EXPECT_EQ(options.window, 0);
  EXPECT_EQ(options.segment, 0);
  EXPECT_EQ(options.sinks, 0);
  EXPECT_EQ(options.candidates, 0);
  EXPECT_EQ(options.query_offset, 0);
}

}  // namespace
}  // namespace eidetic

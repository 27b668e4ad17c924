// The command line itself: help, exit codes, messages. No model is loaded here.
#include <gtest/gtest.h>

#include "tests/apps/program.h"
#include "tests/model/model_files.h"

namespace eidetic::apps {
namespace {

using CommandLine = ProgramTest;
using ::testing::Test;

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

const std::vector<std::vector<std::string>> kCommands = {{},
                                                         {"model"},
                                                         {"model", "info"},
                                                         {"model", "merge"},
                                                         {"ingest"},
                                                         {"ask"},
                                                         {"generate"},
                                                         {"sessions"},
                                                         {"sessions", "list"},
                                                         {"sessions", "show"},
                                                         {"sessions", "fork"},
                                                         {"sessions", "rewind"},
                                                         {"sessions", "delete"},
                                                         {"sessions", "export"},
                                                         {"memory"},
                                                         {"memory", "stats"},
                                                         {"memory", "list"},
                                                         {"memory", "search"},
                                                         {"memory", "verify"},
                                                         {"memory", "repair"},
                                                         {"eval"},
                                                         {"eval", "needle"},
                                                         {"eval", "sources"},
                                                         {"bench"}};

TEST_F(CommandLine, EveryCommandHasHelpWithExamples) {
  for (std::vector<std::string> command : kCommands) {
    command.push_back("--help");
    const Outcome outcome = RunProgram(command);
    EXPECT_EQ(outcome.code, 0) << command[0];
    EXPECT_TRUE(Contains(outcome.out, "Examples:")) << outcome.out;
    EXPECT_TRUE(Contains(outcome.out, "eidetic ")) << outcome.out;
    EXPECT_EQ(outcome.err, "");
  }
}

TEST_F(CommandLine, VersionIsPrinted) {
  const Outcome outcome = RunProgram({"--version"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out, "eidetic 0.1.0\n");
}

TEST_F(CommandLine, WrongUseExitsWithTwoAndNamesTheHelp) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{}, "eidetic --help"},
      {{"remember"}, "'remember' is no command"},
      {{"memory", "forget"}, "'forget' is no command of eidetic memory"},
      {{"ask"}, "eidetic ask --help"},
      {{"ask", "Who?", "--frm", "books"}, "--frm"},
      {{"ask", "Who?", "--temperature", "hot"}, "hot"},
      {{"ask", "Who?", "--sources", "-1"}, "eidetic ask --help"},
      {{"ingest", "a.txt"}, "--into"},
      {{"ingest", "--into", "books"}, "FILE"},
      {{"generate", "--mode", "backwards"}, "backwards"},
      {{"generate", "--codec", "int3", "--prompt", "a"}, "int3"},
      {{"eval", "needle", "--modes", "stream,sideways"}, "sideways"},
      {{"eval", "needle", "--lengths", "0"}, "eidetic eval needle --help"}};
  for (const auto& [arguments, text] : cases) {
    const Outcome outcome = RunProgram(arguments);
    EXPECT_EQ(outcome.code, 2) << text;
    EXPECT_EQ(outcome.err.rfind("eidetic: ", 0), 0u) << outcome.err;
    EXPECT_TRUE(Contains(outcome.err, text)) << outcome.err;
    EXPECT_TRUE(Contains(outcome.err, "\n  -> ")) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }
}

TEST_F(CommandLine, ModelAndArchiveMustBeNamed) {
  const Outcome archive = RunProgram({"ask", "Who?"});
  EXPECT_EQ(archive.code, 2);
  EXPECT_TRUE(Contains(archive.err, "EIDETIC_ARCHIVE")) << archive.err;
  const Outcome model = RunProgram({"generate", "--prompt", "Hello"});
  EXPECT_EQ(model.code, 2);
  EXPECT_TRUE(Contains(model.err, "EIDETIC_MODEL")) << model.err;
}

TEST_F(CommandLine, WhatIsMissingExitsWithThree) {
  const std::string nowhere = Path("nowhere");
  const std::string text = Write("a.txt", "Some text.");
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"model", "info", nowhere},
           {"model", "merge", nowhere, nowhere, "-o", Path("out.gguf")},
           {"memory", "list", "--archive", nowhere},
           {"memory", "stats", "--archive", nowhere},
           {"memory", "verify", "--archive", nowhere},
           {"generate", "--prompt", "Hello", "--model", nowhere},
           {"generate", "--file", nowhere, "--model", nowhere},
           {"ingest", text, "--into", "books", "--archive", Path("a"), "--model", nowhere},
           {"ask", "Who?", "--archive", nowhere, "--model", nowhere}}) {
    const Outcome outcome = RunProgram(arguments);
    EXPECT_EQ(outcome.code, 3) << arguments[0] << " " << arguments[1] << ": " << outcome.err;
    EXPECT_TRUE(Contains(outcome.err, nowhere)) << outcome.err;
  }
}

TEST_F(CommandLine, ReadingNeverMakesAnArchive) {
  RunProgram({"memory", "list", "--archive", Path("nowhere")});
  EXPECT_FALSE(std::filesystem::exists(Path("nowhere")));
}

TEST_F(CommandLine, DamagedModelFileExitsWithFour) {
  const std::string noise = Write("noise.gguf", std::string(4096, 'x'));
  const Outcome outcome = RunProgram({"model", "info", noise});
  EXPECT_EQ(outcome.code, 4) << outcome.err;
  EXPECT_TRUE(Contains(outcome.err, noise)) << outcome.err;

  const std::string whole = model::ReadFile(BaseModel());
  const std::string cut = Write("cut.gguf", whole.substr(0, 100'000));
  const Outcome truncated = RunProgram({"model", "info", cut});
  EXPECT_EQ(truncated.code, 4) << truncated.err;
}

TEST_F(CommandLine, ModelInfoIsATableAndJson) {
  const Outcome table = RunProgram({"model", "info", BaseModel()});
  EXPECT_EQ(table.code, 0) << table.err;
  EXPECT_TRUE(Contains(table.out, "llama")) << table.out;
  const nlohmann::json info = RunJson({"model", "info", BaseModel(), "--json"});
  EXPECT_EQ(info.at("architecture"), "llama");
  EXPECT_EQ(info.at("layers"), 30);
  // The environment names the model as well.
  EXPECT_EQ(RunProgram({"model", "info"}, {{"EIDETIC_MODEL", BaseModel()}}).code, 0);
}

TEST_F(CommandLine, FilesThatAreNoTextAreRefusedOneByOne) {
  const std::string directory = Path("folder");
  std::filesystem::create_directory(directory);
  const std::vector<std::pair<std::string, std::string>> cases = {
      {Write("binary", std::string("ab\0cd", 5)), "byte 2 is NUL"},
      {Write("latin1", "caf\xE9 au lait"), "byte 3 is 0xE9"},
      {Write("cut", "whole caf\xC3"), "byte 9 is 0xC3"},
      {Write("utf16", std::string("\xFF\xFEh\0i\0", 6)), "UTF-16"},
      {Write("empty", ""), "is empty"},
      {directory, "is a directory"},
      {"/proc/self/mem", "cannot be read"}};  // unreadable even for root
  std::vector<std::string> all = {"ingest"};
  for (const auto& [path, message] : cases) all.push_back(path);
  all.insert(all.end(),
             {"--into", "books", "--archive", Path("a"), "--model", BaseModel(), "--json"});
  const Outcome outcome = RunProgram(all);
  EXPECT_EQ(outcome.code, 1) << outcome.err;
  for (const auto& [path, message] : cases) {
    EXPECT_TRUE(Contains(outcome.err, path)) << path << " in " << outcome.err;
    EXPECT_TRUE(Contains(outcome.err, message)) << message << " in " << outcome.err;
  }
  const auto lines = JsonLines(outcome.out);
  ASSERT_EQ(lines.size(), cases.size() + 1);
  EXPECT_EQ(lines.back().at("event"), "summary");
  EXPECT_EQ(lines.back().at("failed"), cases.size());

  const Outcome missing = RunProgram({"ingest", Path("nowhere"), "--into", "books", "--archive",
                                      Path("a"), "--model", BaseModel()});
  EXPECT_EQ(missing.code, 3) << missing.err;
}

TEST_F(CommandLine, EmptyPromptAndQuestionAreRefused) {
  const Outcome prompt = RunProgram({"generate", "--prompt", "", "--model", BaseModel()});
  EXPECT_EQ(prompt.code, 2);
  EXPECT_TRUE(Contains(prompt.err, "empty")) << prompt.err;
  EXPECT_EQ(RunProgram({"generate", "--model", BaseModel()}).code,
            2);  // standard input holds nothing
  EXPECT_EQ(RunProgram({"ask", "", "--archive", Path("a"), "--model", BaseModel()}).code, 2);
}

TEST_F(CommandLine, NothingIsColouredInAPipe) {
  EXPECT_FALSE(Contains(RunProgram({"model", "info", BaseModel()}).out, "\033"));
  EXPECT_FALSE(Contains(RunProgram({"remember"}).err, "\033"));
}

TEST_F(CommandLine, DocumentationListsTheExitCodesOfHelp) {
  const std::string page = model::ReadFile(EIDETIC_CLI_PAGE);
  std::istringstream help(RunProgram({"--help"}).out);
  int codes = 0;
  bool inside = false;
  for (std::string line; std::getline(help, line);) {
    if (line == "Exit codes:") inside = true;
    if (line.empty()) inside = false;
    std::istringstream words(line);
    std::string code, meaning;
    if (!inside || !(words >> code) || code == "Exit") continue;
    std::getline(words >> std::ws, meaning);
    EXPECT_TRUE(Contains(page, "| " + code + " | " + meaning + " |")) << code << " " << meaning;
    ++codes;
  }
  EXPECT_EQ(codes, 9);
}

}  // namespace
}  // namespace eidetic::apps

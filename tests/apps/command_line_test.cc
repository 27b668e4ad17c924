// The command line itself: help, exit codes, messages. No model is loaded here.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wordexp.h>

#include <chrono>
#include <cstdlib>
#include <sstream>
#include <thread>

#include "tests/apps/documented_keys.h"
#include "tests/apps/program.h"
#include "tests/model/model_files.h"
#include "tests/model/tiny_adapter.h"

namespace eidetic::apps {
namespace {

using CommandLine = ProgramTest;
using nlohmann::json;
using ::testing::Test;

const std::vector<std::vector<std::string>> kCommands = {{},
                                                         {"model"},
                                                         {"model", "info"},
                                                         {"model", "merge"},
                                                         {"model", "calibrate"},
                                                         {"adapter"},
                                                         {"adapter", "info"},
                                                         {"adapter", "merge"},
                                                         {"tune"},
                                                         {"archive"},
                                                         {"archive", "migrate"},
                                                         {"ingest"},
                                                         {"ask"},
                                                         {"chat"},
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
                                                         {"memory", "forget"},
                                                         {"eval"},
                                                         {"eval", "needle"},
                                                         {"eval", "ruler"},
                                                         {"eval", "ppl"},
                                                         {"eval", "continuation"},
                                                         {"eval", "sources"},
                                                         {"eval", "questions"},
                                                         {"eval", "conversation"},
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
      {{"remember"}, "'remember' is no command of eidetic\n"},
      {{"--loud"}, "'--loud' is no option of eidetic\n"},
      {{"memory", "recollect"}, "'recollect' is no command of eidetic memory"},
      {{"ask"}, "eidetic ask --help"},
      {{"ask", "Who?", "--frm", "books"}, "'--frm' is no option of eidetic ask\n"},
      {{"ask", "Who", "is", "he?"}, "a text of several words stands in quotes"},
      {{"ask", "Who?", "--temperature", "hot"},
       "--temperature does not take 'hot'\n  -> it takes a number, 0 to 100; "},
      {{"ask", "Who?", "--sources", "-1"},
       "--sources does not take '-1'\n  -> it takes a whole number, 0 to 1000; "},
      {{"ask", "Who?", "--sources"}, "--sources needs a value\n  -> it takes a whole number"},
      {{"ask", "Who?", "--sources", "2", "--sources", "3"},
       "--sources is given 2 times, as '2,3'\n  -> give it once; "},
      {{"eval", "continuation", "--beginning", "999999999999"}, "it takes a whole number, 32 to "},
      {{"ask", "Who?", "--window", "-5"}, "it takes a whole number, 0 or more; "},
      {{"tune", "a.txt", "-o", "run", "--rate", "0"}, "it takes a number, more than 0; "},
      {{"ingest", "a.txt"}, "--into"},
      {{"ingest", "--into", "books"}, "FILE"},
      {{"generate", "--mode", "backwards"}, "it takes stream, window, full or random; "},
      {{"generate", "--codec", "int3", "--prompt", "a"}, "it takes int8 or fp16; "},
      {{"eval", "needle", "--modes", "stream,sideways"}, "stream,sideways"},
      {{"eval", "needle", "--lengths", "0"},
       "it takes whole numbers, 256 or more; see: eidetic eval"},
      {{"eval", "needle", "--text", EIDETIC_TEST_TEXT, "--limit", "full"}, "not MODE=TOKENS"},
      {{"eval", "needle", "--text", EIDETIC_TEST_TEXT, "--limit", "full=-1"}, "not MODE=TOKENS"},
      {{"eval", "needle", "--text", EIDETIC_TEST_TEXT, "--limit", "ful=9"}, "mode 'ful'"},
      {{"eval", "needle", "--text", EIDETIC_TEST_TEXT, "--modes", "s2", "--via", "archive"},
       "mode s2 cannot ask an archive"},
      {{"eval", "needle", "--text", EIDETIC_TEST_TEXT, "--modes", "paper", "--values", "2"},
       "mode paper answers with one number"},
      {{"eval", "needle", "--text", EIDETIC_TEST_TEXT, "--modes", "full,full"}, "named twice"},
      {{"eval", "needle", "--report-only"}, "--results"},
      {{"eval", "ppl"}, "--text"},
      {{"eval", "ppl", "--text", EIDETIC_TEST_TEXT, "--score", "0"}, "--score does not take '0'"},
      {{"eval", "ppl", "--text", EIDETIC_TEST_TEXT, EIDETIC_TEST_TEXT}, "named twice in --text"}};
  for (const auto& [arguments, text] : cases) {
    const Outcome outcome = RunProgram(arguments);
    EXPECT_EQ(outcome.code, 2) << text;
    EXPECT_EQ(outcome.err.rfind("eidetic: ", 0), 0u) << outcome.err;
    EXPECT_TRUE(Contains(outcome.err, text)) << outcome.err;
    EXPECT_TRUE(Contains(outcome.err, "\n  -> ")) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }
}

TEST_F(CommandLine, AGroupAloneShowsItsHelp) {
  for (const std::vector<std::string>& group :
       std::vector<std::vector<std::string>>{{}, {"memory"}, {"model"}, {"eval"}}) {
    std::vector<std::string> with_help = group;
    with_help.push_back("--help");
    const Outcome outcome = RunProgram(group);
    EXPECT_EQ(outcome.code, 0);
    EXPECT_EQ(outcome.out, RunProgram(with_help).out);
    EXPECT_EQ(outcome.err, "");
  }
}

TEST_F(CommandLine, HelpFitsTheWidthThatIsGiven) {
  for (const std::string width : {"40", "72", "100"}) {
    std::istringstream help(RunProgram({"ask", "--help"}, {{"COLUMNS", width}}).out);
    bool options = true;
    for (std::string line; std::getline(help, line);) {
      options = options && line != "Examples:";  // commands are not broken
      if (!options || line.rfind("Answer", 0) == 0) continue;
      EXPECT_LE(line.size(), std::stoul(width)) << line;
    }
    EXPECT_FALSE(options);
  }
}

// Every command line under "Examples:", as a shell would take it apart.
std::vector<std::vector<std::string>> Examples(const std::string& help) {
  std::istringstream lines(help.substr(help.find("Examples:")));
  std::vector<std::vector<std::string>> examples;
  std::string command;
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind("  ", 0) != 0) continue;
    const bool goes_on = line.back() == '\\';
    command += line.substr(0, line.size() - goes_on);
    if (goes_on) continue;
    // What the shell does with the output is its own affair.
    const std::size_t begin = command.find("eidetic "), end = command.find_first_of("|#>", begin);
    if (begin == std::string::npos) {  // what comes before it, such as unpacking a text
      command.clear();
      continue;
    }
    wordexp_t words{};
    const int failed = ::wordexp(command.substr(begin, end - begin).c_str(), &words, WRDE_NOCMD);
    EXPECT_EQ(failed, 0) << command;
    if (failed == 0) {
      examples.emplace_back(words.we_wordv + 1, words.we_wordv + words.we_wordc);
      ::wordfree(&words);
    }
    command.clear();
  }
  return examples;
}

TEST_F(CommandLine, TheExamplesOfHelpAreCommandLines) {
  // Nothing that they name is there, and that is all that is wrong with them.
  const auto here = std::filesystem::current_path();
  int count = 0;
  for (std::vector<std::string> command : kCommands) {
    command.push_back("--help");
    const auto examples = Examples(RunProgram(command).out);
    EXPECT_FALSE(examples.empty());
    for (std::vector<std::string> example : examples) {
      if (example == std::vector<std::string>{"COMMAND", "--help"}) continue;
      const bool forgets = example.size() > 1 && example[0] == "memory" && example[1] == "forget";
      if (forgets) example.emplace_back("--yes");  // nobody can be asked here
      const std::string folder = Path(std::to_string(++count));
      std::filesystem::create_directory(folder);
      std::filesystem::current_path(folder);
      const Outcome outcome = RunProgram(
          example, {{"EIDETIC_MODEL", "no-model"}, {"EIDETIC_ARCHIVE", "no-archive"}}, "Text.");
      EXPECT_EQ(outcome.code, 3) << ::testing::PrintToString(example) << outcome.err;
    }
  }
  std::filesystem::current_path(here);
}

TEST_F(CommandLine, AFailureIsAnObjectWhereJsonIsWanted) {
  const std::string nowhere = Path("nowhere"), noise = Write("noise.gguf", std::string(4096, 'x'));
  const std::vector<std::pair<std::vector<std::string>, int>> cases = {
      {{"remember", "--json"}, 2},
      {{"ask", "Who?", "--json", "--sources", "-1"}, 2},
      {{"ask", "Who?", "--json"}, 2},
      {{"model", "info", nowhere, "--json"}, 3},
      {{"model", "info", noise, "--json"}, 4},
      {{"model", "merge", nowhere, nowhere, "-o", Path("out.gguf"), "--json"}, 3},
      {{"adapter", "info", nowhere, "--json"}, 3},
      {{"adapter", "merge", nowhere, nowhere, "-o", Path("out.gguf"), "--json"}, 3},
      {{"adapter", "merge", noise, nowhere, "-o", Path("out.gguf"), "--type", "q8", "--json"}, 2},
      {{"memory", "list", "--archive", nowhere, "--json"}, 3},
      {{"memory", "verify", "--archive", nowhere, "--json"}, 3},
      {{"generate", "--prompt", "Hello", "--model", noise, "--json"}, 4},
      {{"ingest", noise, "--into", "a", "--archive", Path("a"), "--model", nowhere, "--json"}, 3},
      {{"eval", "needle", "--text", nowhere, "--json"}, 3},
      {{"eval", "sources", "--text", nowhere, "--model", nowhere, "--json"}, 3},
      {{"eval", "ppl", "--text", nowhere, "--model", nowhere, "--json"}, 3},
      {{"bench", "--text", nowhere, "--json"}, 3}};
  for (const auto& [arguments, code] : cases) {
    const Outcome outcome = RunProgram(arguments);
    const std::string name = ::testing::PrintToString(arguments);
    EXPECT_EQ(outcome.code, code) << name << outcome.err;
    const auto lines = JsonLines(outcome.out);
    ASSERT_EQ(lines.size(), 1u) << name;
    ExpectDocumented("error", lines[0]);
    EXPECT_EQ(lines[0].at("event"), "error") << name;
    EXPECT_EQ(lines[0].at("exit_code"), code) << name;
    EXPECT_FALSE(lines[0].at("status").get<std::string>().empty()) << name;
    // The same message is there for people.
    EXPECT_TRUE(Contains(outcome.err, "eidetic: " + lines[0].at("message").get<std::string>()))
        << outcome.err;
  }
}

TEST_F(CommandLine, OutputThatCannotBeWrittenIsAnError) {
  const std::string err = Path("err");
  const std::string command =
      std::string("'" EIDETIC_CLI_PATH "' --help > /dev/full 2> '") + err + "'";
  const int status = std::system(command.c_str());
  EXPECT_EQ(WEXITSTATUS(status), 1);
  EXPECT_TRUE(Contains(model::ReadFile(err), "standard output could not be written"));
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
  ExpectDocumented("model info", info);
  // The environment names the model as well.
  EXPECT_EQ(RunProgram({"model", "info"}, {{"EIDETIC_MODEL", BaseModel()}}).code, 0);
}

TEST_F(CommandLine, AModelMayBeAFolder) {
  const std::string folder = Path("llama");
  std::filesystem::copy(EIDETIC_PARITY_DIR "/llama_folder", folder);
  const json info = RunJson({"model", "info", folder, "--json"});
  ExpectDocumented("model info", info);
  EXPECT_EQ(info.at("format"), "safetensors");
  EXPECT_EQ(info.at("architecture"), "llama");
  EXPECT_EQ(info.at("parameters_by_type").at("BF16"), info.at("parameters"));
  EXPECT_EQ(RunProgram({"model", "info", folder + "/"}).code, 0);
  const Outcome answer =
      RunProgram({"generate", "--prompt", "The cat", "-n", "4", "--model", folder});
  EXPECT_EQ(answer.code, 0) << answer.err;
  EXPECT_FALSE(answer.out.empty());

  const std::string shard = folder + "/model-00003-of-00005.safetensors";
  model::WriteFile(shard, model::ReadFile(shard).substr(0, 1000));
  const Outcome cut = RunProgram({"model", "info", folder});
  EXPECT_EQ(cut.code, 4) << cut.err;
  EXPECT_TRUE(Contains(cut.err, shard) && Contains(cut.err, "  ->")) << cut.err;
  std::filesystem::remove(shard);
  const Outcome missing = RunProgram({"generate", "--prompt", "The cat", "--model", folder});
  EXPECT_EQ(missing.code, 3) << missing.err;
  EXPECT_TRUE(Contains(missing.err, shard) && Contains(missing.err, "  ->")) << missing.err;
}

TEST_F(CommandLine, MergeWritesAModelAndSaysWhatIsInIt) {
  const std::string out = Path("hybrid.gguf");
  const json merged = RunJson({"model", "merge", BaseModel(), EIDETIC_PATCH, "-o", out, "--json"});
  ExpectDocumented("model merge", merged);
  EXPECT_EQ(merged.at("output"), out);
  EXPECT_EQ(merged.at("model"), RunJson({"model", "info", out, "--json"}));
}

TEST_F(CommandLine, AModelBecomesAHybridByAPatchOfItsOwn) {
  const std::string patch = Path("mixers"), out = Path("own.gguf");
  const json made = RunJson(
      {"model", "hybridize", BaseModel(), "--attention", "7,16,18-25", "-o", patch, "--json"});
  ExpectDocumented("model hybridize", made);
  EXPECT_EQ(made.at("attention_layers"), json({7, 16, 18, 19, 20, 21, 22, 23, 24, 25}));
  const json merged = RunJson({"model", "merge", BaseModel(), patch, "-o", out, "--json"});
  EXPECT_EQ(merged.at("model").at("attention_layers"), made.at("attention_layers"));
  const Outcome answer = RunProgram({"generate", "--prompt", "The cat", "-n", "2", "--model", out});
  EXPECT_EQ(answer.code, 0) << answer.err;
  for (const char* layers : {"7-", "5-3", "x", "-1", "7,,8"}) {
    const Outcome wrong = RunProgram(
        {"model", "hybridize", BaseModel(), "--attention=" + std::string(layers), "-o", patch});
    EXPECT_EQ(wrong.code, 2) << layers << wrong.err;
    EXPECT_TRUE(Contains(wrong.err, "--attention")) << wrong.err;
  }
}

TEST_F(CommandLine, AnAdapterIsDescribedAndChangesTheAnswer) {
  const std::string adapter = EIDETIC_GOLDEN_DIR "/peft_llama";
  const std::string model = EIDETIC_PARITY_DIR "/llama_folder";
  const json info = RunJson({"adapter", "info", adapter, "--json"});
  ExpectDocumented("adapter info", info);
  EXPECT_EQ(info.at("kind"), "LoRA");
  EXPECT_EQ(info.at("rank"), 4);
  EXPECT_EQ(info.at("lora_modules"), 14);
  EXPECT_EQ(info.at("sha256").get<std::string>().size(), 64u);
  const json hybrid = RunJson({"adapter", "info", EIDETIC_GOLDEN_DIR "/peft_granite", "--json"});
  EXPECT_EQ(hybrid.at("kind"), "HyLoRA");
  EXPECT_TRUE(Contains(RunProgram({"adapter", "info", adapter}).out, "lora_modules"));

  const std::vector<std::string> ask = {"generate", "--prompt", "The cat", "-n", "8", "--model"};
  const auto answer = [&](std::vector<std::string> rest) {
    std::vector<std::string> all = ask;
    all.insert(all.end(), rest.begin(), rest.end());
    return RunProgram(all);
  };
  const Outcome plain = answer({model}), adapted = answer({model, "--adapter", adapter});
  EXPECT_EQ(adapted.code, 0) << adapted.err;
  EXPECT_NE(adapted.out, plain.out);
  std::vector<std::string> all = ask;
  all.push_back(model);
  EXPECT_EQ(RunProgram(all, {{"EIDETIC_ADAPTER", adapter}}).out, adapted.out);

  const Outcome unfit = answer({model, "--adapter", EIDETIC_GOLDEN_DIR "/peft_granite"});
  EXPECT_EQ(unfit.code, 5) << unfit.err;
  EXPECT_TRUE(Contains(unfit.err, "model.layers.0.mamba.in_proj")) << unfit.err;
  EXPECT_EQ(answer({model, "--adapter", Path("none")}).code, 3);

  // Memory that was made without the adapter is another model's.
  const std::string text = Write("text", "The cat sat on the mat. ");
  const Outcome read =
      RunProgram({"ingest", text, "--into", "a", "--archive", Path("a"), "--model", model});
  EXPECT_EQ(read.code, 0) << read.err;
  const std::vector<std::string> question = {"ask",     "The cat", "--from", "a",       "--archive",
                                             Path("a"), "-n",      "2",      "--model", model};
  EXPECT_EQ(RunProgram(question).code, 0);
  EXPECT_EQ(RunProgram(question, {{"EIDETIC_ADAPTER", adapter}}).code, 5);
}

TEST_F(CommandLine, AnAdapterIsMergedIntoAGguf) {
  const model::TinyFolder tiny = model::TinyFolder::Llama();
  model::TinyAdapter::Lora(tiny).Write(Path("adapter"));
  model::WriteFile(Path("base.gguf"), tiny.Gguf());
  const std::string out = Path("merged.gguf");
  const json merged =
      RunJson({"adapter", "merge", Path("base.gguf"), Path("adapter"), "-o", out, "--json"});
  ExpectDocumented("adapter merge", merged);
  EXPECT_EQ(merged.at("output"), out);
  const auto whole = std::filesystem::file_size(out);
  EXPECT_EQ(RunProgram({"adapter", "merge", Path("base.gguf"), Path("adapter"), "-o", out, "--type",
                        "f16"})
                .code,
            0);
  EXPECT_LT(std::filesystem::file_size(out), whole);
  EXPECT_EQ(RunProgram({"adapter", "merge", Path("base.gguf"), EIDETIC_GOLDEN_DIR "/peft_granite",
                        "-o", out})
                .code,
            5);
}

TEST_F(CommandLine, FilesThatAreNoTextAreRefusedOneByOne) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {Write("binary", std::string("ab\0cd", 5)), "byte 2 is NUL"},
      {Write("latin1", "caf\xE9 au lait"), "byte 3 is 0xE9"},
      {Write("cut", "whole caf\xC3"), "byte 9 is 0xC3"},
      {Write("utf16", std::string("\xFF\xFEh\0i\0", 6)), "UTF-16"},
      {Write("empty", ""), "is empty"},
      {"/dev/zero", "is a device"},
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
  for (std::size_t i = 0; i < cases.size(); ++i) {
    ExpectDocumented("error", lines[i]);
    EXPECT_EQ(lines[i].at("source"), cases[i].first);
    EXPECT_TRUE(Contains(lines[i].at("message"), cases[i].second)) << lines[i];
    EXPECT_EQ(lines[i].at("exit_code"), 1);
  }
  ExpectDocumented("ingest summary", lines.back());
  EXPECT_EQ(lines.back().at("files"), cases.size());
  EXPECT_EQ(lines.back().at("failed"), cases.size());
  EXPECT_EQ(lines.back().at("not_tried"), 0);
  EXPECT_EQ(lines.back().at("exit_code"), 1);

  const Outcome missing = RunProgram({"ingest", Path("nowhere"), "--into", "books", "--archive",
                                      Path("a"), "--model", BaseModel()});
  EXPECT_EQ(missing.code, 3) << missing.err;
  // Two that are alike give their code, two that differ the general one.
  for (const auto& [second, code] : {std::pair(Path("nowhere else"), 3), {Path("empty"), 1}}) {
    const Outcome both = RunProgram({"ingest", Path("nowhere"), second, "--into", "books",
                                     "--archive", Path("a"), "--model", BaseModel(), "--json"});
    EXPECT_EQ(both.code, code) << both.err;
    EXPECT_EQ(JsonLines(both.out).back().at("exit_code"), code);
  }
}

TEST_F(CommandLine, EmptyPromptAndQuestionAreRefused) {
  const Outcome prompt = RunProgram({"generate", "--prompt", "", "--model", BaseModel()});
  EXPECT_EQ(prompt.code, 2);
  EXPECT_TRUE(Contains(prompt.err, "empty")) << prompt.err;
  EXPECT_EQ(RunProgram({"generate", "--model", BaseModel()}).code,
            2);  // standard input holds nothing
  EXPECT_EQ(RunProgram({"ask", "", "--archive", Path("a"), "--model", BaseModel()}).code, 2);
}

TEST_F(CommandLine, CtrlCEndsTheWaitForText) {
  const std::string pipe = Path("pipe");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const int writer = ::open(pipe.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(::write(writer, "Once", 4), 4);
  Program program({"generate", "--file", pipe, "--model", BaseModel()});
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  for (int unread = 4; unread > 0 && std::chrono::steady_clock::now() < limit;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    ASSERT_EQ(::ioctl(writer, FIONREAD, &unread), 0);
  }
  program.Signal(SIGINT);
  const Outcome outcome = program.Wait(std::chrono::seconds(60));
  ::close(writer);
  EXPECT_EQ(outcome.code, 130) << outcome.err;
  EXPECT_TRUE(Contains(outcome.err, "stopped while '" + pipe + "' was read")) << outcome.err;
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

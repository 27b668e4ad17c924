// The configuration file: which keys there are, what wins, what is wrong with a file. Most of it
// within this process: the commands' flags are parsed, and no command runs.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <CLI/CLI.hpp>
#include <optional>
#include <regex>

#include "apps/cli/application.h"
#include "apps/cli/configuration.h"
#include "apps/cli/configuration_file.h"
#include "apps/cli/help.h"
#include "apps/cli/near_name.h"
#include "apps/cli/usage.h"
#include "tests/apps/documented_keys.h"
#include "tests/apps/program.h"
#include "tests/model/model_files.h"

namespace eidetic::apps {
namespace {

// A variable of this process's environment, as it was afterwards.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* was = ::getenv(name)) was_ = was;
    value ? ::setenv(name, value, 1) : ::unsetenv(name);
  }
  ~Variable() { was_ ? ::setenv(name_, was_->c_str(), 1) : ::unsetenv(name_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
  std::optional<std::string> was_;
};

// A command line, parsed with a configuration file.
class Parsed {
 public:
  explicit Parsed(std::vector<std::string> arguments) : app_("test") {
    cli::build_app(app_, action_);
    std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
    try {
      app_.parse(arguments);
    } catch (const CLI::ParseError& error) {
      usage_ = error.what();
    } catch (const Error& error) {
      message_ = error.what();
      remedy_ = error.remedy();
    }
  }

  // What a flag of the chosen command was given, wherever it came from.
  std::vector<std::string> Of(const std::string& flag) const {
    return cli::chosen_command(app_).get_option(flag)->results();
  }
  const std::string& usage() const { return usage_; }  // what CLI11 says is wrong
  const std::string& message() const { return message_; }
  const std::string& remedy() const { return remedy_; }

 private:
  CLI::App app_;
  cli::Action action_;
  std::string usage_, message_, remedy_;
};

class Configuration : public ProgramTest {
 protected:
  std::string File(const std::string& text) const { return Write("config.toml", text); }
  Parsed Parse(std::vector<std::string> arguments, const std::string& text) const {
    arguments.insert(arguments.end(), {"--config", File(text)});
    return Parsed(arguments);
  }

 private:
  // Whoever runs the tests may have them.
  Variable model_{"EIDETIC_MODEL", nullptr}, archive_{"EIDETIC_ARCHIVE", nullptr},
      threads_{"OMP_NUM_THREADS", nullptr};
};

using Words = std::vector<std::string>;

TEST_F(Configuration, FlagThenEnvironmentThenTableThenCommonKeyThenDefault) {
  const std::string file = "archive = 'common'\n[memory.list]\narchive = 'table'\n";
  EXPECT_EQ(Parse({"memory", "stats"}, "").Of("--archive"), Words());
  EXPECT_EQ(Parse({"memory", "stats"}, file).Of("--archive"), Words{"common"});
  EXPECT_EQ(Parse({"memory", "list"}, file).Of("--archive"), Words{"table"});
  const Variable variable("EIDETIC_ARCHIVE", "environment");
  EXPECT_EQ(Parse({"memory", "list"}, file).Of("--archive"), Words{"environment"});
  EXPECT_EQ(Parse({"memory", "list", "--archive", "typed"}, file).Of("--archive"), Words{"typed"});
  EXPECT_EQ(Parse({"memory", "list", "-a", "typed"}, file).Of("--archive"), Words{"typed"});
}

TEST_F(Configuration, ThreadsOfTheEnvironmentWinToo) {
  EXPECT_EQ(Parse({"ask", "Who?"}, "threads = 3").Of("--threads"), Words{"3"});
  const Variable variable("OMP_NUM_THREADS", "2");
  EXPECT_EQ(Parse({"ask", "Who?"}, "threads = 3").Of("--threads"), Words());
}

TEST_F(Configuration, ValuesAreWhatTheCommandLineWouldHaveHad) {
  const Parsed ask = Parse({"ask", "Who?"},
                           "[ask]\nsources = 5\ntop-p = 0.9\ntemperature = 1\njson = true\n"
                           "span-layers = [7, 16]\nfrom = ['a', 'b c']\n"
                           "stop = ''\nmodel = '~/m.gguf'\n");
  EXPECT_EQ(ask.message() + ask.usage(), "");
  EXPECT_EQ(ask.Of("--sources"), Words{"5"});
  EXPECT_EQ(ask.Of("--top-p"), Words{"0.9"});
  EXPECT_EQ(ask.Of("--temperature"), Words{"1"});
  EXPECT_EQ(ask.Of("--json"), Words{"true"});
  EXPECT_EQ(ask.Of("--span-layers"), (Words{"7", "16"}));
  EXPECT_EQ(ask.Of("--from"), (Words{"a", "b c"}));
  EXPECT_EQ(ask.Of("--stop"), Words{""});
  EXPECT_EQ(ask.Of("--model"), Words{std::string(::getenv("HOME")) + "/m.gguf"});
  // A list that is typed takes the place of the file's.
  EXPECT_EQ(Parse({"ask", "Who?", "--from", "c"}, "[ask]\nfrom = ['a', 'b']").Of("--from"),
            Words{"c"});
  EXPECT_EQ(Parse({"generate"}, "[generate]\nmemory-off = false").Of("--memory-off"), Words());
  EXPECT_EQ(Parse({"generate"}, "[generate]\nmemory-off = true").Of("--memory-off"), Words{"true"});
  EXPECT_EQ(Parse({"ask", "Who?"}, "[ask]\nno-chat = true").Of("--chat"), Words{"false"});
  EXPECT_EQ(Parse({"ask", "Who?"}, "[ask]\nchat = false").Of("--chat"), Words{"false"});
  // What a command must be given may stand in the file.
  EXPECT_EQ(Parse({"ingest", "a.txt"}, "[ingest]\ninto = 'notes'").usage(), "");
  EXPECT_NE(Parse({"ingest", "a.txt"}, "").usage(), "");
  EXPECT_EQ(Parse({"model", "info"}, "model = 'm.gguf'").Of("FILE"), Words{"m.gguf"});
  // --json [FILE]
  EXPECT_EQ(Parse({"eval", "needle"}, "[eval.needle]\njson = true").Of("--json"), Words{""});
  EXPECT_EQ(Parse({"eval", "needle"}, "[eval.needle]\njson = 'f'").Of("--json"), Words{"f"});
}

TEST_F(Configuration, WhatIsTypedDecidesBetweenFlagsThatExcludeEachOther) {
  const Parsed typed = Parse({"generate", "--prompt", "Once"}, "[generate]\nfile = 'a.txt'");
  EXPECT_EQ(typed.message() + typed.usage(), "");
  EXPECT_EQ(typed.Of("--file"), Words());
  EXPECT_EQ(Parse({"generate", "--turn-name", "a"}, "[generate]\nsession = 'diary'").usage(), "");
}

TEST_F(Configuration, WhatIsWrongIsToldWithLineAndRemedy) {
  struct Case {
    std::string text, message, remedy;
  };
  const std::vector<Case> cases = {
      {"threads = ", "line 1, column", "--no-config"},
      {"threads = 1\nthreads = 2", "line 2, column", "--no-config"},
      {"model = \"\xFF\"", "line 1, column", "--no-config"},
      {"thread = 2", "line 1: thread is no key here", "did you mean threads?"},
      {"\nwindow = 512", "line 2: window is no key here", "in their tables, such as ["},
      {"colour = 'red'", "colour is no key here", "model, archive, device, profile, threads"},
      {"[ask]\n\nsorces = 3", "line 3: [ask] sorces is no flag of eidetic ask",
       "did you mean sources? see: eidetic ask --help"},
      {"[ask]\nspan_blocks = 3", "[ask] span_blocks", "did you mean span-blocks?"},
      {"[ask]\nconfig = 'more.toml'", "[ask] config is no flag", "eidetic ask --help"},
      {"[ask]\nQUESTION = 'Who?'", "[ask] QUESTION is no flag", "eidetic ask --help"},
      {"[evel.needle]\nseed = 1", "no command for the table [evel]", "did you mean [eval]?"},
      {"[eval.neelde]\nseed = 1", "the table [eval.neelde]", "did you mean [eval.needle]?"},
      {"[needle]\nseed = 1", "the table [needle]", "did you mean [eval.needle]?"},
      {"[ask.more]\nseed = 1", "the table [ask.more]", ""},
      {"[something-else]", "the table [something-else]", "eidetic --help"},
      {"[eval]\nseed = 1", "line 2: [eval] seed is no key here", "such as [eval.needle]"},
      {"[model.calibrate]\nseed = 1", "[model] is a table, and model a key", "[calibrate]"},
      {"[calibrat]", "the table [calibrat]", "did you mean [calibrate]?"},
      {"ask = 3", "ask is a whole number, and ask a command", "[ask]"},
      {"[[ask]]\nsources = 3", "ask is a list, and ask a command", "[ask]"},
      {"threads = 'two'", "threads is a text", "it takes a whole number, 0 to 1024"},
      {"threads = 2.5", "threads is a number", "it takes a whole number, 0 to 1024"},
      {"threads = 5000", "threads does not take '5000'", "it takes a whole number, 0 to 1024"},
      {"threads = [2]", "threads is a list", "it takes a whole number"},
      {"model = 2020-01-01", "model is a value that no flag takes", "a text in quotes"},
      {"[ask]\njson = 1", "[ask] json is a whole number", "it takes true or false"},
      {"[ask]\ntemperature = inf", "temperature is a value that no flag takes", "a number, 0 to"},
      {"[ask]\ntemperature = 200", "temperature does not take '200'", "a number, 0 to 100"},
      {"[ask]\nspan-layers = [7, 'x']", "span-layers is a list", "whole numbers"},
      {"[generate]\ncodec = 'int3'", "[generate] codec does not take 'int3'", "int8 or fp16"},
      {"[eval.needle]\nmodes = ['stream', 'sideways']", "'stream, sideways'", "a list of them"}};
  for (const Case& one : cases) {
    // Whatever the command is, all of the file is looked at.
    for (const Words& command : {Words{"memory", "list"}, {"ask", "Who?"}, {"generate"}}) {
      const Parsed parsed = Parse(command, one.text);
      EXPECT_TRUE(Contains(parsed.message(), Path("config.toml") + "', line ")) << one.text;
      EXPECT_TRUE(Contains(parsed.message(), one.message)) << one.text << ": " << parsed.message();
      EXPECT_TRUE(Contains(parsed.remedy(), one.remedy)) << one.text << ": " << parsed.remedy();
      EXPECT_NE(parsed.remedy(), "") << one.text;
    }
  }
  const std::vector<std::pair<Words, Case>> of_one_command = {
      {{"ingest", "a"},
       {"[ingest]\ninto = 'a'\ncollection = 'b'", "line 3: [ingest] collection", "remove one"}},
      {{"generate"},
       {"[generate]\nfile = 'a'\nprompt = 'b'", "does not go together with", "remove one"}},
      {{"generate"}, {"[generate]\nturn-name = 'a'", "turn-name needs --session", "add session"}}};
  for (const auto& [command, one] : of_one_command) {
    const Parsed parsed = Parse(command, one.text);
    EXPECT_TRUE(Contains(parsed.message(), one.message)) << one.text << ": " << parsed.message();
    EXPECT_TRUE(Contains(parsed.remedy(), one.remedy)) << one.text << ": " << parsed.remedy();
  }
}

// A value that a flag takes, as TOML has it.
std::string Sample(const CLI::Option& option) {
  const std::string allowed = cli::allowed_values(option), form = cli::placeholder_of(option);
  if (form.starts_with("PATTERN=")) return form == "PATTERN=N" ? "['a=1', 'b=2']" : "'a=0.5'";
  switch (cli::value_kind(option)) {
    case cli::ValueKind::kNone:
      return "true";
    case cli::ValueKind::kText:
      return "'" + (allowed.empty() ? "text" : allowed.substr(0, allowed.find_first_of(", "))) +
             "'";
    default:
      break;
  }
  std::smatch least;
  return std::regex_search(allowed, least, std::regex("(-?[0-9.]+) (to|or)")) ? least[1].str()
                                                                              : "1";
}

TEST_F(Configuration, EveryFlagOfEveryCommandIsAKeyOfItsTable) {
  CLI::App app;
  cli::Action action;
  cli::build_app(app, action);
  std::string text;
  int flags = 0;
  const auto add = [&](const auto& self, const CLI::App& command,
                       const std::string& table) -> void {
    for (const CLI::App* inner : command.get_subcommands({})) {
      // `model` and `archive` are keys, and cannot be tables.
      const bool is_key = inner->get_name() == "model" || inner->get_name() == "archive";
      const std::string name = is_key ? "" : inner->get_name();
      self(self, *inner, table + (table.empty() || name.empty() ? "" : ".") + name);
    }
    if (!command.get_subcommands({}).empty()) return;
    text += "[" + table + "]\n";
    for (const CLI::Option* option : command.get_options({})) {
      const bool is_own = !option->check_lname("help") && !option->check_lname("config") &&
                          !option->check_lname("no-config");
      if (option->get_lnames().empty() || !is_own) continue;
      text += option->get_lnames()[0] + " = " + Sample(*option) + "\n";
      ++flags;
    }
  };
  add(add, app, "");
  EXPECT_GT(flags, 200);
  EXPECT_EQ(Parse({"memory", "list"}, text).message(), "") << text;
}

// Example files and the list of common keys of docs/cli.md.
TEST_F(Configuration, DocumentedKeysAreFlags) {
  const std::string page = model::ReadFile(EIDETIC_CLI_PAGE);
  const std::size_t begin = page.find("\n### Configuration file\n");
  ASSERT_NE(begin, std::string::npos);
  const std::string section = page.substr(begin, page.find("\n### ", begin + 1) - begin);
  for (const std::string key : cli::kCommonKeys) {
    EXPECT_TRUE(Contains(section, "`" + key + "`")) << key;
  }
  const std::size_t first = section.find("```toml\n") + 8;
  const std::string example = section.substr(first, section.find("```\n", first) - first);
  int keys = 0;
  for (const cli::TomlKey& key : cli::parse_toml(example, "docs/cli.md").keys) {
    if (key.type == cli::TomlType::kTable) continue;
    ++keys;
    Words command = key.table.empty() ? Words{"ask"} : key.table;
    const Parsed parsed = Parse(command, example);
    EXPECT_EQ(parsed.message(), "");
    Words values = key.values;
    for (std::string& value : values) {
      if (value.rfind("~/", 0) == 0) value = ::getenv("HOME") + value.substr(1);
    }
    EXPECT_EQ(parsed.Of("--" + key.name), values) << key.name;
  }
  EXPECT_GT(keys, 8);
}

TEST_F(Configuration, TheFileIsFoundWhereItIsSaidToBe) {
  std::filesystem::create_directories(Path("xdg/eidetic"));
  std::filesystem::create_directories(Path("home/.config/eidetic"));
  Write("xdg/eidetic/config.toml", "archive = 'of-xdg'");
  Write("home/.config/eidetic/config.toml", "archive = 'of-home'");
  const std::string named = Write("named.toml", "archive = 'of-variable'");
  const std::string typed = Write("typed.toml", "archive = 'of-flag'");
  const auto archive = [&](const Words& arguments) { return Parsed(arguments).Of("--archive"); };
  const Words list = {"memory", "list"};
  const Variable none("EIDETIC_CONFIG", nullptr), no_xdg("XDG_CONFIG_HOME", nullptr),
      home("HOME", Path("home").c_str());
  EXPECT_EQ(archive(list), Words{"of-home"});
  const Variable relative("XDG_CONFIG_HOME", "xdg");  // which counts as none
  EXPECT_EQ(archive(list), Words{"of-home"});
  const Variable xdg("XDG_CONFIG_HOME", Path("xdg").c_str());
  EXPECT_EQ(archive(list), Words{"of-xdg"});
  const Variable variable("EIDETIC_CONFIG", named.c_str());
  EXPECT_EQ(archive(list), Words{"of-variable"});
  EXPECT_EQ(archive({"memory", "list", "--config", typed}), Words{"of-flag"});
  EXPECT_EQ(archive({"--config", typed, "memory", "list"}), Words{"of-flag"});
  EXPECT_EQ(archive({"memory", "list", "--no-config"}), Words());
  EXPECT_EQ(archive({"--no-config", "memory", "list"}), Words());
  const Variable empty("EIDETIC_CONFIG", "");
  std::filesystem::remove(Path("xdg/eidetic/config.toml"));
  EXPECT_EQ(archive(list), Words());
}

TEST_F(Configuration, AFileThatWasNamedMustBeThereAndRight) {
  const Outcome missing =
      RunProgram({"memory", "list", "--json"}, {{"EIDETIC_CONFIG", Path("nowhere.toml")}});
  EXPECT_EQ(missing.code, 3);
  EXPECT_TRUE(Contains(missing.err, "nowhere.toml")) << missing.err;
  ExpectDocumented("error", JsonLines(missing.out).at(0));
  const std::string broken = File("[ask]\nsources = 'all'");
  const Outcome wrong = RunProgram({"memory", "list"}, {{"EIDETIC_CONFIG", broken}});
  EXPECT_EQ(wrong.code, 2);
  EXPECT_EQ(wrong.err, "eidetic: '" + broken +
                           "', line 2: [ask] sources is a text\n"
                           "  -> it takes a whole number, 0 to 1000\n");
  // Help helps nevertheless.
  const Variable variable("EIDETIC_CONFIG", broken.c_str());
  for (const Words& words : {Words{"ask", "--help"}, {"--version"}, {"memory"}, {}}) {
    EXPECT_EQ(Parsed(words).message(), "");
  }
  EXPECT_NE(Parsed({"memory", "list", "--config"}).usage(), "");
  EXPECT_NE(Parsed({"memory", "list", "--config", "a", "--no-config"}).usage(), "");
  EXPECT_TRUE(Contains(Parsed({"memory", "list", "--config", Path("")}).message(), "a directory"));
}

TEST(NearName, IsTheOneWithTheFewestTypingErrors) {
  const Words names = {"threads", "model", "archive", "sinks", "seed"};
  EXPECT_EQ(cli::near_name("thraeds", names), "threads");
  EXPECT_EQ(cli::near_name("modl", names), "model");
  EXPECT_EQ(cli::near_name("sink", names), "sinks");
  EXPECT_EQ(cli::near_name("archives", names), "archive");
  EXPECT_EQ(cli::near_name("window", names), "");
  EXPECT_EQ(cli::near_name("", names), "");
}

}  // namespace
}  // namespace eidetic::apps

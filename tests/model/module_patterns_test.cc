// Expressions for modules are those of Python's `re`, as PEFT uses them.
#include "model/module_patterns.h"

#include <gtest/gtest.h>

namespace eidetic::model {
namespace {

bool Fits(const std::string& pattern, PatternExtent extent, const std::string& module) {
  ModulePatterns patterns(ErrorCode::kCorruption, "file", "");
  patterns.Add(pattern, extent);
  return patterns.Fits(pattern, extent, module);
}

// What `re` says was asked of it: re.fullmatch, and re.match of "(.*\.)?(PATTERN)$".
TEST(ModulePatterns, FitWholePathsOrTheirEndsAtADot) {
  const std::string module = "model.layers.10.self_attn.q_proj";
  const auto whole = [&](const char* pattern) {
    return Fits(pattern, PatternExtent::kWholePath, module);
  };
  EXPECT_TRUE(whole(R"(.*\.(q|v)_proj)"));
  EXPECT_TRUE(whole(R"(model\.layers\.\d+\.self_attn\.q_proj)"));
  EXPECT_TRUE(whole(".*|q_proj"));
  EXPECT_FALSE(whole("q_proj"));
  EXPECT_FALSE(whole(R"(.*self_attn)"));
  EXPECT_FALSE(whole(R"(model\.layers\.1\..*)"));
  const auto end = [&](const char* pattern) {
    return Fits(pattern, PatternExtent::kEndOfPath, module);
  };
  EXPECT_TRUE(end("q_proj"));
  EXPECT_TRUE(end("v_proj|q_proj"));
  EXPECT_TRUE(end("layers.10.self_attn.q_proj"));
  EXPECT_TRUE(end("model.layers.10.self_attn.q_proj"));
  EXPECT_TRUE(end("^model.*"));
  EXPECT_FALSE(end("_proj"));
  EXPECT_FALSE(end("0.self_attn.q_proj"));
  EXPECT_FALSE(end("^q_proj"));
  EXPECT_FALSE(end("layers.10"));
}

TEST(ModulePatterns, WhatNoExpressionIsIsAnErrorOfItsFile) {
  try {
    Fits("(q_proj", PatternExtent::kEndOfPath, "");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCorruption);
    EXPECT_NE(std::string(error.what()).find("file: '(q_proj' is no regular"), std::string::npos)
        << error.what();
  }
}

TEST(ModulePatterns, WhatPythonTakesIsNoProblem) {
  for (const char* pattern :
       {"q_proj", "self_attn.q_proj", R"(layers\.(0|1[0-9])\..*)", "[^a-z]?x{1,2}y{3,}",
        "(?:a|b)(?=c)(?!d)(?<=e)(?<!f)", "(?P<one>a)(?P=one)", "[]a]", R"([\]a+?*])", "a+?b*?c??",
        R"(\w\W\d\D\s\S\b)", "^q_proj$"}) {
    EXPECT_EQ(PatternProblem(pattern), std::nullopt) << pattern;
  }
}

TEST(ModulePatterns, WhatPythonDoesNotTakeOrTakesOtherwiseIsTold) {
  const struct {
    const char *pattern, *problem;
  } cases[] = {{"", "nothing"},
               {"(q_proj", "parenthesis at character 8"},
               {"a)|(b", "parenthesis at character 2"},  // in parentheses it would be one
               {"q_proj|*", "at character 8"},
               {"[a-", "at character 4"},
               {R"(q\h)", R"(Python has no such '\h' at character 2)"},
               {R"(\Qa.b\E)", R"('\Q')"},
               {R"((a)\1)", "number at character 4"},
               {"(?i)q_proj", "group that begins so at character 1"},
               {"q(?>a)", "group that begins so at character 2"},
               {"(*ACCEPT)a", "group that begins so at character 1"},
               {"(?#(?)a", "group"},
               {"[[:alpha:]]", "named sets"},
               {"a{,2}", "least"},
               {"a++b", "'++'"},
               {"a{2}+b", "'}+'"},
               {"\xff", "UTF-8"}};
  for (const auto& [pattern, words] : cases) {
    const std::string problem = PatternProblem(pattern).value_or("");
    EXPECT_NE(problem.find(words), std::string::npos) << pattern << ": " << problem;
  }
}

}  // namespace
}  // namespace eidetic::model

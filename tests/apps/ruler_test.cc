// RULER's prompts, scores and reports. Tokens are counted by a rule here: no model is needed.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "apps/eval/ruler_prompt.h"
#include "apps/eval/ruler_report.h"
#include "apps/eval/ruler_task.h"
#include "apps/eval/ruler_texts.h"
#include "apps/eval/ruler_words.h"
#include "tests/model/model_files.h"

namespace eidetic::eval {
namespace {

// Words of up to six letters, single digits and single marks are a token each, longer words two.
std::size_t CountPieces(std::string_view text) {
  std::size_t count = 0, letters = 0;
  for (const char c : text) {
    if (std::isalpha(static_cast<unsigned char>(c))) {
      count += letters++ % 6 == 0;
      continue;
    }
    letters = 0;
    count += c != ' ';
  }
  return count;
}

// The story of the demo, without the needle that the demo hides in it.
const std::string& Story() {
  static const std::string text = std::regex_replace(
      model::ReadFile(EIDETIC_TEST_TEXT),
      std::regex(" ?One of the special magic numbers for [^ ]+ is: [0-9]+\\."), "");
  return text;
}

// The story as two books, a question on each.
const RulerTexts& Texts() {
  static const RulerTexts texts = [] {
    QuestionSet set = parse_questions(R"({"version": 1,
      "books": [{"name": "Part one", "file": "a"}, {"name": "Part two", "file": "b"}],
      "questions": [
        {"id": "1", "book": "Part one", "question": "How many steps lead up from the hall?",
         "answers": ["seventeen"], "passages": ["that there are seventeen steps"]},
        {"id": "2", "book": "Part two", "question": "Where does Irene Adler live?",
         "answers": ["Briony Lodge", "Serpentine Avenue"],
         "passages": ["Is Briony Lodge, Serpentine Avenue"]}]})",
                                      "q.json");
    const std::size_t middle = Story().find(' ', 12000);
    set.books[0].text = Story().substr(0, middle);
    set.books[1].text = Story().substr(middle);
    locate_passages(set);
    return RulerTexts({Story()}, RulerQuestions(set));
  }();
  return texts;
}

const RulerTask& Task(const std::string& name) {
  for (const RulerTask& task : ruler_tasks()) {
    if (task.name == name) return task;
  }
  throw std::runtime_error("no task " + name);
}

RulerPrompt Prompt(const std::string& name, std::uint64_t length = 4096, std::uint64_t index = 0,
                   std::uint64_t seed = 1) {
  return ruler_prompt(Task(name), Texts(), CountPieces, seed, length, index);
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

// The needles in a text, as (key, value).
std::vector<std::pair<std::string, std::string>> Needles(const std::string& text,
                                                         const std::string& type = "numbers") {
  const std::regex pattern("One of the special magic " + type + " for ([^ ]+) is: ([^ ]+)\\.");
  std::vector<std::pair<std::string, std::string>> needles;
  for (std::sregex_iterator i(text.begin(), text.end(), pattern), end; i != end; ++i) {
    needles.emplace_back((*i)[1], (*i)[2]);
  }
  return needles;
}

constexpr const char* kUuid = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}";

bool IsNumber(const std::string& text) {
  return std::regex_match(text, std::regex("[1-9][0-9]{6}"));
}

bool IsUuid(const std::string& text) {
  return std::regex_match(text, std::regex(kUuid));
}

class RulerTasks : public ::testing::TestWithParam<std::string> {};

TEST_P(RulerTasks, FillTheirLengthAndHoldTheirAnswers) {
  const RulerTask& task = Task(GetParam());
  for (const std::uint64_t length : {2048, 4096, 8192, 16384}) {
    for (std::uint64_t index = 0; index < 3; ++index) {
      const RulerPrompt prompt = Prompt(task.name, length, index);
      const auto room = length - static_cast<std::uint64_t>(task.answer_tokens);
      EXPECT_EQ(prompt.tokens, CountPieces(prompt.text) + CountPieces(prompt.question));
      EXPECT_LE(prompt.tokens, room) << length;
      // A needle with two uuids is a part that cannot be cut.
      const double least = 0.98 * static_cast<double>(room);
      EXPECT_GE(static_cast<double>(prompt.tokens) + (task.uuid_keys ? 70 : 0), least) << length;
      ASSERT_FALSE(prompt.answers.empty());
      if (task.kind == RulerKind::kQuestion) {
        EXPECT_EQ(string_match_part(prompt.text, prompt.answers), 1);
      } else {
        EXPECT_EQ(string_match_all(prompt.text, prompt.answers), 1);
        // But "list" and "common" are words of the list and of the question.
        if (task.kind != RulerKind::kCommonWords) {
          EXPECT_EQ(string_match_part(prompt.question, prompt.answers), 0);
        }
      }
    }
  }
}

TEST_P(RulerTasks, LeaveRoomForTheTurnsOfAChat) {
  constexpr std::size_t kTurnTokens = 50;
  const RulerTask& task = Task(GetParam());
  const RulerPrompt prompt = ruler_prompt(task, Texts(), CountPieces, 1, 4096, 0, kTurnTokens);
  const std::string asked(prompt.asked()), lead(prompt.answer_lead());
  EXPECT_EQ(prompt.tokens,
            kTurnTokens + CountPieces(prompt.text) + CountPieces(asked) + CountPieces(lead));
  EXPECT_LE(prompt.tokens, 4096 - static_cast<std::size_t>(task.answer_tokens));
  // The user asks, and the assistant begins to answer.
  EXPECT_EQ(asked + " " + lead, prompt.question);
  EXPECT_NE(lead.substr(0, 1), " ");
  EXPECT_TRUE(asked.find('?') != std::string::npos || task.kind == RulerKind::kVariables) << asked;
  EXPECT_EQ(asked.find("Answer:"), std::string::npos);
  EXPECT_TRUE(lead.starts_with("Answer:") || lead.starts_with("The special magic ")) << lead;
}

TEST_P(RulerTasks, AreDrawnFromSeedLengthAndIndexAlone) {
  const RulerPrompt one = Prompt(GetParam(), 4096, 3, 7), same = Prompt(GetParam(), 4096, 3, 7);
  EXPECT_EQ(one.text, same.text);
  EXPECT_EQ(one.question, same.question);
  EXPECT_EQ(one.answers, same.answers);
  EXPECT_NE(one.text, Prompt(GetParam(), 4096, 4, 7).text);
  EXPECT_NE(one.text, Prompt(GetParam(), 4096, 3, 8).text);
}

TEST_P(RulerTasks, RefuseALengthThatHoldsNoPrompt) {
  try {
    Prompt(GetParam(), 64);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(GetParam()), std::string::npos) << error.what();
  }
}

INSTANTIATE_TEST_SUITE_P(All, RulerTasks,
                         ::testing::Values("niah_single_1", "niah_single_2", "niah_single_3",
                                           "niah_multikey_1", "niah_multikey_2", "niah_multikey_3",
                                           "niah_multivalue", "niah_multiquery", "vt", "cwe", "fwe",
                                           "qa_1", "qa_2"),
                         [](const auto& tested) { return tested.param; });

TEST(RulerNeedles, Single1HidesANumberInNoise) {
  const RulerPrompt prompt = Prompt("niah_single_1");
  const std::vector<std::string> lines = Lines(prompt.text);
  EXPECT_EQ(
      lines[0],
      "A special magic number is hidden within the following text. Make sure to memorize it. I "
      "will quiz you about the number afterwards.");
  const auto needles = Needles(prompt.text);
  ASSERT_EQ(needles.size(), 1u);
  EXPECT_TRUE(IsNumber(needles[0].second)) << needles[0].second;
  EXPECT_EQ(prompt.answers, std::vector<std::string>{needles[0].second});
  const std::string noise =
      "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";
  EXPECT_EQ(std::count(lines.begin(), lines.end(), noise),
            static_cast<std::ptrdiff_t>(lines.size()) - 2);
  EXPECT_EQ(prompt.question, "\nWhat is the special magic number for " + needles[0].first +
                                 " mentioned in the provided text? The special magic number for " +
                                 needles[0].first + " mentioned in the provided text is");
}

TEST(RulerNeedles, Single2HidesANumberBetweenSentencesOfTheText) {
  std::string story;
  for (const char c : Story()) {
    const bool blank = std::isspace(static_cast<unsigned char>(c)) != 0;
    if (!blank) story += c;
    if (blank && !story.empty() && story.back() != ' ') story += ' ';
  }
  for (std::uint64_t index = 0; index < 8; ++index) {
    const RulerPrompt prompt = Prompt("niah_single_2", 1024, index);
    const auto needles = Needles(prompt.text);
    ASSERT_EQ(needles.size(), 1u);
    const std::string sentence = "One of the special magic numbers for " + needles[0].first +
                                 " is: " + needles[0].second + ".";
    const std::size_t begin = prompt.text.find('\n') + 1, at = prompt.text.find(sentence);
    EXPECT_NEAR(*prompt.depth, static_cast<double>(at) / prompt.text.size(), 0.05);
    const std::string before = prompt.text.substr(begin, at - begin);
    const std::size_t end = at + sentence.size();
    const std::string after = end < prompt.text.size() ? prompt.text.substr(end + 1) : "";
    // A prompt may go on at the story's beginning.
    EXPECT_NE((story + story).find(before + after), std::string::npos) << before;
  }
}

TEST(RulerNeedles, DepthsOfManySamplesCoverTheText) {
  std::vector<int> tenths(10);
  for (std::uint64_t index = 0; index < 200; ++index) {
    const double depth = *Prompt("niah_single_2", 1024, index).depth;
    ++tenths[std::min<std::size_t>(9, static_cast<std::size_t>(depth * 10))];
  }
  // 40 depths of equal chance: 20 samples expected in a tenth, with a deviation of 4.2.
  for (std::size_t i = 1; i < 9; ++i) EXPECT_NEAR(tenths[i], 20, 17) << i;
}

TEST(RulerNeedles, Single3HidesAUuid) {
  const RulerPrompt prompt = Prompt("niah_single_3");
  const auto needles = Needles(prompt.text, "uuids");
  ASSERT_EQ(needles.size(), 1u);
  EXPECT_TRUE(IsUuid(needles[0].second)) << needles[0].second;
  EXPECT_EQ(prompt.answers, std::vector<std::string>{needles[0].second});
  EXPECT_EQ(prompt.text.rfind("A special magic uuid is hidden", 0), 0u);
}

TEST(RulerNeedles, Multikey1HidesFourKeysAndAsksForOne) {
  const RulerPrompt prompt = Prompt("niah_multikey_1");
  const auto needles = Needles(prompt.text);
  ASSERT_EQ(needles.size(), 4u);
  const std::map<std::string, std::string> values(needles.begin(), needles.end());
  EXPECT_EQ(values.size(), 4u);
  std::size_t asked = 0;
  for (const auto& [key, value] : values) {
    if (prompt.question.find(key) == std::string::npos) continue;
    ++asked;
    EXPECT_EQ(prompt.answers, std::vector<std::string>{value});
  }
  EXPECT_EQ(asked, 1u);
}

TEST(RulerNeedles, Multikey2And3HideANeedleAmongNeedles) {
  for (const bool uuids : {false, true}) {
    const RulerPrompt prompt = Prompt(uuids ? "niah_multikey_3" : "niah_multikey_2");
    const auto needles = Needles(prompt.text, uuids ? "uuids" : "numbers");
    EXPECT_EQ(needles.size(), Lines(prompt.text).size() - 1);
    EXPECT_GT(needles.size(), 20u);
    std::set<std::string> keys, values;
    for (const auto& [key, value] : needles) {
      EXPECT_TRUE(keys.insert(key).second) << key;
      EXPECT_TRUE(values.insert(value).second) << value;
      EXPECT_EQ(IsUuid(key), uuids) << key;
      EXPECT_TRUE(uuids ? IsUuid(value) : IsNumber(value)) << value;
      const bool asked = prompt.question.find(" for " + key + " ") != std::string::npos;
      EXPECT_EQ(asked, value == prompt.answers[0]);
    }
    EXPECT_TRUE(values.contains(prompt.answers[0]));
  }
}

TEST(RulerNeedles, MultivalueAsksForFourValuesOfAKey) {
  const RulerPrompt prompt = Prompt("niah_multivalue");
  const auto needles = Needles(prompt.text);
  ASSERT_EQ(needles.size(), 4u);
  std::set<std::string> values;
  for (const auto& [key, value] : needles) {
    EXPECT_EQ(key, needles[0].first);
    values.insert(value);
  }
  EXPECT_EQ(std::set<std::string>(prompt.answers.begin(), prompt.answers.end()), values);
  EXPECT_EQ(prompt.answers.size(), 4u);
  EXPECT_EQ(
      Lines(prompt.text)[0],
      "Some special magic numbers are hidden within the following text. Make sure to memorize "
      "it. I will quiz you about the numbers afterwards.");
  EXPECT_EQ(prompt.question, "\nWhat are all the special magic numbers for " + needles[0].first +
                                 " mentioned in the provided text? The special magic numbers for " +
                                 needles[0].first + " mentioned in the provided text are");
}

TEST(RulerNeedles, MultiqueryAsksForFourKeys) {
  const RulerPrompt prompt = Prompt("niah_multiquery");
  const auto needles = Needles(prompt.text);
  ASSERT_EQ(needles.size(), 4u);
  std::map<std::string, std::string> keys;  // by value
  for (const auto& [key, value] : needles) keys[value] = key;
  ASSERT_EQ(prompt.answers.size(), 4u);
  std::string list;
  for (std::size_t i = 0; i < 4; ++i) {
    list += (i == 0 ? "" : i == 3 ? ", and " : ", ") + keys.at(prompt.answers[i]);
  }
  EXPECT_EQ(prompt.question, "\nWhat are all the special magic numbers for " + list +
                                 " mentioned in the provided text? The special magic numbers for " +
                                 list + " mentioned in the provided text are");
}

// The lines "VAR x = y" of a text, in order.
std::vector<std::string> Assignments(const std::string& text) {
  std::vector<std::string> lines;
  for (const std::string& line : Lines(text)) {
    if (line.rfind("VAR ", 0) == 0) lines.push_back(line);
  }
  return lines;
}

TEST(RulerVariables, AreAChainInNoiseAfterAnExample) {
  const RulerPrompt prompt = Prompt("vt");
  const std::string lead =
      "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n";
  const std::size_t second = prompt.text.rfind(lead);
  ASSERT_GT(second, 0u);
  const std::string example = prompt.text.substr(0, second), asked = prompt.text.substr(second);
  ASSERT_EQ(prompt.answers.size(), 5u);
  std::smatch value;
  ASSERT_TRUE(std::regex_search(prompt.question, value, std::regex("the value ([0-9]{5}) in")));
  std::vector<std::string> chain = {"VAR " + prompt.answers[0] + " = " + value[1].str()};
  for (std::size_t i = 1; i < 5; ++i) {
    chain.push_back("VAR " + prompt.answers[i] + " = VAR " + prompt.answers[i - 1] + " ");
  }
  EXPECT_EQ(Assignments(asked), chain);
  for (const std::string& name : prompt.answers) EXPECT_EQ(name.size(), 5u);
  EXPECT_EQ(
      prompt.question,
      "\nQuestion: Find all variables that are assigned the value " + value[1].str() +
          " in the text above. Answer: According to the chain(s) of variable assignment in the "
          "text above, 5 variables are assigned the value " +
          value[1].str() + ", they are: ");
  // The example is a whole one, answered, with names of three letters.
  EXPECT_EQ(Assignments(example).size(), 5u);
  EXPECT_LE(CountPieces(example), 500u);
  EXPECT_TRUE(std::regex_search(example, std::regex("they are:  ([A-Z]{3} ){4}[A-Z]{3}\\n\\n$")))
      << example;
}

// How often each word of a numbered list stands in it; its numbers must count up from 1.
std::map<std::string, int> ListedWords(const std::string& list) {
  std::map<std::string, int> counts;
  std::istringstream in(list);
  int expected = 1;
  for (std::string number, word; in >> number >> word; ++expected) {
    EXPECT_EQ(number, std::to_string(expected) + ".");
    ++counts[word];
  }
  return counts;
}

std::map<int, int> HowManyStandHowOften(const std::map<std::string, int>& counts) {
  std::map<int, int> result;
  for (const auto& [word, count] : counts) ++result[count];
  return result;
}

TEST(RulerCommonWords, TenStandMoreOftenThanTheOthers) {
  struct Expected {
    std::uint64_t length;
    int common, other;  // times a word stands in the list
    int example_common, example_other, example_words;
  };
  for (const Expected& expected : {Expected{2048, 6, 1, 3, 1, 20}, {8192, 30, 3, 10, 3, 40}}) {
    const RulerPrompt prompt = Prompt("cwe", expected.length);
    const std::string lead = "Memorize the ones that appear most often.\n";
    const std::size_t first = prompt.text.find(lead), second = prompt.text.rfind(lead);
    ASSERT_NE(first, second);
    const auto words = ListedWords(prompt.text.substr(second + lead.size()));
    const auto often = HowManyStandHowOften(words);
    ASSERT_EQ(often.size(), 2u);
    EXPECT_EQ(often.at(expected.common), 10);
    EXPECT_GT(often.at(expected.other), 10);
    ASSERT_EQ(prompt.answers.size(), 10u);
    for (const std::string& word : prompt.answers) EXPECT_EQ(words.at(word), expected.common);

    const std::size_t begin = first + lead.size(), end = prompt.text.find('\n', begin);
    const auto example = ListedWords(prompt.text.substr(begin, end - begin));
    const auto example_often = HowManyStandHowOften(example);
    EXPECT_EQ(example_often.at(expected.example_common), 10);
    EXPECT_EQ(example_often.at(expected.example_other), expected.example_words - 10);
    const std::string answer = prompt.text.substr(end, prompt.text.find("\nBelow", end) - end);
    EXPECT_EQ(answer.rfind("\nQuestion: What are the 10 most common words in the above list? "
                           "Answer: The top 10 words that appear most often in the list are: 1. ",
                           0),
              0u)
        << answer;
    for (const auto& [word, count] : ListedWords(answer.substr(answer.find("are: 1.") + 5))) {
      EXPECT_EQ(example.at(word), expected.example_common);
    }
    EXPECT_EQ(prompt.question,
              "\nQuestion: What are the 10 most common words in the above list? Answer: The top 10 "
              "words that appear most often in the list are:");
  }
}

TEST(RulerCommonWords, LongListsTakeWordsOfTheTextAndThenPairs) {
  const RulerPrompt prompt = Prompt("cwe", 150000);
  const auto words =
      ListedWords(prompt.text.substr(prompt.text.rfind("appear most often.\n") + 19));
  EXPECT_GT(words.size(), ruler_common_words().size() + Texts().vocabulary.size());
  const auto often = HowManyStandHowOften(words);
  EXPECT_EQ(often.at(30), 10);
  EXPECT_EQ(often.at(3), static_cast<int>(words.size()) - 10);
}

TEST(RulerFrequentWords, FrequenciesFallByTheSquareOfTheRank) {
  const RulerPrompt prompt = Prompt("fwe", 8192);
  const std::string lead = "Find the three most frequently appeared coded words. ";
  std::map<std::string, int> counts;
  std::istringstream in(prompt.text.substr(prompt.text.find(lead) + lead.size()));
  for (std::string word; in >> word;) ++counts[word];
  std::vector<std::pair<int, std::string>> ranked;
  for (const auto& [word, count] : counts) ranked.emplace_back(count, word);
  std::sort(ranked.rbegin(), ranked.rend());
  EXPECT_EQ(ranked[0].second, "...");
  ASSERT_EQ(prompt.answers.size(), 3u);
  const double first = ranked[0].first;
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(ranked[i + 1].second, prompt.answers[i]);
    EXPECT_EQ(prompt.answers[i].size(), 6u);
    const double rank = static_cast<double>(i) + 2;
    EXPECT_NEAR(ranked[i + 1].first, first / (rank * rank), 1.0);  // both are cut to integers
  }
  EXPECT_LT(ranked[4].first, ranked[3].first);
  EXPECT_EQ(
      prompt.question,
      "\nQuestion: Do not provide any explanation. Please ignore the dots '....'. What are "
      "the three most frequently appeared words in the above coded text? Answer: According to "
      "the coded text above, the three most frequently appeared words are:");
}

// The documents of a prompt; their numbers must count up from 1.
std::vector<std::string> Documents(const std::string& text) {
  std::vector<std::string> documents;
  for (std::size_t at = text.find("\n\nDocument "); at != std::string::npos;) {
    const std::string head = "\n\nDocument " + std::to_string(documents.size() + 1) + ":\n";
    EXPECT_EQ(text.substr(at, head.size()), head);
    const std::size_t next = text.find("\n\nDocument ", at + 1);
    at += head.size();
    documents.push_back(text.substr(at, next == std::string::npos ? next : next - at));
    at = next;
  }
  return documents;
}

TEST(RulerQuestionTasks, AnswersStandInADocumentAmongOthers) {
  std::set<std::string> asked;
  for (std::uint64_t index = 0; index < 2; ++index) {
    const RulerPrompt prompt = Prompt("qa_1", 2048, index);
    const auto documents = Documents(prompt.text);
    ASSERT_GT(documents.size(), 5u);
    const auto holding =
        std::count_if(documents.begin(), documents.end(), [&](const std::string& document) {
          return document.find("there are seventeen steps") != std::string::npos ||
                 document.find("Is Briony Lodge, Serpentine Avenue") != std::string::npos;
        });
    EXPECT_EQ(holding, 1);
    std::smatch question;
    ASSERT_TRUE(std::regex_match(
        prompt.question, question,
        std::regex("\n\nAnswer the question based on the given documents. Only give me the answer "
                   "and do not output any other words.\n\nQuestion: (.*) Answer:")));
    asked.insert(question[1]);
  }
  EXPECT_EQ(asked.size(), 2u);  // each question once before one is asked again
}

TEST(RulerQuestionTasks, Qa2HasTitlesAndDocumentsThatResembleTheQuestion) {
  const RulerQuestions& all = Texts().questions;
  for (std::uint64_t index = 0; index < 2; ++index) {
    const RulerPrompt prompt = Prompt("qa_2", 4096, index);
    const bool lives = prompt.answers[0] == "Briony Lodge";
    const RulerQuestion& question = all.questions()[lives ? 1 : 0];
    ASSERT_EQ(question.answers, prompt.answers);
    for (const std::string& document : Documents(prompt.text)) {
      EXPECT_EQ(document.rfind("Part ", 0), 0u) << document;
    }
    std::size_t alike = 0;
    for (const std::size_t d : all.alike(question, 5)) {
      alike += prompt.text.find(all.title(all.documents()[d]) + "\n" + all.documents()[d].text) !=
               std::string::npos;
    }
    EXPECT_GE(alike, 4u);  // the right one may be among them, as a part of its document
  }
}

// Recorded: what is hidden depends on no text, no tokenizer and no standard library.
TEST(RulerNeedles, TheSameSeedHidesTheSameEverywhere) {
  EXPECT_EQ(Prompt("niah_multiquery").answers,
            (std::vector<std::string>{"3817117", "4469846", "3368989", "2024048"}));
  EXPECT_EQ(Prompt("vt").answers,
            (std::vector<std::string>{"PVTRT", "QHHFQ", "FMHDV", "ZVVCV", "AUUAK"}));
}

TEST(RulerQuestionTasks, WithoutQuestionsAreRefused) {
  const RulerTexts texts({Story()});
  EXPECT_THROW(ruler_prompt(Task("qa_1"), texts, CountPieces, 1, 4096, 0), Error);
}

TEST(RulerTaskNames, GroupsAreTakenApartInRulersOrder) {
  EXPECT_EQ(ruler_tasks_of({"all"}).size(), 13u);
  EXPECT_EQ(ruler_tasks_of({"ruler-11"}).size(), 11u);
  const auto tasks = ruler_tasks_of({"vt", "niah_single_1", "vt"});
  ASSERT_EQ(tasks.size(), 2u);
  EXPECT_EQ(tasks[0].name, "niah_single_1");
  EXPECT_THROW(ruler_tasks_of({"niah"}), Error);
}

TEST(RulerTaskNames, AnswersHaveAsManyTokensAsInRuler) {
  std::map<std::string, int> tokens;
  for (const RulerTask& task : ruler_tasks()) tokens[task.name] = task.answer_tokens;
  EXPECT_EQ(tokens.at("niah_single_1"), 128);
  EXPECT_EQ(tokens.at("niah_multiquery"), 128);
  EXPECT_EQ(tokens.at("vt"), 30);
  EXPECT_EQ(tokens.at("cwe"), 120);
  EXPECT_EQ(tokens.at("fwe"), 50);
  EXPECT_EQ(tokens.at("qa_1"), 32);
  EXPECT_EQ(tokens.at("qa_2"), 32);
}

// What string_match_all and string_match_part of RULER's scripts/eval give, divided by 100.
TEST(RulerScores, AreThoseOfRuler) {
  struct Recorded {
    std::string answer;
    std::vector<std::string> references;
    double all, part;
  };
  const std::vector<Recorded> recorded = {
      {" 1234567, 7654321 and 1111111.", {"1234567", "7654321", "2222222", "1111111"}, 0.75, 1},
      {"The ANCHOR, the beacon", {"anchor", "Beacon"}, 1, 1},
      {"nothing of that kind", {"1234567"}, 0, 0},
      {"", {"a", "b"}, 0, 0},
      {"in a box", {"ox", "cow"}, 0.5, 1},  // a part of a word counts
      {"123 4567", {"1234567"}, 0, 0},
      {"Briony Lodge", {"Briony Lodge", "Serpentine Avenue"}, 0.5, 1},
      {"VAR AAAAA, BBBBB", {"AAAAA", "BBBBB", "CCCCC", "DDDDD", "EEEEE"}, 0.4, 1},
      {"same same", {"same", "same"}, 1, 1},
  };
  for (const Recorded& r : recorded) {
    EXPECT_DOUBLE_EQ(string_match_all(r.answer, r.references), r.all) << r.answer;
    EXPECT_DOUBLE_EQ(string_match_part(r.answer, r.references), r.part) << r.answer;
    EXPECT_DOUBLE_EQ(ruler_score(Task("cwe"), r.answer, r.references), r.all);
    EXPECT_DOUBLE_EQ(ruler_score(Task("qa_2"), r.answer, r.references), r.part);
  }
  EXPECT_EQ(ruler_answer("\n  a\tb\x01"
                         "c \n"),
            "a\nb\nc");
}

TEST(RulerLengths, TheMostThatFitIsFound) {
  for (const std::size_t cost : {1, 3, 90, 700}) {
    for (const std::size_t budget : {100, 4000, 100000}) {
      std::size_t calls = 0;
      const auto tokens_of = [&](std::size_t units) {
        ++calls;
        return 60 + cost * units + units % 3;  // not quite a line
      };
      const std::size_t most = most_that_fit(1, budget, tokens_of);
      if (62 + cost > budget) {
        EXPECT_EQ(most, 0u);
        continue;
      }
      EXPECT_LE(tokens_of(most), budget);
      EXPECT_GE(tokens_of(most + 1) + budget / 500 + 3, budget) << cost << " " << budget;
      EXPECT_LE(calls, 14u) << cost << " " << budget;
    }
  }
  // A jump far from a line is found as well.
  const auto jump = [](std::size_t units) -> std::size_t { return units < 777 ? 10 : 1000000; };
  EXPECT_EQ(most_that_fit(1, 5000, jump), 776u);
}

std::vector<RulerSample> SamplesOf(const RulerOptions& options, double score) {
  std::vector<RulerSample> samples;
  for (const RulerTask& task : options.tasks) {
    for (std::uint64_t i = 0; i < options.samples; ++i) {
      RulerSample sample;
      sample.mode = "stream";
      sample.task = task.name;
      sample.length = 4096;
      sample.index = i;
      sample.tokens = 4000;
      sample.read_seconds = 2;
      sample.references = {"x"};
      // Questions are not in the mean: theirs would spoil it.
      sample.score = task.in_ruler_11() ? score : 0;
      samples.push_back(sample);
    }
  }
  return samples;
}

TEST(RulerReport, TheMeanIsOfTheElevenTasksWithoutQuestions) {
  RulerOptions options;
  options.tasks = ruler_tasks_of({"all"});
  options.samples = 10;
  std::vector<RulerSample> samples = SamplesOf(options, 0.5);
  for (RulerSample& sample : samples) {
    if (sample.task == "vt") sample.score = 1;
  }
  const auto cells = ruler_cells(options, samples);
  ASSERT_EQ(cells.size(), 13u);
  const auto means = ruler_means(options, cells);
  ASSERT_EQ(means.size(), 1u);
  EXPECT_TRUE(means[0].complete);
  EXPECT_NEAR(means[0].score, (10 * 50.0 + 100) / 11, 1e-9);
  // Wilson's interval of 5 of 10 is .2366 to .7634, of 10 of 10 .7225 to 1.
  const double half = std::hypot(std::sqrt(10.0) * 26.34, 27.75) / 11;
  EXPECT_NEAR(means[0].score - means[0].low, half, 0.01);
  EXPECT_NEAR(means[0].high - means[0].score, std::sqrt(10.0) * 26.34 / 11, 0.01);
  EXPECT_NEAR(cells[0].low, 23.66, 0.01);
  EXPECT_NEAR(cells[0].tokens_per_second, 2000, 1e-9);

  // A task without samples leaves no mean.
  std::erase_if(samples, [](const RulerSample& sample) { return sample.task == "fwe"; });
  EXPECT_FALSE(ruler_means(options, ruler_cells(options, samples))[0].complete);
}

TEST(RulerReport, TablesAndPageShowTasksModesAndWhatDidNotFit) {
  RulerOptions options;
  options.tasks = ruler_tasks_of({"ruler-11"});
  options.modes = {"stream", "full"};
  options.samples = 2;
  std::vector<RulerSample> samples = SamplesOf(options, 0.75);
  RulerSample large = samples[0];
  large.mode = "full";
  large.fits = false;
  samples.push_back(large);
  const auto cells = ruler_cells(options, samples);
  const auto tables = ruler_report_tables(options, cells);
  ASSERT_EQ(tables.size(), 3u);
  EXPECT_EQ(tables[0].note.find("chat"), std::string::npos);
  RulerOptions chat = options;
  chat.chat = true;
  EXPECT_NE(ruler_report_tables(chat, cells)[0].note.find("chat template"), std::string::npos);
  EXPECT_NE(ruler_page(chat, cells, "m").find("chat template"), std::string::npos);
  EXPECT_EQ(tables[0].rows[1][1].substr(0, 5), "75.0 ");
  EXPECT_EQ(tables[0].rows[2][1], "-");
  EXPECT_EQ(tables[1].rows[0], (std::vector<std::string>{"task", "stream", "full"}));
  EXPECT_EQ(tables[1].rows[1][0], "niah_single_1");
  EXPECT_EQ(tables[1].rows[1][2], "does not fit");
  EXPECT_EQ(tables[1].rows.back()[0], "RULER-11");
  EXPECT_EQ(tables[2].rows[1][1], "2000");
  for (const RulerTable& table : tables) {
    ASSERT_EQ(table.rows.size(), table.shares.size());
    for (std::size_t r = 0; r < table.rows.size(); ++r) {
      EXPECT_EQ(table.rows[r].size(), table.shares[r].size());
    }
  }
  const std::string page = ruler_page(options, cells, "a <model>");
  for (const char* part :
       {"<!doctype html>", "a &lt;model&gt;", "niah_multiquery", "background:#", "</html>"}) {
    EXPECT_NE(page.find(part), std::string::npos) << part;
  }
  for (const char* outside : {"<script", "<link", " src=", " href=", "url("}) {
    EXPECT_EQ(page.find(outside), std::string::npos) << outside;
  }
}

TEST(RulerSample, IsTheSameAfterAResultsFile) {
  RulerOptions options;
  options.tasks = ruler_tasks_of({"cwe"});
  RulerSample sample = SamplesOf(options, 0.3)[0];
  sample.depth = 0.25;
  sample.answer = "1. \"word\"\n2.";
  EXPECT_EQ(to_json(ruler_sample_from_json(to_json(sample))), to_json(sample));
  sample.depth.reset();
  EXPECT_EQ(to_json(ruler_sample_from_json(to_json(sample))), to_json(sample));
}

}  // namespace
}  // namespace eidetic::eval

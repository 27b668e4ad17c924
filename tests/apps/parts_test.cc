// The pieces of the command line that need no library: text checks, haystacks, heat maps, numbers.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <stdexcept>

#include "apps/cli/ask.h"
#include "apps/cli/characters.h"
#include "apps/cli/chat_input.h"
#include "apps/cli/chat_slash.h"
#include "apps/cli/exit_code.h"
#include "apps/cli/input_history.h"
#include "apps/cli/results_file.h"
#include "apps/cli/terminal.h"
#include "apps/cli/text_file.h"
#include "apps/cli/tune_report.h"
#include "apps/common/ingest_settings.h"
#include "apps/eval/calibrate.h"
#include "apps/eval/haystack.h"
#include "apps/eval/heat_map.h"
#include "apps/eval/needle_report.h"
#include "apps/eval/perplexity.h"
#include "apps/eval/question_form.h"
#include "apps/eval/questions.h"
#include "tests/model/model_files.h"
#include "tests/temporary_folder.h"

namespace eidetic {
namespace {

TEST(AskPrompt, LeadsIntoTheAnswerOfAWhatIsQuestion) {
  EXPECT_EQ(cli::answer_lead("What is the capital of France?"), "The capital of France is");
  EXPECT_EQ(cli::answer_lead("who were the three musketeers ?\n"), "The three musketeers were");
  EXPECT_EQ(cli::ask_prompt("Where is Élise's aunt?"), "\nWhere is Élise's aunt? Élise's aunt is");
}

TEST(AskPrompt, TakesAQuestionOfAnyLength) {
  const std::string subject = "x" + std::string(1 << 20, 'a');
  EXPECT_EQ(cli::answer_lead("What is " + subject + "?"), "X" + subject.substr(1) + " is");
}

TEST(AskPrompt, CuesAnyOtherQuestionAndGoesOnWithOtherText) {
  EXPECT_EQ(cli::answer_lead("How old is Irene?"), "");
  EXPECT_EQ(cli::answer_lead("What is?"), "");
  EXPECT_EQ(cli::answer_lead("What is it? Why?"), "");
  EXPECT_EQ(cli::ask_prompt("How old is Irene?"), "\nHow old is Irene?\nAnswer:");
  EXPECT_EQ(cli::ask_prompt("Irene lives in"), "\nIrene lives in");
}

TEST(IngestSettings, AreThoseOfTheSessionAndNoSinksStayNone) {
  SessionOptions session;
  session.codec = "fp16";
  session.window = 512;
  session.sinks = -1;
  session.segment = 128;
  const IngestOptions reading = apps::ingest_as(session, "books", "one", "text");
  EXPECT_EQ(reading.collection, "books");
  EXPECT_EQ(reading.source, "one");
  EXPECT_EQ(reading.text, "text");
  EXPECT_EQ(reading.codec, "fp16");
  EXPECT_EQ(reading.window, 512);
  EXPECT_EQ(reading.sinks, -1);  // 0 would be the default
  EXPECT_EQ(reading.segment, 128);
}

TEST(PromptOptions, ALimitLeavesAModeOutOfGreaterLengths) {
  eval::NeedleOptions options;
  options.modes = {"full", "stream"};
  options.limits = {{"full", 8192}};
  EXPECT_EQ(options.modes_within(8192), options.modes);
  EXPECT_EQ(options.modes_within(8193), std::vector<std::string>{"stream"});
}

// A question file on two books whose texts are given.
eval::QuestionSet Questions(const std::string& moby, const std::string& emma) {
  eval::QuestionSet set = eval::parse_questions(
      R"({"version": 1,
          "books": [{"name": "Moby Dick", "file": "moby.txt"}, {"name": "Emma", "file": "emma.txt"}],
          "questions": [
            {"id": "m1", "book": "Moby Dick", "question": "Who tells it?", "answers": ["Ishmael"],
             "passages": ["Call me Ishmael", "I am Ishmael"]},
            {"id": "e1", "book": "Emma", "question": "Is she rich?", "answers": ["rich"],
             "passages": ["clever, and rich"]}]})",
      "test.json");
  set.books[0].text = moby;
  set.books[1].text = emma;
  return set;
}

TEST(Questions, PassagesAreLocatedOnce) {
  eval::QuestionSet set = Questions("Call me Ishmael. I am Ishmael.", "handsome, clever, and rich");
  eval::locate_passages(set);
  ASSERT_EQ(set.questions[0].places.size(), 2u);
  EXPECT_EQ(set.questions[0].places[1].begin, 17u);
  EXPECT_EQ(set.questions[1].places[0].end, 26u);
  for (const char* emma : {"handsome", "clever, and rich; clever, and rich"}) {
    eval::QuestionSet wrong = Questions("Call me Ishmael. I am Ishmael.", emma);
    try {
      eval::locate_passages(wrong);
      FAIL() << emma;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("e1"), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find("emma.txt"), std::string::npos) << error.what();
    }
  }
}

TEST(Questions, ACutBookKeepsWhatItAnswers) {
  eval::QuestionSet set =
      Questions("Call me Ishmael. I am Ishmael.", "Emma Woodhouse, handsome, clever, and rich");
  eval::locate_passages(set);
  eval::cut_books(set, 20);
  ASSERT_EQ(set.books.size(), 1u);
  EXPECT_EQ(set.books[0].text, "Call me Ishmael. I");
  ASSERT_EQ(set.questions.size(), 1u);
  EXPECT_EQ(set.questions[0].places.size(), 1u);
}

TEST(Questions, ASourceIsRightWhereItOverlapsAPassageOfItsBook) {
  eval::QuestionSet set = Questions("Call me Ishmael. I am Ishmael.", "handsome, clever, and rich");
  eval::locate_passages(set);
  const eval::Question& question = set.questions[0];
  EXPECT_EQ(eval::rank_of(question, "Moby Dick", {{"Emma", 0, 9}, {"Moby Dick", 28, 99}}), 2);
  EXPECT_EQ(eval::rank_of(question, "Moby Dick", {{"Moby Dick", 15, 17}, {"Emma", 0, 99}}), 0);
  EXPECT_EQ(eval::rank_of(question, "Moby Dick", {}), 0);
}

TEST(Questions, AnAnswerIsRightWhenAnAcceptedOneBeginsAWord) {
  EXPECT_TRUE(eval::is_right("It was an OX, I think", {"ox"}));
  EXPECT_FALSE(eval::is_right("in a box", {"ox"}));
  EXPECT_TRUE(eval::is_right("a box of an ox", {"ox"}));
  EXPECT_TRUE(eval::is_right("thirty-nine", {"41", "nine"}));
  EXPECT_FALSE(eval::is_right("", {"ox"}));
}

TEST(Questions, AFileThatIsNoneSaysWhatIsWrong) {
  const auto message = [](const std::string& json) -> std::string {
    try {
      eval::parse_questions(json, "q.json");
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_NE(message("[]").find("no JSON object"), std::string::npos);
  EXPECT_NE(message(R"({"version": 2})").find("version 1"), std::string::npos);
  const std::string books = R"({"version": 1, "books": [{"name": "A", "file": "a.txt"}], )";
  EXPECT_NE(message(books + R"("questions": []})").find("'questions'"), std::string::npos);
  const std::string question = books + R"("questions": [{"id": "x", "question": "?", "book": )";
  EXPECT_NE(message(question + R"("B", "answers": ["a"], "passages": ["p"]}]})").find("book B"),
            std::string::npos);
  EXPECT_NE(message(question + R"("A", "answers": [], "passages": ["p"]}]})").find("'answers' in "),
            std::string::npos);
  EXPECT_NE(message(question + R"("A", "answers": ["a"]}]})").find("'passages' in question x"),
            std::string::npos);
  EXPECT_EQ(message(question + R"("A", "answers": ["a"], "passages": ["p"]}]})"), "accepted");
}

TEST(Questions, ScoresCountRanksAndAnswers) {
  std::vector<eval::Asked> asked;
  for (const int rank : {1, 3, 4, 0}) {
    eval::Asked one{"q", "words", "said", rank, rank == 3, 0.1 * rank, 1};
    EXPECT_EQ(eval::to_json(eval::asked_from_json(eval::to_json(one))), eval::to_json(one));
    asked.push_back(one);
  }
  asked.push_back({"q", "both", "", 1, true, 9, 9});
  const eval::PolicyScore score = eval::score_of("words", asked);
  EXPECT_EQ(score.questions, 4);
  EXPECT_EQ(score.at_1, 1);
  EXPECT_EQ(score.at_3, 2);
  EXPECT_EQ(score.at_5, 3);
  EXPECT_EQ(score.right, 1);
  EXPECT_DOUBLE_EQ(score.first_token_seconds, 0.3);
  EXPECT_TRUE(eval::to_json(eval::score_of("none", asked)).at("right_answers").is_null());
}

TEST(Characters, FindTheFirstByteThatIsNotUtf8) {
  const auto at = [](std::string_view text) { return cli::first_invalid_utf8(text); };
  EXPECT_EQ(at(""), std::string_view::npos);
  EXPECT_EQ(at("plain, é, 漢字, \xF0\x9F\x98\x80"), std::string_view::npos);
  EXPECT_EQ(at("ab\xFF"), 2u);
  EXPECT_EQ(at("ab\x80"), 2u);                                // a continuation without its lead
  EXPECT_EQ(at("a\xC0\xAF"), 1u);                             // overlong
  EXPECT_EQ(at("a\xE0\x80\xAF"), 1u);                         // overlong
  EXPECT_EQ(at("a\xED\xA0\x80"), 1u);                         // a surrogate
  EXPECT_EQ(at("a\xF4\x90\x80\x80"), 1u);                     // over U+10FFFF
  EXPECT_EQ(at("abc\xE6\xBC"), 3u);                           // cut at the end
  EXPECT_EQ(at("\xF4\x8F\xBF\xBF"), std::string_view::npos);  // U+10FFFF
}

TEST(Haystack, PiecesJoinToTheTextAndBeginAtWhiteSpace) {
  const std::string text = model::ReadFile(EIDETIC_TEST_TEXT);
  std::string joined;
  std::size_t sentences = 0;
  for (const eval::TextPiece& piece : eval::split_text(text)) {
    if (!joined.empty()) {
      EXPECT_TRUE(std::isspace(static_cast<unsigned char>(piece.text[0])));
      EXPECT_FALSE(std::isspace(static_cast<unsigned char>(joined.back())));
    }
    joined += piece.text;
    sentences += piece.sentence;
  }
  EXPECT_EQ(joined, text);
  EXPECT_GT(sentences, 400u);
}

TEST(Haystack, HiddenNumbersStandWhereTheRangesSay) {
  const std::string text = model::ReadFile(EIDETIC_TEST_TEXT);
  eval::Random random(5);
  std::vector<eval::Needle> needles = eval::draw_needles(random, 6);
  const std::string hidden = eval::hide_needles(text, 30'000, random, needles);
  std::string plain = hidden;
  for (auto needle = needles.rbegin(); needle != needles.rend(); ++needle) {
    EXPECT_EQ(hidden.substr(needle->bytes.begin, needle->bytes.end - needle->bytes.begin),
              needle->number);
    plain.erase(plain.find(needle->sentence()), needle->sentence().size());
  }
  // The document is the text's beginning, cut at the end of a sentence.
  EXPECT_EQ(plain, text.substr(0, plain.size()));
  EXPECT_LE(plain.size(), 30'000u);
  EXPECT_GT(plain.size(), 29'000u);
  EXPECT_EQ(std::string(".!?\"").find(plain.back()) == std::string::npos &&
                !plain.ends_with("\xE2\x80\x9D"),
            false);
}

TEST(Haystack, NeedlesHaveDifferentKeysAndSevenDigits) {
  eval::Random random(1);
  std::set<std::string> keys;
  for (const eval::Needle& needle : eval::draw_needles(random, 64)) {
    EXPECT_TRUE(keys.insert(needle.key).second);
    EXPECT_EQ(needle.number.size(), 7u);
  }
}

TEST(Haystack, ValuesOfAKeyStandSideBySideAndDiffer) {
  eval::Random random(7);
  const std::vector<eval::Needle> needles = eval::draw_needles(random, 3, 4);
  ASSERT_EQ(needles.size(), 12u);
  std::set<std::string> keys;
  for (std::size_t key = 0; key < 3; ++key) {
    std::set<std::string> numbers;
    for (std::size_t value = 0; value < 4; ++value) {
      EXPECT_EQ(needles[4 * key + value].key, needles[4 * key].key);
      numbers.insert(needles[4 * key + value].number);
    }
    EXPECT_EQ(numbers.size(), 4u);
    keys.insert(needles[4 * key].key);
  }
  EXPECT_EQ(keys.size(), 3u);
}

// Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I.
TEST(NeedleReport, IntervalsAreWilsons) {
  const auto expect = [](int hits, int samples, double low, double high) {
    const auto interval = eval::wilson_interval(hits, samples);
    EXPECT_NEAR(interval.first, low, 5e-5);
    EXPECT_NEAR(interval.second, high, 5e-5);
  };
  expect(81, 263, 0.2553, 0.3662);
  expect(15, 148, 0.0624, 0.1605);
  expect(0, 20, 0.0, 0.1611);
  expect(1, 29, 0.0061, 0.1718);
  expect(29, 29, 0.8830, 1.0);
  expect(0, 0, 0, 1);
}

TEST(Perplexity, WordsAreWhatStandsBetweenWhiteSpace) {
  EXPECT_EQ(eval::count_words(""), 0u);
  EXPECT_EQ(eval::count_words(" \n "), 0u);
  EXPECT_EQ(eval::count_words("one"), 1u);
  EXPECT_EQ(eval::count_words(" It's\ttwo\r\nwords -- no, five. "), 6u);
}

TEST(Perplexity, SumsAreByTextAndOverAll) {
  eval::PerplexityOptions options;
  options.lengths = {8};
  options.modes = {"full"};
  const std::vector<eval::PieceLoss> losses = {{"a", "full", 8, 0, 10, 5, 20.0, 1},
                                               {"a", "full", 8, 1, 10, 5, 10.0, 1},
                                               {"b", "full", 8, 0, 20, 10, 90.0, 1}};
  const auto sums = eval::sum_losses(losses, {{"a", ""}, {"b", ""}}, options);
  ASSERT_EQ(sums.size(), 3u);
  EXPECT_DOUBLE_EQ(sums[0].loss(), 1.5);
  EXPECT_EQ(sums[0].pieces, 2u);
  EXPECT_DOUBLE_EQ(sums[1].loss(), 4.5);
  EXPECT_EQ(sums[2].text, "");
  EXPECT_DOUBLE_EQ(sums[2].token_perplexity(), std::exp(3.0));
  EXPECT_DOUBLE_EQ(sums[2].word_perplexity(), std::exp(6.0));
}

// What a results file holds after it was opened with `settings`.
std::vector<nlohmann::json> Earlier(const std::string& path, const nlohmann::json& settings,
                                    const std::vector<std::string>& content = {"a"}) {
  return cli::ResultsFile(path, settings, content).earlier();
}

// The error of one that must not be opened so.
std::string WhyNot(const std::string& path, const nlohmann::json& settings,
                   const std::vector<std::string>& content = {"a"}) {
  try {
    Earlier(path, settings, content);
  } catch (const Error& error) {
    EXPECT_FALSE(error.remedy().empty());
    return error.what();
  }
  return "";
}

TEST(ResultsFile, GoesOnAfterTheLastWholeLineAndRefusesOtherSettings) {
  const model::TemporaryFolder folder;
  const std::string path = folder.path() + "/results.jsonl";
  const nlohmann::json settings = {{"seed", 1}};
  {
    cli::ResultsFile file(path, settings, {"a"});
    file.add({{"n", 1}});
    file.add({{"n", 2}});
  }
  const std::string whole = model::ReadFile(path);
  EXPECT_EQ(Earlier(path, settings).size(), 2u);
  EXPECT_EQ(model::ReadFile(path), whole);
  // Cut anywhere in the last line, by a kill.
  for (const std::size_t cut : {1, 3, 8}) {
    cli::write_file(path, whole.substr(0, whole.size() - cut));
    EXPECT_EQ(Earlier(path, settings).size(), 1u) << cut;
  }
  // Two files of equal settings, one behind the other.
  cli::write_file(path, whole + whole);
  EXPECT_EQ(Earlier(path, settings).size(), 4u);
  for (const std::string& wrong :
       {whole + "noise\n" + whole, std::string("{\"n\":1}\n"), std::string("noise\nnoise\n"),
        std::string("{\"settings\":7}\n")}) {
    cli::write_file(path, wrong);
    EXPECT_THROW(Earlier(path, settings), Error) << wrong;
    EXPECT_EQ(model::ReadFile(path), wrong);  // nothing of it is lost
  }
  cli::write_file(path, whole);
  EXPECT_THROW(Earlier(path, {{"seed", 2}}), Error);
  EXPECT_EQ(model::ReadFile(path), whole);
  EXPECT_THROW(Earlier(folder.path() + "/no/such/folder", settings), Error);
}

TEST(ResultsFile, SaysWhichSettingsDifferAndThatTextsDo) {
  const model::TemporaryFolder folder;
  const std::string path = folder.path() + "/results.jsonl",
                    where = "the results in '" + path + "' ";
  const nlohmann::json settings = {{"seed", 1}, {"session", {1, 2}}, {"corpus", {7, 8}}};
  cli::ResultsFile(path, settings, {"a", "b"}).add({{"n", 1}});
  const auto with = [&](const char* key, const nlohmann::json& value) {
    nlohmann::json other = settings;
    other[key] = value;
    return WhyNot(path, other, {"a", "b"});
  };
  EXPECT_EQ(with("seed", 2), where + "were found under other settings: seed was 1, is 2");
  EXPECT_EQ(with("chat", true),
            where + "were found under other settings: chat was not given, is true");
  EXPECT_EQ(with("session", {1, 3}), where + "were found under other settings: session");
  for (const auto& content : {std::vector<std::string>{"a", "c"}, {"b", "a"}, {"a"}, {}}) {
    EXPECT_EQ(WhyNot(path, settings, content), where + "are of other texts");
  }
  EXPECT_EQ(Earlier(path, settings, {"a", "b"}).size(), 1u);
}

TEST(ResultsFile, OfAnEarlierVersionIsTakenToBeOfTheTextsAndSaysSoFromThenOn) {
  const model::TemporaryFolder folder;
  const std::string path = folder.path() + "/results.jsonl";
  const nlohmann::json settings = {{"seed", 1}, {"corpus", {7, 8}}};
  const std::string before = "{\"settings\":{\"seed\":1,\"corpus\":[7,8]}}\n{\"n\":1}\n";
  cli::write_file(path, before);
  EXPECT_TRUE(WhyNot(path, {{"seed", 1}, {"corpus", {7, 9}}}).find("the size of the texts") !=
              std::string::npos);
  EXPECT_EQ(model::ReadFile(path), before);
  const auto opened = [&] {
    ::testing::internal::CaptureStderr();
    EXPECT_EQ(Earlier(path, settings, {"a"}).size(), 1u);
    return ::testing::internal::GetCapturedStderr();
  };
  EXPECT_NE(opened().find("does not say which texts"), std::string::npos);
  EXPECT_EQ(opened(), "");
  EXPECT_NE(WhyNot(path, settings, {"b"}).find("are of other texts"), std::string::npos);
  // One of each version, one behind the other.
  cli::write_file(path, model::ReadFile(path) + before);
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(Earlier(path, settings, {"a"}).size(), 2u);
  EXPECT_NE(::testing::internal::GetCapturedStderr(), "");
}

TEST(ContentHash, IsFnv1aAndTellsTextsOfOneSizeApart) {
  EXPECT_EQ(cli::content_hash(""), "cbf29ce484222325");  // the published offset basis
  EXPECT_EQ(cli::content_hash("a"), "af63dc4c8601ec8c");
  EXPECT_NE(cli::content_hash("one two"), cli::content_hash("two one"));
}

TEST(Random, SeedsGiveTheSameNumbersEverywhere) {
  eval::Random random(1);
  // SplitMix64 of seed 1, from its reference implementation.
  EXPECT_EQ(random.next(), 10451216379200822465ull);
  eval::Random other(2);
  EXPECT_NE(random.next(), other.next());
  for (int i = 0; i < 1000; ++i) {
    const double x = other.unit();
    EXPECT_GE(x, 0);
    EXPECT_LT(x, 1);
  }
}

TEST(QuestionForm, PutsTheKeyIntoNamedAndOwnForms) {
  for (const eval::QuestionForm& form : eval::question_forms()) {
    EXPECT_NE(form.ask_for("misty-valley").find("misty-valley"), std::string::npos) << form.name;
    EXPECT_EQ(form.ask_for("misty-valley").find("{key}"), std::string::npos) << form.name;
  }
  EXPECT_EQ(eval::question_form("And {key}?").ask_for("misty-valley"), "And misty-valley?");
  EXPECT_THROW(eval::question_form("haiku"), Error);
}

TEST(HeatMap, ShowsEveryCellAndEscapesNames) {
  eval::HeatMap map;
  map.title = "a <b> & c";
  map.columns = {"4K", "8K"};
  map.rows = {"0-50 %", "50-100 %"};
  map.panels = {{"stream", {{{3, 4}, {4, 4}}, {{0, 4}, {0, 0}}}}};
  const std::string svg = eval::to_svg(map);
  for (const char* text :
       {">3/4<", ">4/4<", ">0/4<", ">-<", ">stream<", ">8K<", "a &lt;b&gt; &amp; c"}) {
    EXPECT_NE(svg.find(text), std::string::npos) << text;
  }
  EXPECT_EQ(svg.find("<b>"), std::string::npos);
}

TEST(Numbers, ReadWell) {
  EXPECT_EQ(cli::with_commas(0), "0");
  EXPECT_EQ(cli::with_commas(999), "999");
  EXPECT_EQ(cli::with_commas(1234567), "1,234,567");
  EXPECT_EQ(cli::human_bytes(999), "999 B");
  EXPECT_EQ(cli::human_bytes(4800), "4.8 KB");
  EXPECT_EQ(cli::human_bytes(999'999), "1.0 MB");
  EXPECT_EQ(cli::human_seconds(0.42), "0.42 s");
  EXPECT_EQ(cli::human_seconds(65), "1:05");
  EXPECT_EQ(cli::human_seconds(7390), "2:03:10");
}

TEST(Characters, NoControlReachesATerminal) {
  EXPECT_EQ(cli::printable("plain, é, 漢字, \xF0\x9F\x98\x80"), "plain, é, 漢字, \xF0\x9F\x98\x80");
  EXPECT_EQ(cli::printable("a\033[31mb\r\n\tc\x7F"), "a?[31mb???c?");
  EXPECT_EQ(cli::printable("a\xC2\x9B"
                           "31m"),
            "a?31m");  // the one-character escape of C1
  EXPECT_EQ(cli::printable("a\xE2\x80\xAE"
                           "txt.b"),
            "a?txt.b");  // right-to-left override
  EXPECT_EQ(cli::printable("a\x9B"
                           "b\xC3"),
            "a\xEF\xBF\xBD"
            "b\xEF\xBF\xBD");  // no UTF-8
  EXPECT_EQ(cli::printable_lines("one\r\ntwo\tand \033]0;title\a"), "one\ntwo\tand ?]0;title?");
}

// Stands in for standard output until it goes.
class OutputTo {
 public:
  explicit OutputTo(int descriptor) : kept_(::dup(STDOUT_FILENO)) {
    ::dup2(descriptor, STDOUT_FILENO);
  }
  ~OutputTo() {
    ::dup2(kept_, STDOUT_FILENO);
    ::close(kept_);
  }

 private:
  int kept_;
};

TEST(Characters, AModelsTextIsExactInAPipeAndHarmlessOnATerminal) {
  const std::string text = "one\r\n\033[2Jtwo";
  int pipe[2];
  ASSERT_EQ(::pipe(pipe), 0);
  const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY);
  ASSERT_GE(terminal, 0);
  ASSERT_EQ(::grantpt(terminal) | ::unlockpt(terminal), 0);
  const int screen = ::open(::ptsname(terminal), O_RDWR | O_NOCTTY);
  ASSERT_GE(screen, 0);
  std::string piped, shown;
  {
    OutputTo output(pipe[1]);
    piped = cli::model_text(text);
  }
  {
    OutputTo output(screen);
    shown = cli::model_text(text);
  }
  for (const int descriptor : {pipe[0], pipe[1], screen, terminal}) ::close(descriptor);
  EXPECT_EQ(piped, text);
  EXPECT_EQ(shown, "one\n?[2Jtwo");
}

TEST(Characters, AnExcerptIsOneLine) {
  EXPECT_EQ(cli::one_line("  two\nlines\tand \033[31m ", 80), "two lines and ?[31m");
  EXPECT_EQ(cli::one_line("abcd", 4), "abcd");
  EXPECT_EQ(cli::one_line("abcdef", 4), "abc…");
  EXPECT_EQ(cli::one_line("漢字漢字", 5), "漢字…");  // two columns each
  EXPECT_EQ(cli::end_of("books/holmes.txt", 11), "…holmes.txt");
  EXPECT_EQ(cli::end_of("holmes.txt", 11), "holmes.txt");
}

TEST(Characters, LinesAreBrokenBetweenWords) {
  EXPECT_EQ(cli::wrapped("it is cocaine, a seven-per-cent solution", 2, 17),
            "  it is cocaine,\n  a\n  seven-per-cent\n  solution\n");
  EXPECT_EQ(cli::wrapped("an extraordinarily long word", 2, 8),
            "  an\n  extraordinarily\n  long\n  word\n");
  EXPECT_EQ(cli::wrapped("no bound", 2, std::string::npos), "  no bound\n");
  EXPECT_EQ(cli::wrapped("", 2, 80), "");
}

TEST(Table, AlignsColumnsAndShortensWhatIsTooWide) {
  cli::Table table({"document", "tokens"}, {false, true});
  table.shrink(0);
  table.add({"a/rather/long/path/to/holmes.txt", "12,345"});
  table.add({"漢字.txt", "7"});
  EXPECT_EQ(table.text(std::string::npos),
            "document                          tokens\n"
            "a/rather/long/path/to/holmes.txt  12,345\n"
            "漢字.txt                               7\n");
  EXPECT_EQ(table.text(25),
            "document           tokens\n"
            "…th/to/holmes.txt  12,345\n"
            "漢字.txt                7\n");
}

TEST(ExitCode, EveryStatusHasADocumentedCode) {
  for (int status = EID_OK; status <= EID_INTERNAL; ++status) {
    const cli::ExitCode code = cli::exit_code(static_cast<eid_status>(status));
    bool documented = false;
    for (const cli::ExitCodeMeaning& entry : cli::kExitCodes) {
      documented = documented || entry.code == code;
    }
    EXPECT_TRUE(documented) << status;
    EXPECT_EQ(code == cli::kExitOk, status == EID_OK);
  }
}

// What read_message makes of a script.
std::vector<std::string> Messages(const std::string& script) {
  int ends[2];
  if (::pipe(ends) != 0) throw std::runtime_error("no pipe can be made");
  if (::write(ends[1], script.data(), script.size()) != static_cast<ssize_t>(script.size())) {
    throw std::runtime_error("the pipe is full");
  }
  ::close(ends[1]);
  cli::ScriptInput input(ends[0]);
  std::vector<std::string> messages;
  std::string message;
  while (cli::read_message(input, "> ", message) == cli::InputResult::kLine) {
    messages.push_back(message);
  }
  ::close(ends[0]);
  return messages;
}

// -1, 1, 3: the mean is 1, their deviation 2, its share 2 / sqrt(3).
TEST(Calibration, SettingsAreComparedPairByPair) {
  const eval::PairedDifference two = eval::paired_difference({5, 1, 2}, {4, 2, 5});
  EXPECT_DOUBLE_EQ(two.mean, 1);
  EXPECT_DOUBLE_EQ(two.error, 2 / std::sqrt(3.0));
  const eval::PairedDifference one = eval::paired_difference({5}, {7});
  EXPECT_EQ(one.mean, 2);
  EXPECT_EQ(one.error, 0);
  const eval::PairedDifference none = eval::paired_difference({}, {});
  EXPECT_EQ(none.mean, 0);
  EXPECT_EQ(none.error, 0);
}

TEST(Calibration, TextMayLoseAShareOfItsGainAndAlwaysItsNoise) {
  EXPECT_DOUBLE_EQ(eval::text_slack_of(0.75, 0.4), 0.1);
  EXPECT_DOUBLE_EQ(eval::text_slack_of(0.75, -0.4), 0.01);
  EXPECT_DOUBLE_EQ(eval::text_slack_of(0.75, std::nan("")), 0.01);  // none was measured
}

TEST(TuneFigures, TellWhatIsKnown) {
  eid_tune_progress progress = {};
  progress.stage = "training";
  progress.objective = "text";
  progress.step = 12;
  progress.steps = 1000;
  progress.loss = 3.2141;
  progress.held_out_loss = 3.19;
  progress.tokens_per_second = 8192.4;
  progress.peak_share = 0.412;
  progress.remaining_seconds = 200;
  progress.memory_bytes = 5'100'000'000;
  EXPECT_EQ(cli::tune_figures(progress),
            "12/1,000 steps  loss 3.2141  held out 3.1900  8,192 tokens/s  41 % of peak  ETA 3:20  "
            "5.1 GB");
  progress.objective = "mixers";
  progress.held_out_loss = progress.peak_share =
      NAN;  // nothing held out, a device of no known peak
  EXPECT_EQ(cli::tune_figures(progress),
            "12/1,000 steps  mixers' distance 3.2141  8,192 tokens/s  ETA 3:20  5.1 GB");
}

TEST(TuneFigures, CurvesSayWhatIsTrainedOnWhich) {
  TuneOptions options;
  options.folder = "run";
  EXPECT_EQ(cli::curves_subtitle(options), "run, se, hylora");
  options.teacher_path = "teacher.gguf";
  EXPECT_EQ(cli::curves_subtitle(options), "run, full, mixers");
  options.teacher_path.clear();
  options.attention = "se-stream";
  options.kind = "lora";
  EXPECT_EQ(cli::curves_subtitle(options), "run, se-stream, lora");
  options.kind.clear();
  options.adapter_path = "other/last";  // of whatever kind
  EXPECT_EQ(cli::curves_subtitle(options), "run, se-stream, from other/last");
}

TEST(ChatInput, AMessageIsALineOrLinesThatBackslashesJoin) {
  using Lines = std::vector<std::string>;
  EXPECT_EQ(Messages("one\ntwo\\\nand more\n\nlast"), (Lines{"one", "two\nand more", "", "last"}));
  EXPECT_EQ(Messages("windows\r\n"), Lines{"windows"});
  EXPECT_EQ(Messages("open\\"), Lines{"open\n"});
  EXPECT_EQ(Messages(""), Lines{});
}

TEST(ChatInput, ASlashBeginsACommandAndTwoBeginAMessage) {
  EXPECT_TRUE(cli::is_slash_command("/why"));
  EXPECT_TRUE(cli::is_slash_command("/"));
  EXPECT_FALSE(cli::is_slash_command("//why"));
  EXPECT_FALSE(cli::is_slash_command("why/"));
  EXPECT_EQ(cli::unprotected("//why"), "/why");
  EXPECT_EQ(cli::unprotected("why //"), "why //");
}

TEST(InputHistory, IsKeptForItsOwnerWithoutRepetitionAndNeverGrowsForGood) {
  const tests::TemporaryFolder folder;
  const std::string path = folder / "state/eidetic/history";
  {
    cli::InputHistory history(path);
    EXPECT_TRUE(history.add("one"));
    EXPECT_FALSE(history.add("one"));
    EXPECT_FALSE(history.add(" "));
    cli::InputHistory beside(path);
    EXPECT_TRUE(beside.add("two"));
    EXPECT_TRUE(history.add("three"));
  }
  EXPECT_EQ(cli::InputHistory(path).lines(), (std::vector<std::string>{"one", "two", "three"}));
  EXPECT_EQ(std::filesystem::status(path).permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  {
    cli::InputHistory history(path);
    for (std::size_t i = 0; i < 3 * cli::InputHistory::kMostLines; ++i) {
      history.add(std::to_string(i));
    }
    EXPECT_EQ(history.lines().size(), cli::InputHistory::kMostLines);
  }
  EXPECT_EQ(cli::InputHistory(path).lines().front(), "2000");
  EXPECT_LT(std::filesystem::file_size(path), 6 * cli::InputHistory::kMostLines);

  // What cannot be kept is no failure.
  cli::InputHistory nowhere("/proc/nowhere/history");
  EXPECT_TRUE(nowhere.add("one"));
  EXPECT_EQ(nowhere.lines().size(), 1u);
}

}  // namespace
}  // namespace eidetic

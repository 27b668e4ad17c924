#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "model/error.h"
#include "model/tokenizer.h"
#include "tests/model/model_files.h"

namespace eidetic::model {
namespace {

using nlohmann::json;

std::shared_ptr<const Tokenizer> Base() {
  static const auto tokenizer = Tokenizer::FromGguf(*GgufFile::Open(BaseModelPath()));
  return tokenizer;
}

// A tokenizer that is a chat template and nothing else.
class TemplateOnly final : public Tokenizer {
 public:
  explicit TemplateOnly(std::string source) : source_(std::move(source)) {}
  std::vector<int32_t> Encode(std::string_view, bool) const override { return {}; }
  std::vector<int32_t> EncodeWithOffsets(std::string_view, std::vector<uint64_t>*) const override {
    return {};
  }
  std::string_view TokenBytes(int32_t) const override { return {}; }
  std::string Decode(const std::vector<int32_t>&) const override { return {}; }
  int vocabulary() const override { return 0; }
  int32_t bos() const override { return -1; }
  int32_t eos() const override { return -1; }
  bool IsControl(int32_t) const override { return false; }
  bool IsEnd(int32_t) const override { return false; }
  const std::string& chat_template() const override { return source_; }
  std::string FingerprintBytes() const override { return {}; }

 private:
  std::string source_;
};

std::string Render(const std::string& source) {
  return RenderChat(TemplateOnly(source), {{"user", "Hi"}}, true, true);
}

void ExpectRefused(const std::string& source) {
  try {
    Render(source);
    ADD_FAILURE() << "rendered: " << source;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported) << error.what();
    EXPECT_FALSE(error.remedy().empty());
  }
}

TEST(ChatTemplate, ConversationsAreRenderedAsTheReferenceDoes) {
  const json cases = json::parse(ReadFile(std::string(EIDETIC_GOLDEN_DIR) + "/chat_golden.json"));
  ASSERT_GT(cases.size(), 10u);
  for (const json& entry : cases) {
    std::vector<ChatMessage> messages;
    for (const json& message : entry["messages"]) {
      messages.push_back({message["role"], message["content"]});
    }
    EXPECT_EQ(RenderChat(*Base(), messages, true, entry["open_assistant_turn"]),
              entry["text"].get<std::string>());
  }
}

TEST(ChatTemplate, AConversationRenderedInPartsIsTheWholeOne) {
  const ChatMessage first{"user", "Hi"}, second{"assistant", "Hello!"}, third{"user", "Bye"};
  EXPECT_EQ(RenderChat(*Base(), {first}, true, false) +
                RenderChat(*Base(), {second, third}, false, false) +
                RenderChat(*Base(), {}, false, true),
            RenderChat(*Base(), {first, second, third}, true, true));
}

TEST(ChatTemplate, MarkupBecomesControlTokens) {
  const auto ids = Base()->Encode(RenderChat(*Base(), {{"user", "Hi"}}, false, true), true);
  ASSERT_GT(ids.size(), 4u);
  EXPECT_EQ(ids[0], 1);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 1), 2);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 2), 1);
}

const char kPlain[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' "
    "}}{% endif %}";

TEST(ChatTemplate, SpellingsOfTheSameTemplateAreRecognised) {
  const std::string expected = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
  EXPECT_EQ(Render(kPlain), expected);
  EXPECT_EQ(Render("{% if not add_generation_prompt is defined %}{% set add_generation_prompt = "
                   "false %}{% endif %}" +
                   std::string(kPlain)),
            expected);
  EXPECT_EQ(
      Render("{%- for message in messages -%}\n{{- \"<|im_start|>\" + message.role + \"\\n\" + "
             "message.content + \"<|im_end|>\\n\" -}}{%- endfor -%}\n"
             "{%- if add_generation_prompt -%}{{- \"<|im_start|>assistant\\n\" -}}{%- endif "
             "-%}\n"),
      expected);
}

TEST(ChatTemplate, AnyOtherTemplateIsRefused) {
  const std::string plain = kPlain;
  ExpectRefused("");
  ExpectRefused("<|im_start|>");
  ExpectRefused("{% for message in messages %}");
  ExpectRefused("{{ bos_token }}" + plain);
  ExpectRefused(plain + "{{ eos_token }}");
  ExpectRefused("text" + plain);
  ExpectRefused("{# a comment #}" + plain);
  ExpectRefused("\n" + plain);
  ExpectRefused("{% for message in messages %}  " + plain.substr(plain.find("{{")));
  // The same words, another meaning.
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string changed = plain;
    changed.replace(changed.find(from), from.size(), to);
    return changed;
  };
  ExpectRefused(replaced("message['content']", "message['content'] | trim"));
  ExpectRefused(replaced("'<|im_end|>'", "'<|im_end|> '"));
  ExpectRefused(replaced("in messages", "in messages[1:]"));
  ExpectRefused(replaced("assistant", "model"));
  ExpectRefused(replaced("{% endfor %}", "{% endfor %}{% if tools %}x{% endif %}"));
}

}  // namespace
}  // namespace eidetic::model

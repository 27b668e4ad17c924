// Renders chats without a Jinja engine (docs/decisions/030): the file's template is read and
// compared with the one shape that this build knows, ChatML's, and refused when it is anything
// else.
#include "model/chat_template.h"

#include <algorithm>
#include <optional>

#include "model/error.h"

namespace eidetic::model {
namespace {

constexpr std::string_view kTurnBegin = "<|im_start|>";
constexpr std::string_view kTurnEnd = "<|im_end|>\n";

// What a ChatML template leaves open.
struct ChatMl {
  std::string default_system;  // put before a first message that is none of the system
};

// A statement {% %} or an output {{ }}.
struct Part {
  enum Kind { kStatement, kOutput } kind;
  std::string content;  // spaces outside of string literals removed; literals in single quotes
};

bool IsSpace(char character) {
  return character == ' ' || character == '\t' || character == '\n' || character == '\r';
}

// One spelling for what means the same: no spaces outside of literals, single quotes, real newlines
// for \n, message.role for message['role'], adjacent literals joined.
std::optional<std::string> Normalised(std::string_view code) {
  std::string normal;
  for (size_t i = 0; i < code.size(); ++i) {
    if (IsSpace(code[i])) continue;
    if (code[i] != '\'' && code[i] != '"') {
      normal += code[i];
      continue;
    }
    const char quote = code[i];
    normal += '\'';
    for (++i; i < code.size() && code[i] != quote; ++i) {
      if (code[i] == '\'') return std::nullopt;  // would end the literal in our spelling
      if (code[i] == '\\') {
        if (++i == code.size() || code[i] != 'n') return std::nullopt;
        normal += '\n';
      } else {
        normal += code[i];
      }
    }
    if (i == code.size()) return std::nullopt;
    normal += '\'';
  }
  const std::pair<std::string_view, std::string_view> spellings[] = {
      {"message.role", "message['role']"},
      {"message.content", "message['content']"},
      {"messages[0].role", "messages[0]['role']"},
      {"'+'", ""}};
  for (const auto& [from, to] : spellings) {
    for (size_t at = normal.find(from); at != std::string::npos; at = normal.find(from, at)) {
      normal.replace(at, from.size(), to);
    }
  }
  return normal;
}

// Whether text between two parts prints nothing: a dash strips all space on its side, trim_blocks a
// newline behind a statement, lstrip_blocks the indent before one.
bool PrintsNothing(std::string_view text, bool stripped, bool after_statement,
                   bool before_statement) {
  if (!stripped && after_statement && text.starts_with('\n')) text.remove_prefix(1);
  for (const char character : text) {
    const bool indent = character == ' ' || character == '\t';
    if (!(stripped ? IsSpace(character) : before_statement && indent)) return false;
  }
  return true;
}

// The template in parts; nothing when it is not well formed, prints text of its own, or uses what
// is not understood here.
std::optional<std::vector<Part>> Parts(std::string_view source) {
  std::vector<Part> parts;
  bool stripped = false, after_statement = false;
  for (;;) {
    const size_t open = std::min(source.find("{%"), source.find("{{"));
    const std::string_view text = source.substr(0, open);
    if (open == std::string_view::npos) {
      const bool nothing = PrintsNothing(text, stripped, after_statement, false);
      return nothing ? std::optional(std::move(parts)) : std::nullopt;
    }
    const bool statement = source[open + 1] == '%';
    const size_t close = source.find(statement ? "%}" : "}}", open + 2);
    if (close == std::string_view::npos) return std::nullopt;
    std::string_view code = source.substr(open + 2, close - open - 2);
    if (code.starts_with('-')) {
      code.remove_prefix(1);
      stripped = true;
    }
    if (!PrintsNothing(text, stripped, after_statement, statement)) return std::nullopt;
    stripped = code.ends_with('-');
    if (stripped) code.remove_suffix(1);
    std::optional<std::string> normal = Normalised(code);
    if (!normal) return std::nullopt;
    parts.push_back({statement ? Part::kStatement : Part::kOutput, std::move(*normal)});
    after_statement = statement;
    source.remove_prefix(close + 2);
  }
}

// Steps over parts that are as expected.
class Matcher {
 public:
  explicit Matcher(const std::vector<Part>& parts) : parts_(parts) {}
  bool Accept(Part::Kind kind, std::string_view content) {
    if (at_ == parts_.size() || parts_[at_].kind != kind || parts_[at_].content != content) {
      return false;
    }
    ++at_;
    return true;
  }
  // An output of one literal.
  std::optional<std::string> AcceptLiteral() {
    if (at_ == parts_.size() || parts_[at_].kind != Part::kOutput) return std::nullopt;
    const std::string& content = parts_[at_].content;
    if (content.size() < 2 || content.front() != '\'' ||
        content.find('\'', 1) != content.size() - 1) {
      return std::nullopt;
    }
    ++at_;
    return content.substr(1, content.size() - 2);
  }
  bool AtEnd() const { return at_ == parts_.size(); }

 private:
  const std::vector<Part>& parts_;
  size_t at_ = 0;
};

std::optional<ChatMl> Recognise(std::string_view source) {
  const std::optional<std::vector<Part>> parts = Parts(source);
  if (!parts) return std::nullopt;
  Matcher matcher(*parts);
  ChatMl chat;
  if (matcher.Accept(Part::kStatement, "ifnotadd_generation_promptisdefined")) {
    if (!matcher.Accept(Part::kStatement, "setadd_generation_prompt=false") ||
        !matcher.Accept(Part::kStatement, "endif")) {
      return std::nullopt;
    }
  }
  if (!matcher.Accept(Part::kStatement, "formessageinmessages")) return std::nullopt;
  if (matcher.Accept(Part::kStatement, "ifloop.firstandmessages[0]['role']!='system'")) {
    const std::optional<std::string> system = matcher.AcceptLiteral();
    if (!system || !matcher.Accept(Part::kStatement, "endif")) return std::nullopt;
    chat.default_system = *system;
  }
  const bool known =
      matcher.Accept(Part::kOutput,
                     "'<|im_start|>'+message['role']+'\n'+message['content']+'<|im_end|>\n'") &&
      matcher.Accept(Part::kStatement, "endfor") &&
      matcher.Accept(Part::kStatement, "ifadd_generation_prompt") &&
      matcher.AcceptLiteral() == "<|im_start|>assistant\n" &&
      matcher.Accept(Part::kStatement, "endif") && matcher.AtEnd();
  return known ? std::optional(chat) : std::nullopt;
}

}  // namespace

std::string RenderChat(const Tokenizer& tokenizer, const std::vector<ChatMessage>& messages,
                       bool first, bool open_assistant_turn) {
  const std::string& source = tokenizer.chat_template();
  const std::optional<ChatMl> chat = Recognise(source);
  if (!chat) {
    throw Error(ErrorCode::kUnsupported,
                source.empty() ? "the model's file has no chat template"
                               : "the model's chat template (" + std::to_string(source.size()) +
                                     " bytes) is not the ChatML one that can be rendered",
                "append plain text, with the model's own markup, instead of messages with roles");
  }
  std::string text;
  if (first && !messages.empty() && messages[0].role != "system") text += chat->default_system;
  for (const ChatMessage& message : messages) {
    text += kTurnBegin;
    text += message.role + "\n" + message.content;
    text += kTurnEnd;
  }
  if (open_assistant_turn) {
    text += kTurnBegin;
    text += "assistant\n";
  }
  return text;
}

ChatMarkers MarkersOf(const Tokenizer& tokenizer, const std::string& role, bool first) {
  // Stands where the content goes while the markers around it are rendered.
  constexpr char kContentMark[] = "\x01";
  if (role != "user" && role != "assistant" && role != "system") {
    throw Error(ErrorCode::kInvalidArgument, "there is no role '" + role + "'",
                "use user, assistant or system");
  }
  const std::string rendered =
      RenderChat(tokenizer, {{role, kContentMark}}, first, /*open_assistant_turn=*/false);
  const size_t at = rendered.find(kContentMark);
  if (at == std::string::npos) {
    throw Error(ErrorCode::kUnsupported,
                "the model's chat template drops the content of a '" + role + "' message");
  }
  return {rendered.substr(0, at), rendered.substr(at + 1)};
}

}  // namespace eidetic::model

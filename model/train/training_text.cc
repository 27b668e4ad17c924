#include "model/train/training_text.h"

#include <sys/stat.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "model/chat_template.h"
#include "model/error.h"
#include "model/pretokenizer.h"
#include "model/text.h"
#include "model/train/token_cache_format.h"
#include "model/utf8.h"

namespace eidetic::model {
namespace {

using nlohmann::json;

constexpr size_t kPieceBytes = size_t{1} << 20;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr char kExtractText[] = "give UTF-8 text; extract the text of the document first";

// Why a line cannot be used.
struct BadLine {
  std::string why;
};

char LowerLetter(char character) {
  return character >= 'A' && character <= 'Z' ? static_cast<char>(character - 'A' + 'a')
                                              : character;
}

bool HasJsonlName(const std::string& path) {
  constexpr std::string_view kEnd = ".jsonl";
  if (path.size() < kEnd.size()) return false;
  std::string end = path.substr(path.size() - kEnd.size());
  std::transform(end.begin(), end.end(), end.begin(), LowerLetter);
  return end == kEnd;
}

MappedFile MapText(const std::string& path) {
  struct stat status;
  if (::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) && status.st_size == 0) {
    throw Error(ErrorCode::kUnsupported, path + ": the file is empty: there is nothing to train on",
                "leave it out");
  }
  return MapFile(path);
}

// Where a piece of a document ends that has kPieceBytes or a little more.
size_t EndOfTextPiece(std::string_view text) {
  return Pretokenizer::NextCut(text, kPieceBytes);
}

size_t EndOfLines(std::string_view text) {
  if (text.size() <= kPieceBytes) return text.size();
  const size_t newline = text.find('\n', kPieceBytes);
  return newline == std::string_view::npos ? text.size() : newline + 1;
}

const std::string& TextOf(const json& object, const char* key, const std::string& where) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_string()) {
    throw BadLine{where + " has no text under \"" + key + "\""};
  }
  return found->get_ref<const std::string&>();
}

std::vector<ChatMessage> MessagesOf(const json& list) {
  if (!list.is_array() || list.empty()) {
    throw BadLine{"\"messages\" is no list of messages"};
  }
  std::vector<ChatMessage> messages;
  bool answered = false;
  for (const json& entry : list) {
    const std::string where = "message " + std::to_string(messages.size() + 1);
    if (!entry.is_object()) throw BadLine{where + " is no object"};
    ChatMessage message{TextOf(entry, "role", where), TextOf(entry, "content", where)};
    if (message.role != "user" && message.role != "assistant" && message.role != "system") {
      throw BadLine{where + " has the role " + Quoted(message.role) +
                    ", not user, assistant or system"};
    }
    answered = answered || message.role == "assistant";
    messages.push_back(std::move(message));
  }
  if (!answered) throw BadLine{"the conversation has no answer of the assistant to learn"};
  return messages;
}

json ParsedLine(std::string_view line) {
  try {
    json object = json::parse(line);
    if (!object.is_object()) throw BadLine{"is no JSON object"};
    return object;
  } catch (const json::parse_error& error) {
    throw BadLine{"is no JSON: it cannot be read on from byte " + std::to_string(error.byte)};
  } catch (const json::exception&) {  // a number that no double holds, for one
    throw BadLine{"holds a number that is out of range"};
  }
}

int32_t EndOfTextToken(const Tokenizer& tokenizer) {
  const std::vector<int32_t> named = tokenizer.Encode("<|endoftext|>", /*special=*/true);
  if (named.size() == 1 && tokenizer.IsControl(named[0])) return named[0];
  if (tokenizer.eos() >= 0) return tokenizer.eos();
  throw Error(ErrorCode::kUnsupported,
              "the tokenizer has no token that ends a text: no <|endoftext|>, and no eos_token_id",
              "use a model whose files name one");
}

}  // namespace

TrainingFile::TrainingFile(const std::string& path)
    : path_(path), is_jsonl_(HasJsonlName(path)), file_(MapText(path)) {}

void TrainingFile::CheckText() const {
  if (is_jsonl_) return;  // JSON's parser checks each line
  const std::string_view text = bytes();
  if (text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF")) {
    throw Error(ErrorCode::kUnsupported, path_ + " begins with a UTF-16 mark, not UTF-8 text",
                "convert it: iconv -f UTF-16 -t UTF-8");
  }
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
    throw Error(ErrorCode::kUnsupported,
                path_ + " is binary, not text: byte " + std::to_string(nul) + " is NUL",
                kExtractText);
  }
  if (const size_t bad = FindInvalidUtf8(text); bad != std::string_view::npos) {
    throw Error(ErrorCode::kUnsupported,
                path_ + " is not UTF-8 from byte " + std::to_string(bad) + " on",
                "convert it, for example: iconv -f ISO-8859-1 -t UTF-8");
  }
}

std::optional<TextPiece> TextPieces::Next() {
  if (file_ == nullptr) {
    if (next_file_ == files_.size()) return std::nullopt;
    file_ = std::make_shared<TrainingFile>(files_[next_file_++]);
    rest_ = file_->bytes();
    if (rest_.starts_with(kByteOrderMark)) rest_.remove_prefix(kByteOrderMark.size());
    line_ = 1;
  }
  TextPiece piece;
  piece.file = file_;
  piece.text = rest_.substr(0, file_->is_jsonl() ? EndOfLines(rest_) : EndOfTextPiece(rest_));
  piece.first_line = line_;
  rest_.remove_prefix(piece.text.size());
  piece.ends_file = rest_.empty();
  if (piece.ends_file) {
    file_ = nullptr;
  } else if (file_->is_jsonl()) {
    line_ += std::count(piece.text.begin(), piece.text.end(), '\n');
  }
  return piece;
}

TextEncoder::TextEncoder(const Tokenizer& tokenizer, bool skip_bad)
    : tokenizer_(tokenizer), skip_bad_(skip_bad), end_of_text_(EndOfTextToken(tokenizer)) {
  try {
    PrepareChat();
  } catch (const Error&) {
    no_chat_ = std::current_exception();
  }
}

void TextEncoder::PrepareChat() {
  for (const char* role : {"system", "user", "assistant"}) {
    for (const bool first : {false, true}) {
      const ChatMarkers markers = MarkersOf(tokenizer_, role, first);
      markers_[{role, first}] = {tokenizer_.Encode(markers.before, /*special=*/true),
                                 tokenizer_.Encode(markers.after, /*special=*/true)};
    }
  }
}

void TextEncoder::Append(const std::vector<int32_t>& tokens, bool predicted,
                         EncodedText* out) const {
  for (const int32_t token : tokens) {
    const auto bits = static_cast<uint32_t>(token);
    out->tokens.push_back(predicted ? bits : bits | kTokenNotPredicted);
  }
  if (predicted) out->predicted += static_cast<int64_t>(tokens.size());
}

void TextEncoder::EndDocument(bool predicted, EncodedText* out) const {
  Append({end_of_text_}, predicted, out);
  ++out->documents;
}

void TextEncoder::EncodeChat(const std::vector<ChatMessage>& messages, EncodedText* out) const {
  if (no_chat_) std::rethrow_exception(no_chat_);
  bool first = true;
  for (const ChatMessage& message : messages) {
    const bool learnt = message.role == "assistant";
    const Markers& markers = markers_.at({message.role, first});
    Append(markers.before, false, out);
    Append(tokenizer_.Encode(message.content, /*special=*/false), learnt, out);
    for (const int32_t token : markers.after) {
      Append({token}, learnt && tokenizer_.IsEnd(token), out);
    }
    first = false;
  }
  EndDocument(/*predicted=*/false, out);  // no answer goes on to there
}

void TextEncoder::EncodeLine(std::string_view line, EncodedText* out) const {
  const json object = ParsedLine(line);
  const bool has_text = object.contains("text"), has_messages = object.contains("messages");
  if (has_text == has_messages) {
    throw BadLine{has_text ? "has both \"text\" and \"messages\""
                           : "has neither \"text\" nor \"messages\""};
  }
  if (has_messages) return EncodeChat(MessagesOf(object["messages"]), out);
  const std::string& text = TextOf(object, "text", "the line");
  if (text.empty()) throw BadLine{"\"text\" is empty"};
  Append(tokenizer_.Encode(text, /*special=*/false), true, out);
  EndDocument(/*predicted=*/true, out);
}

EncodedText TextEncoder::Encode(const TextPiece& piece) const {
  EncodedText out;
  if (!piece.file->is_jsonl()) {
    Append(tokenizer_.Encode(piece.text, /*special=*/false), true, &out);
    if (piece.ends_file) EndDocument(/*predicted=*/true, &out);
    return out;
  }
  int64_t number = piece.first_line;
  for (std::string_view rest = piece.text; !rest.empty(); ++number) {
    const size_t newline = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, newline);
    rest.remove_prefix(std::min(newline + 1, rest.size()));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    try {
      EncodeLine(line, &out);
    } catch (const BadLine& bad) {
      if (!skip_bad_) {
        throw Error(
            ErrorCode::kCorruption,
            piece.file->path() + ", line " + std::to_string(number) + ": " + bad.why,
            "a line is {\"text\": \"...\"} or {\"messages\": [{\"role\": \"user\", \"content\": "
            "\"...\"}, ...]}: correct it, or leave such lines out (--skip-bad)");
      }
      ++out.bad_lines;
    }
  }
  return out;
}

}  // namespace eidetic::model

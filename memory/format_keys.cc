#include <cctype>
#include <utility>

#include "memory/byte_io.h"
#include "memory/format.h"

namespace eidetic::memory::format {
namespace {

template <typename Tag>
std::string Tagged(Tag tag) {
  return std::string(1, static_cast<char>(tag));
}

std::string TaggedId(MetaTag tag, uint64_t id) {
  std::string key = Tagged(tag);
  ByteWriter(&key).Big(id);
  return key;
}

Status NoSuchKey(const char* kind, std::string_view key) {
  return Status(Code::kCorruption,
                std::string("a record has the key ") + Printable(key) + ", which is no " + kind);
}

}  // namespace

std::string FormatKey() {
  return Tagged(MetaTag::kFormat);
}

std::string CounterKey(Counter counter) {
  std::string key = Tagged(MetaTag::kCounter);
  key.push_back(static_cast<char>(counter));
  return key;
}

std::string CollectionKey(std::string_view name) {
  return Tagged(MetaTag::kCollection).append(name);
}

std::string DocumentPrefix(std::string_view collection) {
  std::string key = Tagged(MetaTag::kDocument).append(collection);
  key.push_back('\0');
  return key;
}

std::string DocumentPrefix(std::string_view collection, std::string_view source) {
  std::string key = DocumentPrefix(collection).append(source);
  key.push_back('\0');
  return key;
}

std::string DocumentKey(std::string_view collection, std::string_view source, DocumentId document) {
  std::string key = DocumentPrefix(collection, source);
  ByteWriter(&key).Big(document);
  return key;
}

std::string DocumentPointerKey(DocumentId document) {
  return TaggedId(MetaTag::kDocumentKey, document);
}
std::string LineageKey(LineageId lineage) {
  return TaggedId(MetaTag::kLineage, lineage);
}
std::string UncommittedKey(LineageId lineage) {
  return TaggedId(MetaTag::kUncommitted, lineage);
}
std::string UnfinishedTextKey(DocumentId document) {
  return TaggedId(MetaTag::kUnfinishedText, document);
}
std::string IngestedKey(DocumentId document) {
  return TaggedId(MetaTag::kIngested, document);
}
std::string PurgeKey() {
  return Tagged(MetaTag::kPurge);
}

std::string LineagePrefix(LineageId lineage) {
  std::string key;
  ByteWriter(&key).Big(lineage);
  return key;
}

std::string PayloadPrefix(LineageId lineage, int layer, Part part) {
  std::string key;
  ByteWriter writer(&key);
  writer.Big(lineage);
  writer.Big(static_cast<uint16_t>(layer));
  writer.Big(static_cast<uint8_t>(part));
  return key;
}

std::string PayloadRecordKey(const PayloadKey& key) {
  std::string bytes = PayloadPrefix(key.lineage, key.layer, key.part);
  ByteWriter(&bytes).Big(key.position);
  return bytes;
}

std::string EmbeddingKey(LineageId lineage, uint64_t position) {
  std::string key = LineagePrefix(lineage);
  ByteWriter(&key).Big(position);
  return key;
}

std::string TextPrefix(DocumentId document) {
  std::string key;
  ByteWriter(&key).Big(document);
  return key;
}

std::string TextKey(DocumentId document, uint32_t chunk) {
  std::string key = TextPrefix(document);
  ByteWriter(&key).Big(chunk);
  return key;
}

std::string TextMapPrefix(DocumentId document) {
  // Longer than the key of a text chunk, and behind all of those that fit a disk.
  return TextPrefix(document).append("\xff");
}

std::string ReaderStatePrefix(DocumentId document) {
  std::string key = Tagged(SessionTag::kReaderState);
  ByteWriter(&key).Big(document);
  return key;
}

std::string SessionPrefix(std::string_view name) {
  std::string key = Tagged(SessionTag::kSession).append(name);
  key.push_back('\0');
  return key;
}

std::string BlobKey(std::string_view prefix, uint32_t chunk) {
  std::string key(prefix);
  ByteWriter(&key).Big(chunk);
  return key;
}

std::string TagPrefix(MetaTag tag) {
  return Tagged(tag);
}
std::string TagPrefix(SessionTag tag) {
  return Tagged(tag);
}

std::string PrefixEnd(std::string prefix) {
  while (!prefix.empty() && static_cast<uint8_t>(prefix.back()) == 0xff) prefix.pop_back();
  if (!prefix.empty()) prefix.back() = static_cast<char>(static_cast<uint8_t>(prefix.back()) + 1);
  return prefix;
}

Result<PayloadKey> ParsePayloadKey(std::string_view key) {
  ByteReader reader(key);
  PayloadKey parsed;
  uint16_t layer = 0;
  uint8_t part = 0;
  if (!reader.Big(&parsed.lineage) || !reader.Big(&layer) || !reader.Big(&part) ||
      !reader.Big(&parsed.position) || !reader.done() || part > 1) {
    return NoSuchKey("payload key", key);
  }
  parsed.layer = layer;
  parsed.part = static_cast<Part>(part);
  return parsed;
}

Result<EmbeddingKeyParts> ParseEmbeddingKey(std::string_view key) {
  ByteReader reader(key);
  EmbeddingKeyParts parsed;
  if (!reader.Big(&parsed.lineage) || !reader.Big(&parsed.position) || !reader.done()) {
    return NoSuchKey("embedding key", key);
  }
  return parsed;
}

Result<TextKeyParts> ParseTextKey(std::string_view key) {
  ByteReader reader(key);
  TextKeyParts parsed;
  if (!reader.Big(&parsed.document) || !reader.Big(&parsed.chunk) || !reader.done()) {
    return NoSuchKey("text key", key);
  }
  return parsed;
}

Result<uint64_t> ParseTaggedId(MetaTag tag, std::string_view key) {
  ByteReader reader(key);
  uint8_t found = 0;
  uint64_t id = 0;
  if (!reader.Big(&found) || found != static_cast<uint8_t>(tag) || !reader.Big(&id) ||
      !reader.done()) {
    return NoSuchKey("key of that kind", key);
  }
  return id;
}

Result<std::string> ParseSessionKey(std::string_view key) {
  constexpr size_t kTail = 1 + sizeof(uint32_t);  // the 0 and the chunk
  if (key.size() <= 1 + kTail || key[0] != static_cast<char>(SessionTag::kSession) ||
      key[key.size() - kTail] != '\0') {
    return NoSuchKey("session key", key);
  }
  return std::string(key.substr(1, key.size() - 1 - kTail));
}

std::string Printable(std::string_view key) {
  static constexpr char kDigits[] = "0123456789abcdef";
  constexpr size_t kMost = 64;
  std::string text = "\"";
  for (char byte : key.substr(0, kMost)) {
    const auto value = static_cast<uint8_t>(byte);
    if (std::isprint(value) != 0 && byte != '\\' && byte != '"') {
      text.push_back(byte);
    } else {
      text += {'\\', 'x', kDigits[value >> 4], kDigits[value & 15]};
    }
  }
  return text + (key.size() > kMost ? "\"..." : "\"");
}

}  // namespace eidetic::memory::format

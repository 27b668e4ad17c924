// The archive's on-disk format, version 1: every key, every record, every limit. The page that
// explains it byte by byte is docs/formats/archive-v1.md.
//
// Keys are big-endian and sort by lineage, layer, part and position. Values are little-endian,
// begin with a version byte and end with RecordChecksum(key, value without the checksum). Decoders
// trust nothing (rule 6): the checksum first (rule 3), then every length, count, enum and range.
// What they refuse is kCorruption, and the message says which record and what is wrong with it.
#ifndef EIDETIC_MEMORY_FORMAT_H_
#define EIDETIC_MEMORY_FORMAT_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "memory/archive.h"
#include "memory/block.h"
#include "memory/block_store.h"

namespace eidetic::memory::format {

inline constexpr uint32_t kFormatVersion = 1;       // of the archive; a newer one is refused
inline constexpr uint8_t kRecordVersion = 1;        // first byte of every value
inline constexpr uint8_t kLineageBeginVersion = 2;  // of a lineage record that tells its begin
inline constexpr uint8_t kOriginVersion = 2;        // of a document record that tells its origin
inline constexpr std::string_view kMagic = "EIDETIC\n";
inline constexpr size_t kChecksumBytes = 8;

inline constexpr int64_t kMaxLayers = 1024;  // stored layers of one layout
inline constexpr int64_t kMaxLayer = 65535;  // a model layer, 16 bits in keys
inline constexpr int64_t kMaxHeads = 1024;
inline constexpr int64_t kMaxHeadDim = 1024;
inline constexpr int64_t kMaxBlockTokens = 1024;
inline constexpr int kMaxReadTokens = 1 << 20;  // window and segment of a document's reader
inline constexpr int kMaxSinks = 65536;
inline constexpr int64_t kMaxFingerprintBytes = 128;
inline constexpr size_t kMaxNameBytes = 255;  // collections and sessions
// Before a collection's name: its next generation, which is being built beside it. No name in UTF-8
// begins so.
inline constexpr char kGenerationMark = '\xff';
inline constexpr size_t kMaxOwnerBytes = 512;        // "session/<name>"
inline constexpr size_t kMaxSourceBytes = 4096;      // a document's name
inline constexpr size_t kMaxOriginFormatBytes = 32;  // "html"
inline constexpr uint64_t kTextChunkBytes = 64u << 10;
inline constexpr uint64_t kBlobChunkBytes = 1u << 20;
inline constexpr uint64_t kMaxBlobBytes = 16ull << 30;
inline constexpr size_t kStoreIdBytes = 16;

// First byte of a key in `meta`.
enum class MetaTag : char {
  kFormat = 'F',
  kCounter = 'N',         // + counter
  kCollection = 'C',      // + name
  kDocument = 'D',        // + collection, 0, source, 0, document
  kDocumentKey = 'I',     // + document: the key of its document record
  kLineage = 'L',         // + lineage
  kUncommitted = 'U',     // + lineage: it may have blocks past its committed length
  kUnfinishedText = 'T',  // + document: its text may be there without a document record
  kIngested = 'A',        // + document: when it was finished
  kPurge = 'P'            // something was forgotten, and its bytes may still be in the files
};
// First byte of a key in `sessions`.
enum class SessionTag : char {
  kReaderState = 'R',  // + document, chunk
  kSession = 'S',      // + name, 0, chunk
  // Sessions that are kept turn by turn (memory/session_format.h).
  kContent = 'C',   // + lineage, turn
  kHead = 'H',      // + name
  kSnapshot = 'P',  // + lineage, turn, chunk
  kTurn = 'T',      // + lineage, turn
  kWaiting = 'Q',   // + name, 0, turn
  kRows = 'W'       // + lineage, position
};
enum class Counter : uint8_t { kBlock = 1, kLineage = 2, kDocument = 3 };

// --- keys ---------------------------------------------------------------------------------------

std::string FormatKey();
std::string CounterKey(Counter counter);
std::string CollectionKey(std::string_view name);
std::string DocumentKey(std::string_view collection, std::string_view source, DocumentId document);
// Begins the keys of all documents of a collection, and of one source.
std::string DocumentPrefix(std::string_view collection);
std::string DocumentPrefix(std::string_view collection, std::string_view source);
std::string DocumentPointerKey(DocumentId document);
std::string LineageKey(LineageId lineage);
std::string UncommittedKey(LineageId lineage);
std::string UnfinishedTextKey(DocumentId document);
std::string IngestedKey(DocumentId document);
std::string PurgeKey();
std::string PayloadRecordKey(const PayloadKey& key);
std::string EmbeddingKey(LineageId lineage, uint64_t position);
std::string TextKey(DocumentId document, uint32_t chunk);
std::string ReaderStatePrefix(DocumentId document);
std::string SessionPrefix(std::string_view name);
// Key of a blob's chunk: 0 is its head, its bytes are in 1, 2, ...
std::string BlobKey(std::string_view prefix, uint32_t chunk);
// Begins every payload or embedding key of a lineage; of one layer and part of it.
std::string LineagePrefix(LineageId lineage);
std::string PayloadPrefix(LineageId lineage, int layer, Part part);
// Begins every text key of a document, and those of its map.
std::string TextPrefix(DocumentId document);
// The blob in `text` that maps a document's text to its original, behind the text's chunks.
std::string TextMapPrefix(DocumentId document);
std::string TagPrefix(MetaTag tag);
std::string TagPrefix(SessionTag tag);
// The first key after all keys that begin with `prefix`; empty when there is none.
std::string PrefixEnd(std::string prefix);

// kCorruption when the bytes are no such key.
Result<PayloadKey> ParsePayloadKey(std::string_view key);
struct EmbeddingKeyParts {
  LineageId lineage = 0;
  uint64_t position = 0;
};
Result<EmbeddingKeyParts> ParseEmbeddingKey(std::string_view key);
struct TextKeyParts {
  DocumentId document = 0;
  uint32_t chunk = 0;
};
Result<TextKeyParts> ParseTextKey(std::string_view key);
// The id after the tag of kLineage, kUncommitted, kUnfinishedText, kIngested and kDocumentKey keys.
Result<uint64_t> ParseTaggedId(MetaTag tag, std::string_view key);
// The name in the key of a session's chunk.
Result<std::string> ParseSessionKey(std::string_view key);

// --- values -------------------------------------------------------------------------------------

struct FormatRecord {
  uint32_t version = kFormatVersion;
  std::array<uint8_t, kStoreIdBytes> store_id{};
};
std::string EncodeFormat(std::string_view key, const FormatRecord& record);
// kUnsupported for a newer version.
Result<FormatRecord> DecodeFormat(std::string_view key, std::string_view value);

// One number: counters, document pointers' marks.
std::string EncodeNumber(std::string_view key, uint64_t number);
Result<uint64_t> DecodeNumber(std::string_view key, std::string_view value);

// Bytes as they are: text chunks, blob chunks, document pointers.
std::string EncodeBytes(std::string_view key, std::string_view bytes);
// A view into `value`.
Result<std::string_view> DecodeBytes(std::string_view key, std::string_view value);

std::string EncodeCollection(std::string_view key, const CollectionRecord& record);
Result<CollectionRecord> DecodeCollection(std::string_view key, std::string_view value);

std::string EncodeDocument(std::string_view key, const DocumentRecord& record);
Result<DocumentRecord> DecodeDocument(std::string_view key, std::string_view value);

std::string EncodeLineage(std::string_view key, const LineageRecord& record);
Result<LineageRecord> DecodeLineage(std::string_view key, std::string_view value);

// `bytes`: coded rows of `tokens` tokens, PayloadBytes long.
std::string EncodePayload(std::string_view key, const Layout& layout, int tokens,
                          std::string_view bytes);
Result<Payload> DecodePayload(std::string_view key, std::string_view value);

std::string EncodeEmbedding(std::string_view key, const Layout& layout, const BlockHeader& header,
                            const std::vector<uint16_t>& representatives);
// Reuses the memory of its outputs. Checked against the layout; header.lineage and .position come
// from the key.
Status DecodeEmbedding(std::string_view key, std::string_view value, const Layout& layout,
                       BlockHeader* header, std::vector<uint16_t>* representatives);

// A blob: a head that says how long it is, and chunks.
struct BlobHead {
  uint64_t bytes = 0;
  uint32_t chunks = 0;
  uint64_t checksum = 0;  // RecordChecksum(prefix, all bytes)
};
std::string EncodeBlobHead(std::string_view key, const BlobHead& head);
Result<BlobHead> DecodeBlobHead(std::string_view key, std::string_view value);

// A key as it stands in messages.
std::string Printable(std::string_view key);

}  // namespace eidetic::memory::format

#endif  // EIDETIC_MEMORY_FORMAT_H_

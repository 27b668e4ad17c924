#include "memory/write_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "memory/byte_io.h"

namespace eidetic::memory {
namespace {

namespace fs = std::filesystem;

// RocksDB's log: blocks of 32 KiB of fragments; a fragment has a masked CRC-32C over type and
// payload, the payload's length and the type. A record is one whole fragment, or a first, middle
// and last ones; its bytes are a batch: sequence number of its first change, number of changes,
// changes.
constexpr size_t kLogBlockBytes = 32u << 10;
constexpr size_t kFragmentHeaderBytes = 7;
constexpr size_t kBatchHeaderBytes = 12;
constexpr uint8_t kLogDataTag = 3;
enum FragmentType : uint8_t { kWhole = 1, kFirst = 2, kMiddle = 3, kLast = 4 };
constexpr uint8_t kFirstReusedType = 5, kLastReusedType = 8;

constexpr std::array<std::array<uint32_t, 256>, 8> kCrcTables = [] {
  std::array<std::array<uint32_t, 256>, 8> tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78u : 0);
    tables[0][byte] = crc;
  }
  for (size_t t = 1; t < tables.size(); ++t) {
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint32_t before = tables[t - 1][byte];
      tables[t][byte] = (before >> 8) ^ tables[0][before & 0xff];
    }
  }
  return tables;
}();

uint32_t Masked(uint32_t crc) {
  return std::rotr(crc, 15) + 0xa282ead8u;
}

struct Fragment {
  FragmentType type = kWhole;
  std::string_view payload;
};

// The fragment at the beginning of `bytes`, when a sound one is there.
std::optional<Fragment> ParseFragment(std::string_view bytes) {
  ByteReader reader(bytes);
  uint32_t crc = 0;
  uint16_t length = 0;
  uint8_t type = 0;
  Fragment fragment;
  if (!reader.Little(&crc) || !reader.Little(&length) || !reader.Little(&type) || type < kWhole ||
      type > kLast || !reader.Bytes(length, &fragment.payload) ||
      crc != Masked(Crc32c(bytes.substr(kFragmentHeaderBytes - 1, 1 + length)))) {
    return std::nullopt;
  }
  fragment.type = static_cast<FragmentType>(type);
  return fragment;
}

// One log after the other, in the order in which they were written.
class LogReader {
 public:
  std::optional<WriteLogDamage> damage() const {
    std::optional<WriteLogDamage> damage = damage_;
    if (damage) damage->skippable = skippable_;
    return damage;
  }

  // The next block of the log at hand.
  void ReadBlock(std::string_view block, const std::string& file, uint64_t offset) {
    file_ = file;
    for (size_t at = 0; block.size() - at >= kFragmentHeaderBytes;) {
      if (const std::optional<Fragment> fragment = ParseFragment(block.substr(at))) {
        Take(*fragment, offset + at);
        at += kFragmentHeaderBytes + fragment->payload.size();
        continue;
      }
      // Neither its length nor anything else of it can be trusted: the next sound one is looked
      // for.
      Suspect(offset + at);
      const auto type = static_cast<uint8_t>(block[at + kFragmentHeaderBytes - 1]);
      if (type >= kFirstReusedType && type <= kLastReusedType) skippable_ = false;
      in_record_ = false;
      do {
        ++at;
      } while (block.size() - at >= kFragmentHeaderBytes && !ParseFragment(block.substr(at)));
    }
  }

  void EndLog(uint64_t size) {
    if (in_record_) Suspect(size);
    in_record_ = false;
  }

 private:
  static constexpr size_t kAcknowledgementBytes = kBatchHeaderBytes + 2 + kAcknowledgement.size();

  void Suspect(uint64_t offset) {
    if (!suspect_) suspect_ = WriteLogDamage{file_, offset, true};
  }

  void Take(const Fragment& fragment, uint64_t offset) {
    const bool begins = fragment.type == kWhole || fragment.type == kFirst;
    if (begins == in_record_) Suspect(begins ? record_offset_ : offset);
    if (!begins && !in_record_) return;  // its beginning is lost
    if (begins) {
      record_offset_ = offset;
      record_bytes_ = 0;
      head_.clear();
    }
    record_bytes_ += fragment.payload.size();
    head_.append(fragment.payload.substr(0, kAcknowledgementBytes - head_.size()));
    in_record_ = fragment.type == kFirst || fragment.type == kMiddle;
    if (!in_record_) TakeRecord();
  }

  void TakeRecord() {
    ByteReader reader(head_);
    uint64_t sequence = 0;
    uint32_t changes = 0;
    if (!reader.Little(&sequence) || !reader.Little(&changes)) {
      Suspect(record_offset_);
      return;
    }
    // Numbers that are left out belong to batches that are missing.
    if (next_sequence_ && sequence != *next_sequence_) Suspect(record_offset_);
    next_sequence_ = sequence + changes;
    if (!damage_ && suspect_ && IsAcknowledgement(changes, &reader)) damage_ = suspect_;
  }

  bool IsAcknowledgement(uint32_t changes, ByteReader* reader) const {
    uint8_t tag = 0, length = 0;
    std::string_view mark;
    return changes == 0 && record_bytes_ == kAcknowledgementBytes && reader->Little(&tag) &&
           tag == kLogDataTag && reader->Little(&length) && length == kAcknowledgement.size() &&
           reader->Bytes(length, &mark) && mark == kAcknowledgement;
  }

  std::string file_;
  bool in_record_ = false;  // a first fragment was there, not yet a last one
  uint64_t record_offset_ = 0;
  uint64_t record_bytes_ = 0;
  std::string head_;  // the record's first bytes
  std::optional<uint64_t> next_sequence_;
  std::optional<WriteLogDamage> suspect_;  // the first thing that is not as it was written
  std::optional<WriteLogDamage> damage_;   // the same, with an acknowledgement behind it
  bool skippable_ = true;
};

// Numbers and names of the logs, in order.
Result<std::vector<std::pair<uint64_t, std::string>>> ListLogs(const std::string& database,
                                                               uint64_t first_log) {
  std::vector<std::pair<uint64_t, std::string>> logs;
  std::error_code error;
  for (fs::directory_iterator at(database, error), end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    uint64_t number = 0;
    const auto parsed = std::from_chars(name.data(), name.data() + name.size(), number);
    if (parsed.ec != std::errc() || std::string_view(parsed.ptr) != ".log") continue;
    if (number >= first_log) logs.emplace_back(number, name);
  }
  if (error) return Status(Code::kIoError, "cannot list " + database + ": " + error.message());
  std::sort(logs.begin(), logs.end());
  return logs;
}

Status ReadLog(const std::string& path, const std::string& name, LogReader* reader) {
  const auto failed = [&](int error) {
    // A writer beside us removes what it does not need any more.
    if (error == ENOENT) return Status();
    return Status(Code::kIoError, "cannot read the log " + path + ": " + std::strerror(error));
  };
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return failed(errno);
  Status status;
  // What is appended from here on is not looked at: the blocks read are of one moment.
  struct stat info {};
  if (fstat(file, &info) != 0) status = failed(errno);
  const auto size = static_cast<uint64_t>(info.st_size);
  std::vector<char> block(kLogBlockBytes);
  for (uint64_t at = 0; status.ok() && at < size;) {
    const size_t wanted = std::min<uint64_t>(kLogBlockBytes, size - at);
    size_t have = 0;
    while (have < wanted) {
      const ssize_t got =
          pread(file, block.data() + have, wanted - have, static_cast<off_t>(at + have));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) status = failed(errno);
      if (got <= 0) break;
      have += static_cast<size_t>(got);
    }
    reader->ReadBlock({block.data(), have}, name, at);
    if (have < wanted) break;
    at += wanted;
  }
  close(file);
  if (status.ok()) reader->EndLog(size);
  return status;
}

}  // namespace

uint32_t Crc32c(std::string_view bytes, uint32_t crc) {
  crc = ~crc;
  while (bytes.size() >= 8) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data(), sizeof word);
    word ^= crc;
    crc = 0;
    for (size_t i = 0; i < 8; ++i) crc ^= kCrcTables[7 - i][(word >> (8 * i)) & 0xff];
    bytes.remove_prefix(8);
  }
  for (const char byte : bytes) {
    crc = (crc >> 8) ^ kCrcTables[0][(crc ^ static_cast<uint8_t>(byte)) & 0xff];
  }
  return ~crc;
}

Result<std::optional<WriteLogDamage>> FindWriteLogDamage(const std::string& database,
                                                         uint64_t first_log) {
  EID_ASSIGN_OR_RETURN(const auto logs, ListLogs(database, first_log));
  LogReader reader;
  for (const auto& [number, name] : logs) {
    EID_RETURN_IF_ERROR(ReadLog((fs::path(database) / name).string(), name, &reader));
  }
  return reader.damage();
}

}  // namespace eidetic::memory

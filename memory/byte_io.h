// Bounds-checked reading and writing of record bytes (rule 6). Keys are big-endian, so that they
// sort as numbers; values are little-endian.
#ifndef EIDETIC_MEMORY_BYTE_IO_H_
#define EIDETIC_MEMORY_BYTE_IO_H_

#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace eidetic::memory {

static_assert(std::endian::native == std::endian::little,
              "values are stored little-endian and copied as they are");

// Appends to a string it does not own.
class ByteWriter {
 public:
  explicit ByteWriter(std::string* out) : out_(out) {}

  template <std::integral T>
  void Little(T value) {
    out_->append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  template <std::unsigned_integral T>
  void Big(T value) {
    for (int shift = static_cast<int>(sizeof(T) - 1) * 8; shift >= 0; shift -= 8) {
      out_->push_back(static_cast<char>(value >> shift));
    }
  }
  void Bytes(std::string_view bytes) { out_->append(bytes); }
  // A 16-bit length, then the bytes; the caller has checked that they fit.
  void ShortString(std::string_view bytes) {
    Little(static_cast<uint16_t>(bytes.size()));
    Bytes(bytes);
  }

 private:
  std::string* out_;
};

// Reads from bytes it does not own. A read past the end fails, leaves the output alone, and fails
// every later read.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : bytes_(bytes) {}

  template <std::integral T>
  bool Little(T* value) {
    std::string_view raw;
    if (!Bytes(sizeof *value, &raw)) return false;
    std::memcpy(value, raw.data(), sizeof *value);
    return true;
  }
  template <std::unsigned_integral T>
  bool Big(T* value) {
    std::string_view raw;
    if (!Bytes(sizeof *value, &raw)) return false;
    T result = 0;
    for (char byte : raw) result = static_cast<T>((result << 8) | static_cast<uint8_t>(byte));
    *value = result;
    return true;
  }
  bool Bytes(size_t count, std::string_view* bytes) {
    if (failed_ || bytes_.size() < count) {
      failed_ = true;
      return false;
    }
    *bytes = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return true;
  }
  bool ShortString(size_t max_length, std::string* text) {
    uint16_t length = 0;
    std::string_view raw;
    if (!Little(&length) || length > max_length || !Bytes(length, &raw)) {
      failed_ = true;
      return false;
    }
    text->assign(raw);
    return true;
  }
  size_t left() const { return failed_ ? 0 : bytes_.size(); }
  // Nothing failed and nothing is left over.
  bool done() const { return !failed_ && bytes_.empty(); }

 private:
  std::string_view bytes_;
  bool failed_ = false;
};

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_BYTE_IO_H_

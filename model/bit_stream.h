// Bits one after the other, the first in the lowest bit of a byte: little-endian machines
// only, as packed_floats.cc checks.
#ifndef EIDETIC_MODEL_BIT_STREAM_H_
#define EIDETIC_MODEL_BIT_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace eidetic::model {

class BitWriter {
 public:
  // At `out` there is room for all that will be put, and eight bytes more.
  explicit BitWriter(uint8_t* out) : begin_(out), out_(out) {}

  // The lowest `count` bits, at most 32; the others are 0. Without a branch: nobody could foretell
  // it.
  void Put(uint32_t bits, unsigned count) {
    held_bits_ |= static_cast<uint64_t>(bits) << held_;
    held_ += count;
    std::memcpy(out_, &held_bits_, sizeof held_bits_);
    out_ += held_ / 8;
    held_bits_ >>= held_ / 8 * 8;
    held_ %= 8;
  }
  // The number of all bytes, the last one filled with zeros.
  size_t bytes() const { return static_cast<size_t>(out_ - begin_) + (held_ > 0 ? 1 : 0); }

 private:
  uint8_t* begin_;
  uint8_t* out_;
  uint64_t held_bits_ = 0;
  unsigned held_ = 0;  // below 8
};

class BitReader {
 public:
  BitReader(std::string_view bytes, size_t at) : bytes_(bytes), at_(at) {}

  // At most 32. Zeros when the bytes end before.
  uint32_t Take(unsigned count) {
    if (held_ < count && bytes_.size() - at_ >= sizeof(uint32_t)) {
      uint32_t four = 0;
      std::memcpy(&four, bytes_.data() + at_, sizeof four);
      held_bits_ |= static_cast<uint64_t>(four) << held_;
      at_ += sizeof four;
      held_ += 32;
    }
    for (; held_ < count && at_ < bytes_.size(); held_ += 8) {
      held_bits_ |= static_cast<uint64_t>(static_cast<uint8_t>(bytes_[at_++])) << held_;
    }
    if (held_ < count) {
      good_ = false;
      return 0;
    }
    const auto bits = static_cast<uint32_t>(held_bits_ & ((uint64_t{1} << count) - 1));
    held_bits_ >>= count;
    held_ -= count;
    return bits;
  }
  // Whether all that was taken was there, and the last byte is filled with zeros.
  bool good() const { return good_ && (held_bits_ & ((1u << held_ % 8) - 1)) == 0; }
  // Behind the last byte that something was taken of.
  size_t at() const { return at_ - held_ / 8; }

 private:
  std::string_view bytes_;
  size_t at_;
  uint64_t held_bits_ = 0;
  unsigned held_ = 0;
  bool good_ = true;
};

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_BIT_STREAM_H_

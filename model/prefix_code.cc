#include "model/prefix_code.h"

#include <algorithm>

namespace eidetic::model {
namespace {

constexpr int kLongest = 15;

struct Code {
  uint32_t bits = 0;
  uint32_t length = 0;
};

// Huffman's tree, the lightest two nodes joined until one is left. Leaves come first, by weight;
// joined nodes come about by weight, too, so that the lightest is the first of either line.
CodeLengths LengthsOf(const std::array<uint32_t, kCodeSymbols>& counts) {
  std::array<uint8_t, kCodeSymbols> leaves{};
  size_t used = 0;
  for (uint8_t symbol = 0; symbol < kCodeSymbols; ++symbol) {
    if (counts[symbol] > 0) leaves[used++] = symbol;
  }
  for (uint8_t symbol = 0; used < 2; ++symbol) {
    if (counts[symbol] == 0) leaves[used++] = symbol;
  }
  std::stable_sort(leaves.begin(), leaves.begin() + static_cast<std::ptrdiff_t>(used),
                   [&](uint8_t a, uint8_t b) { return counts[a] < counts[b]; });
  std::array<uint64_t, 2 * kCodeSymbols> weights{};
  std::array<size_t, 2 * kCodeSymbols> parents{};
  for (size_t i = 0; i < used; ++i) weights[i] = counts[leaves[i]];
  size_t leaf = 0, joined = used, next = used;
  const auto lightest = [&] {
    const bool is_leaf = leaf < used && (joined == next || weights[leaf] <= weights[joined]);
    return is_leaf ? leaf++ : joined++;
  };
  for (; next < 2 * used - 1; ++next) {
    const size_t first = lightest(), second = lightest();
    weights[next] = weights[first] + weights[second];
    parents[first] = parents[second] = next;
  }
  std::array<uint8_t, 2 * kCodeSymbols> depths{};
  CodeLengths lengths{};
  for (size_t i = 2 * used - 2; i-- > 0;) {
    depths[i] = static_cast<uint8_t>(depths[parents[i]] + 1);
    if (i < used) lengths[leaves[i]] = depths[i];
  }
  return lengths;
}

// Shorter codes come first, those of one length by their symbols.
std::array<Code, kCodeSymbols> CodesOf(const CodeLengths& lengths) {
  std::array<Code, kCodeSymbols> codes{};
  uint32_t next = 0;
  for (uint32_t length = 1; length <= kLongest; ++length) {
    next <<= 1;
    for (size_t symbol = 0; symbol < kCodeSymbols; ++symbol) {
      if (lengths[symbol] == length) codes[symbol] = {next++, length};
    }
  }
  return codes;
}

}  // namespace

PrefixEncoder::PrefixEncoder(const std::array<uint32_t, kCodeSymbols>& counts)
    : lengths_(LengthsOf(counts)) {
  size_t bits = 0;
  for (size_t i = 0; i < kCodeSymbols; ++i) bits += size_t{counts[i]} * lengths_[i];
  bytes_ = (bits + 7) / 8;
}

void PrefixEncoder::Write(const uint8_t* symbols, size_t count, uint8_t* out) const {
  const std::array<Code, kCodeSymbols> codes = CodesOf(lengths_);
  // Two symbols at a time.
  std::array<Code, kCodeSymbols * kCodeSymbols> pairs;
  for (size_t i = 0; i < pairs.size(); ++i) {
    const Code first = codes[i / kCodeSymbols], second = codes[i % kCodeSymbols];
    pairs[i] = {first.bits << second.length | second.bits, first.length + second.length};
  }
  uint64_t bits = 0;
  uint32_t held = 0;  // of the lowest bits
  const auto put = [&](Code code) {
    bits = bits << code.length | code.bits;
    held += code.length;
    if (held < 32) return;
    held -= 32;
    const auto four = static_cast<uint32_t>(bits >> held);
    for (int i = 0; i < 4; ++i) out[i] = static_cast<uint8_t>(four >> (24 - 8 * i));
    out += 4;
  };
  size_t at = 0;
  for (; at + 1 < count; at += 2) put(pairs[symbols[at] * kCodeSymbols + symbols[at + 1]]);
  if (at < count) put(codes[symbols[at]]);
  for (; held > 0; held -= std::min(held, 8u)) {
    *out++ = static_cast<uint8_t>(held >= 8 ? bits >> (held - 8) : bits << (8 - held));
  }
}

PrefixDecoder::PrefixDecoder(const CodeLengths& lengths) {
  uint32_t share = 0;  // of all sequences of kLongest bits
  for (const uint8_t length : lengths) {
    if (length > kLongest) return;
    if (length > 0) share += 1u << (kLongest - length);
    longest_ = std::max<int>(longest_, length);
  }
  if (share != 1u << kLongest) return;
  table_.reserve(size_t{1} << longest_);
  for (int length = 1; length <= longest_; ++length) {
    for (size_t symbol = 0; symbol < kCodeSymbols; ++symbol) {
      if (lengths[symbol] != length) continue;
      table_.insert(table_.end(), size_t{1} << (longest_ - length),
                    static_cast<uint8_t>(symbol | static_cast<size_t>(length) << 4));
    }
  }
}

bool PrefixDecoder::Read(std::string_view bytes, size_t* at, size_t count, uint8_t* symbols) const {
  uint64_t bits = 0;  // the next ones, in the highest
  int held = 0;
  size_t next = *at;
  for (size_t i = 0; i < count; ++i) {
    for (; held <= kLongest && next < bytes.size(); held += 8) {
      bits |= static_cast<uint64_t>(static_cast<uint8_t>(bytes[next++])) << (56 - held);
    }
    const uint8_t entry = table_[bits >> (64 - longest_)];
    const int length = entry >> 4;
    if (length > held) return false;
    symbols[i] = entry & 15;
    bits <<= length;
    held -= length;
  }
  *at = next - static_cast<size_t>(held / 8);
  return held % 8 == 0 || bits >> (64 - held % 8) == 0;
}

}  // namespace eidetic::model

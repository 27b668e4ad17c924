#include "model/sequence_options.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>

#include "model/error.h"

namespace eidetic::model {
namespace {

constexpr std::array<std::pair<SequenceMode, std::string_view>, 8> kNames = {{
    {SequenceMode::kFull, "full"},
    {SequenceMode::kWindow, "window"},
    {SequenceMode::kShiftedSparse, "s2"},
    {SequenceMode::kPaper, "paper"},
    {SequenceMode::kPaperRandom, "paper-random"},
    {SequenceMode::kPaperNoMemory, "paper-no-memory"},
    {SequenceMode::kPaperLandmark, "paper-landmark"},
    {SequenceMode::kStream, "se-stream"},
}};

constexpr std::array<std::pair<SequenceMode, std::string_view>, 4> kOtherNames = {{
    {SequenceMode::kPaper, "se"},
    {SequenceMode::kPaperRandom, "se-random"},
    {SequenceMode::kPaperNoMemory, "se-no-memory"},
    {SequenceMode::kPaperLandmark, "se-landmark"},
}};

constexpr unsigned Bit(SequenceMode mode) {
  return 1u << static_cast<unsigned>(mode);
}
constexpr unsigned kOfSpans =
    Bit(SequenceMode::kPaper) | Bit(SequenceMode::kPaperRandom) | Bit(SequenceMode::kPaperLandmark);
constexpr unsigned kOfStream = Bit(SequenceMode::kStream);

// With the modes that read them.
constexpr std::array<std::pair<std::string_view, unsigned>, 11> kReaders = {{
    {"chunk", kOfSpans | Bit(SequenceMode::kPaperNoMemory)},
    {"block", kOfSpans | kOfStream},
    {"span-blocks", kOfSpans | kOfStream},
    {"one-choice", kOfSpans},
    {"groups", Bit(SequenceMode::kShiftedSparse)},
    {"window", Bit(SequenceMode::kWindow) | kOfStream},
    {"segment", kOfStream},
    {"sinks", kOfStream},
    {"candidates", kOfStream},
    {"query-offset", kOfStream},
    {"span-layers", kOfStream},
}};

// Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
uint64_t NextRandom(uint64_t* state) {
  uint64_t z = *state += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

// Uniform in 0 .. bound - 1: draws from the incomplete last round are thrown away.
uint64_t Below(uint64_t bound, uint64_t* state) {
  const uint64_t incomplete = (0 - bound) % bound;  // 2^64 mod bound
  uint64_t number = NextRandom(state);
  while (number < incomplete) number = NextRandom(state);
  return number % bound;
}

[[noreturn]] void RefuseOption(const char* name, int value, const std::string& allowed) {
  throw Error(ErrorCode::kInvalidArgument, std::string("sequence attention: ") + name + " is " +
                                               std::to_string(value) + "; it must be " + allowed);
}

void CheckAtLeastOne(const char* name, int value) {
  if (value < 1) RefuseOption(name, value, "1 or more");
}

void CheckStream(const StreamReading& stream, int block_tokens) {
  CheckAtLeastOne("block_tokens", block_tokens);
  CheckAtLeastOne("segment", stream.segment);
  CheckAtLeastOne("window", stream.window);
  CheckAtLeastOne("votes", stream.votes);
  CheckAtLeastOne("candidates", stream.candidates);
  CheckAtLeastOne("representative_tokens", stream.representative_tokens);
  if (block_tokens % stream.representative_tokens != 0) {
    RefuseOption("representative_tokens", stream.representative_tokens,
                 "a divisor of block_tokens (" + std::to_string(block_tokens) + ")");
  }
  if (stream.sinks < 0 || stream.sinks % block_tokens != 0) {
    RefuseOption("sinks", stream.sinks,
                 "a multiple of block_tokens (" + std::to_string(block_tokens) + "), or 0");
  }
  if (stream.query_offset < 0) RefuseOption("query_offset", stream.query_offset, "0 or more");
  if (stream.span_blocks < 0) RefuseOption("span_blocks", stream.span_blocks, "0 or more");
}

}  // namespace

std::string_view SequenceModeName(SequenceMode mode) {
  for (const auto& [known, name] : kNames) {
    if (known == mode) return name;
  }
  return "unknown";
}

std::optional<SequenceMode> FindSequenceMode(std::string_view name) {
  for (const auto& [mode, known] : kNames) {
    if (known == name) return mode;
  }
  for (const auto& [mode, known] : kOtherNames) {
    if (known == name) return mode;
  }
  return std::nullopt;
}

std::string TrainingModeName(SequenceMode mode) {
  for (const auto& [known, name] : kOtherNames) {
    if (known == mode) return std::string(name);
  }
  return std::string(SequenceModeName(mode));
}

bool ReadsOption(SequenceMode mode, std::string_view option) {
  for (const auto& [name, readers] : kReaders) {
    if (name == option) return (readers & Bit(mode)) != 0;
  }
  return true;
}

std::vector<std::string> ModesThatRead(std::string_view option) {
  std::vector<std::string> modes;
  for (const auto& [mode, name] : kNames) {
    if (ReadsOption(mode, option)) modes.push_back(TrainingModeName(mode));
  }
  return modes;
}

void CheckSequenceOptions(const SequenceAttentionOptions& options) {
  if (!(options.scale >= 0) || !std::isfinite(options.scale)) {
    throw Error(ErrorCode::kInvalidArgument,
                "sequence attention: scale is " + std::to_string(options.scale) +
                    "; it must be a positive number, or 0 for 1 / sqrt(head_dim)");
  }
  switch (options.mode) {
    case SequenceMode::kFull:
      return;
    case SequenceMode::kWindow:
      return CheckAtLeastOne("window", options.window);
    case SequenceMode::kShiftedSparse:
      return CheckAtLeastOne("groups", options.groups);
    case SequenceMode::kStream:
      return CheckStream(options.stream, options.block_tokens);
    case SequenceMode::kPaper:
    case SequenceMode::kPaperRandom:
    case SequenceMode::kPaperLandmark:
      CheckAtLeastOne("block_tokens", options.block_tokens);
      CheckAtLeastOne("span_blocks", options.span_blocks);
      [[fallthrough]];
    case SequenceMode::kPaperNoMemory:
      if (options.chunk_sizes.empty()) {
        throw Error(ErrorCode::kInvalidArgument, "sequence attention: chunk_sizes is empty",
                    "Name one chunk size or more.");
      }
      for (const int size : options.chunk_sizes) CheckAtLeastOne("a size in chunk_sizes", size);
      return;
  }
  throw Error(ErrorCode::kInvalidArgument, "sequence attention: mode is " +
                                               std::to_string(static_cast<int>(options.mode)) +
                                               ", which is none of the modes");
}

int64_t ChunkOfCall(const SequenceAttentionOptions& options) {
  uint64_t state = options.seed;
  return options.chunk_sizes[Below(options.chunk_sizes.size(), &state)];
}

SequenceAttentionOptions OptionsOfLayer(const SequenceAttentionOptions& options, double scale,
                                        int layer) {
  SequenceAttentionOptions of_layer = options;
  if (of_layer.scale == 0) of_layer.scale = scale;
  of_layer.seed = SeedOfLayer(options.seed, layer);
  const std::vector<int>& spans = options.stream.span_layers;
  if (!spans.empty() && std::find(spans.begin(), spans.end(), layer) == spans.end()) {
    of_layer.stream.span_blocks = 0;
  }
  return of_layer;
}

uint64_t SeedOfLayer(uint64_t seed, int layer) {
  uint64_t state = NextRandom(&seed) + static_cast<uint64_t>(layer);
  return NextRandom(&state);
}

std::vector<int64_t> DrawSubset(int64_t candidates, int64_t count, uint64_t* state) {
  // Floyd's method: Bentley and Floyd, "A sample of brilliance", 1987.
  std::vector<int64_t> drawn;
  for (int64_t last = std::max(candidates - count, int64_t{0}); last < candidates; ++last) {
    const auto number = static_cast<int64_t>(Below(static_cast<uint64_t>(last) + 1, state));
    const auto place = std::lower_bound(drawn.begin(), drawn.end(), number);
    const bool taken = place != drawn.end() && *place == number;
    if (taken) {
      drawn.push_back(last);  // larger than all before it
    } else {
      drawn.insert(place, number);
    }
  }
  return drawn;
}

}  // namespace eidetic::model

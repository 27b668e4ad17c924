#include "sdk/background_writer.h"

#include <memory>
#include <utility>

#include "sdk/error_wall.h"

namespace eidetic::sdk {

using memory::Status;

namespace {

// Of runs and reader states that wait: four segments of 512 tokens of a model with ten attention
// layers of three heads. Writing takes a third of the time of reading on the fastest device
// measured, so more would only be filled by a stalled disk.
constexpr size_t kMostWaitingBytes = 64u << 20;

}  // namespace

BackgroundWriter::BackgroundWriter(memory::Layout layout,
                                   std::function<uint64_t(uint64_t position)> text_offset,
                                   memory::DocumentWriter* writer, uint64_t committed)
    : blocks_(std::move(layout), std::move(text_offset),
              [writer](memory::Block block) { return writer->Append(std::move(block)); }),
      writer_(writer),
      worker_(kMostWaitingBytes) {
  Note(&committed);
}

void BackgroundWriter::Accept(const model::EvictedRun& run) {
  ThrowIfError(worker_.Hand(run.bytes, [this, run] {
    blocks_.Accept(run);
    Note(nullptr);
    return Status();
  }));
}

Status BackgroundWriter::Commit(uint64_t position, std::string reader_state) {
  const size_t bytes = reader_state.size();
  // Shared because a std::function is copyable; moved out of by the one that runs.
  auto state = std::make_shared<std::string>(std::move(reader_state));
  return worker_.Hand(bytes, [this, position, state] {
    EID_RETURN_IF_ERROR(writer_->Commit(std::move(*state)));
    Note(&position);
    return Status();
  });
}

Status BackgroundWriter::Drain() {
  return worker_.Drain();
}

Status BackgroundWriter::Finish() {
  EID_RETURN_IF_ERROR(worker_.Drain());
  EID_RETURN_IF_ERROR(writer_->Finish());
  const uint64_t all = writer_->document().tokens;
  Note(&all);
  return {};
}

StoredProgress BackgroundWriter::stored() const {
  std::lock_guard lock(mutex_);
  return stored_;
}

void BackgroundWriter::Note(const uint64_t* committed) {
  std::lock_guard lock(mutex_);
  if (committed != nullptr) stored_.committed = *committed;
  stored_.blocks = writer_->document().committed_blocks;
  stored_.bytes = writer_->bytes_written();
}

}  // namespace eidetic::sdk

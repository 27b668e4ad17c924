#include "memory/record_store.h"

#include <iterator>
#include <utility>

namespace eidetic::memory {

const char* FamilyName(Family family) {
  switch (family) {
    case Family::kMeta:
      return "meta";
    case Family::kBlocks:
      return "blocks";
    case Family::kEmbeddings:
      return "embeddings";
    case Family::kText:
      return "text";
    case Family::kSessions:
      return "sessions";
  }
  return "unknown";
}

void RecordBatch::Put(Family family, std::string key, std::string value) {
  bytes_ += key.size() + value.size();
  changes_.push_back({Kind::kPut, family, std::move(key), std::move(value)});
}

void RecordBatch::Delete(Family family, std::string key) {
  changes_.push_back({Kind::kDelete, family, std::move(key), {}});
}

void RecordBatch::DeleteRange(Family family, std::string begin, std::string end) {
  changes_.push_back({Kind::kDeleteRange, family, std::move(begin), std::move(end)});
}

void RecordBatch::Append(RecordBatch other) {
  bytes_ += other.bytes_;
  changes_.insert(changes_.end(), std::make_move_iterator(other.changes_.begin()),
                  std::make_move_iterator(other.changes_.end()));
}

void RecordBatch::Truncate(size_t count) {
  while (changes_.size() > count) {
    const Change& last = changes_.back();
    if (last.kind == Kind::kPut) bytes_ -= last.key.size() + last.value.size();
    changes_.pop_back();
  }
}

void RecordBatch::Clear() {
  changes_.clear();
  bytes_ = 0;
}

}  // namespace eidetic::memory

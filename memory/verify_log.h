// What verification has found so far, shared by its source files.
#ifndef EIDETIC_MEMORY_VERIFY_LOG_H_
#define EIDETIC_MEMORY_VERIFY_LOG_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "memory/archive.h"

namespace eidetic::memory {

class VerifyLog {
 public:
  // `progress` may be empty; it outlives the log.
  explicit VerifyLog(const std::function<bool(const VerifyProgress&)>& progress)
      : progress_(progress) {}

  // One more record was read. kCancelled when the caller wants no more.
  Status Count() {
    constexpr uint64_t kEvery = 512;
    if (++report_.records % kEvery != 0 || !progress_) return {};
    if (progress_({report_.records, std::max(total_, report_.records)})) return {};
    return Status(Code::kCancelled,
                  "verification was stopped after " + std::to_string(report_.records) + " records");
  }
  // All were read. An answer of "stop" comes too late.
  void Finish() {
    if (progress_) static_cast<void>(progress_({report_.records, report_.records}));
  }
  void Damaged(std::string what, DocumentId document = 0, BlockId block = 0) {
    report_.damage.push_back({std::move(what), document, block});
  }
  // So many records more are expected.
  void Expect(uint64_t records) { total_ += records; }

  VerifyReport& report() { return report_; }

 private:
  const std::function<bool(const VerifyProgress&)>& progress_;
  VerifyReport report_;
  uint64_t total_ = 0;
};

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_VERIFY_LOG_H_

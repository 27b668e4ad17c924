// Codes, stores and commits a document behind the model that reads it, on a thread of its own
// (docs/decisions/055).
#ifndef EIDETIC_SDK_BACKGROUND_WRITER_H_
#define EIDETIC_SDK_BACKGROUND_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>

#include "memory/archive.h"
#include "model/seams.h"
#include "sdk/memory_bridge.h"
#include "sdk/serial_worker.h"

namespace eidetic::sdk {

// What has come to the archive so far.
struct StoredProgress {
  uint64_t committed = 0;  // tokens read up to the last commit that is durable (rule 2)
  uint64_t blocks = 0;     // committed ones
  uint64_t bytes = 0;      // of all records written
};

// Runs and commits are carried out in the order in which they were accepted, so a commit holds
// exactly the blocks that were evicted before it. What was accepted and not committed is lost when
// this is destroyed, as in a crash. All calls come from one thread, the reader's.
class BackgroundWriter : public model::BlockSink {
 public:
  // `committed`: the position at which reading begins. `text_offset`: as BlockWriter has it, called
  // on the writer's thread. `writer` is used on that thread until Finish or the destructor returns.
  BackgroundWriter(memory::Layout layout, std::function<uint64_t(uint64_t position)> text_offset,
                   memory::DocumentWriter* writer, uint64_t committed);

  // Keeps the run and returns; waits while too much is unfinished. Throws StatusError with the
  // error of what was accepted before, if there is one.
  void Accept(const model::EvictedRun& run) override;
  // Commits everything accepted so far, with the reader's state at that `position`. Does not wait
  // for it: an error comes from a later call.
  memory::Status Commit(uint64_t position, std::string reader_state);
  // Waits until everything accepted is stored and every commit durable.
  memory::Status Drain();
  // Drains and finishes the document.
  memory::Status Finish();

  StoredProgress stored() const;

 private:
  void Note(const uint64_t* committed);

  BlockWriter blocks_;
  memory::DocumentWriter* writer_;
  mutable std::mutex mutex_;
  StoredProgress stored_;  // guarded by mutex_
  SerialWorker worker_;    // the last member: ends before the others
};

}  // namespace eidetic::sdk

#endif  // EIDETIC_SDK_BACKGROUND_WRITER_H_

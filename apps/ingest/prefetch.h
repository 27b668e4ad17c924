// Reads documents on threads of their own, ahead of the one that takes them in order.
#ifndef EIDETIC_APPS_INGEST_PREFETCH_H_
#define EIDETIC_APPS_INGEST_PREFETCH_H_

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "apps/ingest/extracted_text.h"
#include "eidetic/eidetic.hpp"

namespace eidetic::ingest {

// A document that was read, or why not.
struct ReadDocument {
  ExtractedText text;
  std::optional<Error> error;
  std::string refusal;  // with an error of the content: see refusal_of()
};

class Prefetch {
 public:
  // Calls `read` for 0..count-1 on `threads` threads; it must not throw. At most twice as many
  // documents as threads are held at a time.
  Prefetch(std::size_t count, int threads, std::function<ReadDocument(std::size_t)> read);
  ~Prefetch();  // does not wait for what was not begun
  Prefetch(const Prefetch&) = delete;
  Prefetch& operator=(const Prefetch&) = delete;

  // The next one, in order.
  ReadDocument next();

 private:
  void work();

  const std::size_t count_, ahead_;
  const std::function<ReadDocument(std::size_t)> read_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t begun_ = 0, taken_ = 0;
  bool stopped_ = false;
  std::map<std::size_t, ReadDocument> done_;
  std::vector<std::thread> threads_;  // the last member: they use the others
};

}  // namespace eidetic::ingest

#endif  // EIDETIC_APPS_INGEST_PREFETCH_H_

#include "apps/ingest/prefetch.h"

#include <algorithm>
#include <utility>

namespace eidetic::ingest {

Prefetch::Prefetch(std::size_t count, int threads, std::function<ReadDocument(std::size_t)> read)
    : count_(count), ahead_(2 * static_cast<std::size_t>(threads)), read_(std::move(read)) {
  const std::size_t wanted = std::min(count, static_cast<std::size_t>(threads));
  for (std::size_t i = 0; i < wanted; ++i) threads_.emplace_back([this] { work(); });
}

Prefetch::~Prefetch() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

ReadDocument Prefetch::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return done_.contains(taken_); });
  ReadDocument document = std::move(done_.extract(taken_++).mapped());
  lock.unlock();
  changed_.notify_all();
  return document;
}

void Prefetch::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock,
                  [this] { return stopped_ || begun_ == count_ || begun_ < taken_ + ahead_; });
    if (stopped_ || begun_ == count_) return;
    const std::size_t mine = begun_++;
    lock.unlock();
    ReadDocument document = read_(mine);
    lock.lock();
    done_.emplace(mine, std::move(document));
    changed_.notify_all();
  }
}

}  // namespace eidetic::ingest

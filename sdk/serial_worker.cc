#include "sdk/serial_worker.h"

#include <utility>

#include "sdk/error_wall.h"

namespace eidetic::sdk {

using memory::Status;

SerialWorker::SerialWorker(size_t most_bytes)
    : most_bytes_(most_bytes), thread_([this] { Run(); }) {}

SerialWorker::~SerialWorker() {
  std::deque<Piece> dropped;
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    dropped.swap(waiting_);
  }
  handed_.notify_one();
  thread_.join();
}

Status SerialWorker::Hand(size_t bytes, std::function<Status()> work) {
  {
    std::unique_lock lock(mutex_);
    done_.wait(lock, [&] {
      return !error_.ok() || unfinished_ == 0 || unfinished_bytes_ + bytes <= most_bytes_;
    });
    if (!error_.ok()) return error_;
    waiting_.push_back({bytes, std::move(work)});
    ++unfinished_;
    unfinished_bytes_ += bytes;
  }
  handed_.notify_one();
  return {};
}

Status SerialWorker::Drain() {
  std::unique_lock lock(mutex_);
  done_.wait(lock, [&] { return !error_.ok() || unfinished_ == 0; });
  return error_;
}

void SerialWorker::Run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    handed_.wait(lock, [&] { return stop_ || !waiting_.empty(); });
    if (stop_) return;
    Piece piece = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    Status status = BehindWall(piece.work);
    piece.work = nullptr;  // its memory is free before its room is
    lock.lock();
    --unfinished_;
    unfinished_bytes_ -= piece.bytes;
    std::deque<Piece> dropped;
    if (!status.ok()) {
      error_ = std::move(status);
      dropped.swap(waiting_);
      unfinished_ = 0;
      unfinished_bytes_ = 0;
    }
    lock.unlock();
    done_.notify_one();
    dropped.clear();
    lock.lock();
  }
}

}  // namespace eidetic::sdk

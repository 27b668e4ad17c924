// One thread that works through what it is handed, in order, while the one that hands over goes on.
#ifndef EIDETIC_SDK_SERIAL_WORKER_H_
#define EIDETIC_SDK_SERIAL_WORKER_H_

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "memory/status.h"

namespace eidetic::sdk {

// Hand and Drain belong to one thread. Waits without spinning, on both sides.
//
// After a piece of work that failed or threw, none is begun any more: what follows a hole must not
// be done (rule 2). Its error is what Hand and Drain return from then on.
class SerialWorker {
 public:
  // `most_bytes`: how much memory the work not yet finished may hold.
  explicit SerialWorker(size_t most_bytes);
  // Waits for the piece under way and drops those behind it.
  ~SerialWorker();
  SerialWorker(const SerialWorker&) = delete;
  SerialWorker& operator=(const SerialWorker&) = delete;

  // Hands over work that holds `bytes` of memory until it is done (then `work` is destroyed, on the
  // worker's thread). Waits for room first; a piece larger than all room waits until it is alone.
  // On an error, that of earlier work, `work` is not taken.
  memory::Status Hand(size_t bytes, std::function<memory::Status()> work);
  // Waits until everything handed over is done.
  memory::Status Drain();

 private:
  struct Piece {
    size_t bytes = 0;
    std::function<memory::Status()> work;
  };
  void Run();

  const size_t most_bytes_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable handed_;
  std::condition_variable done_;
  std::deque<Piece> waiting_;
  size_t unfinished_ = 0;        // pieces: waiting, or under way
  size_t unfinished_bytes_ = 0;  // held by them
  bool stop_ = false;
  memory::Status error_;  // the first one
  std::thread thread_;    // the last member: begins when the others are there
};

}  // namespace eidetic::sdk

#endif  // EIDETIC_SDK_SERIAL_WORKER_H_

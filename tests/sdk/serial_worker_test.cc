#include "sdk/serial_worker.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

namespace eidetic::sdk {
namespace {

using memory::Code;
using memory::Status;

// Work that waits until the test lets it go on, and says when it has begun.
class Gate {
 public:
  std::function<Status()> Work() {
    return [this] {
      begun_.set_value();
      open_.get_future().wait();
      return Status();
    };
  }
  void AwaitBegun() { begun_.get_future().wait(); }
  void Open() { open_.set_value(); }

 private:
  std::promise<void> begun_, open_;
};

std::function<Status()> Nothing() {
  return [] { return Status(); };
}

// Whether `call`, which runs on a thread of its own, has returned after a while.
bool Returns(const std::future<Status>& call) {
  return call.wait_for(std::chrono::milliseconds(50)) == std::future_status::ready;
}

TEST(SerialWorker, DoesEverythingInTheOrderInWhichItWasHandedOver) {
  SerialWorker worker(100);
  std::vector<int> done;
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(worker
                    .Hand(static_cast<size_t>(i % 40),
                          [&done, i] {
                            done.push_back(i);
                            return Status();
                          })
                    .ok());
  }
  ASSERT_TRUE(worker.Drain().ok());
  ASSERT_EQ(done.size(), 1000u);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(done[i], i);
}

TEST(SerialWorker, HoldsNoMoreThanItsBound) {
  SerialWorker worker(100);
  std::atomic<size_t> held = 0, most = 0;
  struct Holding {
    std::atomic<size_t>* held;
    size_t bytes;
    ~Holding() { *held -= bytes; }
  };
  for (size_t i = 0; i < 500; ++i) {
    const size_t bytes = 10 + i * 7 % 50;
    // Counted by what the worker took over: from within the work's own memory.
    const auto memory = std::make_shared<Holding>(&held, bytes);
    ASSERT_TRUE(worker
                    .Hand(bytes,
                          [memory] {
                            std::this_thread::yield();
                            return Status();
                          })
                    .ok());
    const size_t now = held += bytes;
    if (now > most) most = now;
  }
  ASSERT_TRUE(worker.Drain().ok());
  EXPECT_LE(most, 100u);
  EXPECT_GT(most, 0u);
}

TEST(SerialWorker, LetsTheOneThatHandsOverWaitForRoom) {
  SerialWorker worker(100);
  Gate gate;
  ASSERT_TRUE(worker.Hand(60, gate.Work()).ok());
  gate.AwaitBegun();
  ASSERT_TRUE(worker.Hand(40, Nothing()).ok());  // fits exactly
  auto third = std::async(std::launch::async, [&] { return worker.Hand(1, Nothing()); });
  EXPECT_FALSE(Returns(third));
  gate.Open();
  EXPECT_TRUE(third.get().ok());
  EXPECT_TRUE(worker.Drain().ok());
}

TEST(SerialWorker, TakesAPieceLargerThanItsBoundWhenItIsAlone) {
  SerialWorker worker(100);
  Gate gate;
  ASSERT_TRUE(worker.Hand(10, gate.Work()).ok());
  auto large = std::async(std::launch::async, [&] { return worker.Hand(1000, Nothing()); });
  EXPECT_FALSE(Returns(large));
  gate.Open();
  EXPECT_TRUE(large.get().ok());
  EXPECT_TRUE(worker.Drain().ok());
}

TEST(SerialWorker, DrainWaitsForThePieceUnderWay) {
  SerialWorker worker(100);
  Gate gate;
  ASSERT_TRUE(worker.Hand(1, gate.Work()).ok());
  gate.AwaitBegun();
  auto drained = std::async(std::launch::async, [&] { return worker.Drain(); });
  EXPECT_FALSE(Returns(drained));
  gate.Open();
  EXPECT_TRUE(drained.get().ok());
}

TEST(SerialWorker, DoesNothingAfterAnErrorAndPassesItOn) {
  SerialWorker worker(100);
  Gate gate;
  std::atomic<int> later = 0;
  const auto count = [&] {
    ++later;
    return Status();
  };
  ASSERT_TRUE(worker.Hand(10, gate.Work()).ok());
  ASSERT_TRUE(
      worker.Hand(10, [] { return Status(Code::kNoSpace, "the disk is full", "free some"); }).ok());
  ASSERT_TRUE(worker.Hand(80, count).ok());
  // This one waits for room when the error comes.
  auto waiting = std::async(std::launch::async, [&] { return worker.Hand(100, count); });
  EXPECT_FALSE(Returns(waiting));
  gate.Open();
  EXPECT_EQ(waiting.get().code(), Code::kNoSpace);
  EXPECT_EQ(worker.Drain().message(), "the disk is full");
  EXPECT_EQ(worker.Hand(1, count).remedy(), "free some");
  EXPECT_EQ(later, 0);
}

TEST(SerialWorker, TurnsWhatWorkThrowsIntoAnError) {
  SerialWorker worker(100);
  ASSERT_TRUE(worker.Hand(1, []() -> Status { throw std::runtime_error("it broke"); }).ok());
  const Status status = worker.Drain();
  EXPECT_EQ(status.code(), Code::kInternal);
  EXPECT_EQ(status.message(), "it broke");
}

TEST(SerialWorker, DestroyedWithWorkWaitingFinishesTheOneUnderWayAndFreesTheRest) {
  std::atomic<int> done = 0;
  const auto memory = std::make_shared<int>();
  Gate gate;
  auto worker = std::make_unique<SerialWorker>(100);
  ASSERT_TRUE(worker
                  ->Hand(20,
                         [&, wait = gate.Work(), memory] {
                           const Status status = wait();
                           ++done;
                           return status;
                         })
                  .ok());
  gate.AwaitBegun();
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(worker
                    ->Hand(20,
                           [&done, memory] {
                             ++done;
                             return Status();
                           })
                    .ok());
  }
  EXPECT_EQ(memory.use_count(), 6);
  auto destroyed = std::async(std::launch::async, [&] {
    worker.reset();
    return Status();
  });
  EXPECT_FALSE(Returns(destroyed));  // the one under way is not cut off
  gate.Open();
  EXPECT_TRUE(destroyed.get().ok());
  EXPECT_EQ(done, 1);
  EXPECT_EQ(memory.use_count(), 1);
}

TEST(SerialWorker, WithoutWorkIsDestroyedAtOnce) {
  const SerialWorker worker(100);
}

}  // namespace
}  // namespace eidetic::sdk

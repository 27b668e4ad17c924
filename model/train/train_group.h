// Processes that train one model together, each with a copy of its own: data parallel.
#ifndef EIDETIC_MODEL_TRAIN_TRAIN_GROUP_H_
#define EIDETIC_MODEL_TRAIN_TRAIN_GROUP_H_

#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace eidetic::model {

// Every process calls the same functions in the same order; a call returns when all have made it.
// On one machine. The processes meet through LibTorch's c10d::TCPStore, whose server is process 0
// and listens where this machine alone reaches it; what they add up goes over NCCL between GPUs,
// and on the CPU through the store, in pieces and in the order of the processes. Every call throws
// Error kIo when another process is gone. Not thread-safe.
class TrainGroup {
 public:
  // `meeting`: the path of a file that process 0 makes and the others wait for. Throws Error:
  // kInvalidArgument for a process that is not one of 0 .. processes - 1, kIo when they do not meet
  // within `meeting_time`.
  TrainGroup(int process, int processes, const std::string& meeting,
             std::chrono::milliseconds meeting_time = std::chrono::minutes(1));
  ~TrainGroup();
  TrainGroup(const TrainGroup&) = delete;
  TrainGroup& operator=(const TrainGroup&) = delete;

  int process() const { return process_; }
  int processes() const { return processes_; }

  // Adds the tensors of all processes up, in place: in the end they have the same bits in each.
  // They are of one type, fp32 or fp64, and on one device, the same kind of it for all processes.
  // Throws Error kUnsupported where NCCL is not there, kIo also when that fails.
  void Sum(const std::vector<at::Tensor>& tensors);
  // Whether it is true of any process.
  bool AnyOf(bool flag);
  void Wait() { AnyOf(false); }

 private:
  class Store;
  class Nccl;
  // What each process put in, by process.
  std::vector<std::vector<uint8_t>> Exchange(std::vector<uint8_t> own);
  // Of one row on the CPU, in place.
  void SumByStore(const at::Tensor& sum);

  int process_, processes_;
  int64_t exchanges_ = 0;
  std::unique_ptr<Store> store_;
  std::unique_ptr<Nccl> nccl_;  // from the first sum of tensors on a GPU on
};

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_TRAIN_GROUP_H_

#include "model/train/train_group.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <utility>

#include "model/atomic_file.h"
#include "model/error.h"

namespace eidetic::model {
namespace {

// Between two calls of one process another may evaluate and save for long; whoever began the
// processes ends them when one of them fails.
constexpr auto kWaitingTime = std::chrono::hours(24);
constexpr char kHost[] = "127.0.0.1";
// The store refuses values of more than 8 MiB.
constexpr size_t kPieceBytes = size_t{1} << 20;

using Milliseconds = std::chrono::milliseconds;

// Waits for process 0 to say where it listens.
uint16_t PortIn(const std::string& meeting, Milliseconds meeting_time) {
  const auto deadline = std::chrono::steady_clock::now() + meeting_time;
  for (;;) {
    uint16_t port = 0;
    if (std::ifstream(meeting) >> port) return port;
    if (std::chrono::steady_clock::now() > deadline) {
      throw Error(ErrorCode::kIo, "process 0 did not come to the meeting at " + meeting,
                  "begin all processes at a time");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

// TCPStore's own would listen on every network; whoever reaches it may write into the store.
class ListeningSocket {
 public:
  ListeningSocket() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const name = reinterpret_cast<sockaddr*>(&address);
    if (socket_ < 0 || ::bind(socket_, name, size) != 0 ||
        ::getsockname(socket_, name, &size) != 0) {
      const std::string reason = std::strerror(errno);
      if (socket_ >= 0) ::close(socket_);
      throw Error(ErrorCode::kIo,
                  std::string("the processes cannot meet: no port of ") + kHost +
                      " can be listened on: " + reason,
                  "let this program open sockets on the loopback interface");
    }
    port_ = ntohs(address.sin_port);
  }
  ~ListeningSocket() {
    if (socket_ >= 0) ::close(socket_);
  }
  ListeningSocket(const ListeningSocket&) = delete;
  ListeningSocket& operator=(const ListeningSocket&) = delete;

  uint16_t port() const { return port_; }
  // To whoever closes it from now on.
  int HandOver() { return std::exchange(socket_, -1); }

 private:
  int socket_;
  uint16_t port_ = 0;
};

}  // namespace

// What each process says to the others, by keys.
class TrainGroup::Store {
 public:
  Store(int process, const std::string& meeting, Milliseconds meeting_time) : process_(process) {
    c10d::TCPStoreOptions options;
    options.isServer = process == 0;
    options.waitWorkers = false;
    options.timeout = meeting_time;
    if (process == 0) {
      ListeningSocket socket;
      options.port = socket.port();
      options.masterListenFd = socket.HandOver();
    } else {
      options.port = PortIn(meeting, meeting_time);
    }
    Reach([&] { store_ = c10::make_intrusive<c10d::TCPStore>(kHost, options); });
    if (process != 0) return;
    const std::string port = std::to_string(options.port) + "\n";
    AtomicFile file(meeting);
    file.Write(port.data(), port.size());
    file.Commit();
  }

  void SetTimeout(Milliseconds timeout) { store_->setTimeout(timeout); }
  void Set(const std::string& key, const std::vector<uint8_t>& value) {
    Reach([&] { store_->set(key, value); });
  }
  // Waits until it is set.
  std::vector<uint8_t> Get(const std::string& key) {
    std::vector<uint8_t> value;
    Reach([&] { value = store_->get(key); });
    return value;
  }
  void Delete(const std::string& key) {
    Reach([&] { store_->deleteKey(key); });
  }

 private:
  template <typename Call>
  void Reach(const Call& call) const {
    try {
      call();
    } catch (const c10::Error& error) {
      std::string reason = error.what_without_backtrace();
      reason.resize(std::min(reason.find('\n'), reason.size()));
      throw Error(ErrorCode::kIo,
                  "process " + std::to_string(process_) + " of several cannot reach " +
                      (process_ == 0 ? "the others" : "process 0") +
                      ", or waits in vain: " + reason,
                  "see what the others ended with; the same command again goes on from the last "
                  "checkpoint");
    }
  }

  const int process_;
  c10::intrusive_ptr<c10d::TCPStore> store_;
};

// NCCL by its C interface, which is stable: the library that LibTorch's CUDA brings, opened when it
// is needed.
class TrainGroup::Nccl {
 public:
  static constexpr size_t kIdBytes = 128;
  struct Id {
    char bytes[kIdBytes];
  };

  Nccl() {
    library_ = dlopen("libnccl.so.2", RTLD_NOW);
    if (library_ == nullptr) {
      throw Error(ErrorCode::kUnsupported, std::string("NCCL cannot be loaded: ") + dlerror(),
                  "install it beside LibTorch's CUDA library, or train on one GPU");
    }
    Find("ncclGetUniqueId", &get_id_);
    Find("ncclCommInitRank", &init_);
    Find("ncclAllReduce", &all_reduce_);
    Find("ncclCommDestroy", &destroy_);
    Find("ncclGetErrorString", &error_text_);
  }
  ~Nccl() {
    if (communicator_ != nullptr) destroy_(communicator_);
  }
  Nccl(const Nccl&) = delete;
  Nccl& operator=(const Nccl&) = delete;

  Id NewId() const {
    Id id = {};
    Check(get_id_(&id), "ncclGetUniqueId");
    return id;
  }
  void Begin(int processes, const Id& id, int process, c10::Device device) {
    const c10::impl::VirtualGuardImpl guard(device.type());
    guard.setDevice(device);
    Check(init_(&communicator_, processes, id, process), "ncclCommInitRank");
  }
  // In place, on the device's stream at hand.
  void AllReduce(const at::Tensor& tensor) const {
    constexpr int kFloat32 = 7, kFloat64 = 8, kSum = 0;
    const c10::impl::VirtualGuardImpl guard(tensor.device().type());
    const int type = tensor.scalar_type() == at::kDouble ? kFloat64 : kFloat32;
    Check(all_reduce_(tensor.data_ptr(), tensor.data_ptr(), static_cast<size_t>(tensor.numel()),
                      type, kSum, communicator_, guard.getStream(tensor.device()).native_handle()),
          "ncclAllReduce");
  }

 private:
  template <typename Function>
  void Find(const char* name, Function** function) {
    *function = reinterpret_cast<Function*>(dlsym(library_, name));
    if (*function != nullptr) return;
    throw Error(ErrorCode::kUnsupported, std::string("NCCL has no ") + name,
                "install another version of it");
  }
  void Check(int result, const char* what) const {
    if (result == 0) return;
    throw Error(ErrorCode::kIo, std::string(what) + " failed: " + error_text_(result),
                "set NCCL_DEBUG=WARN to hear more");
  }

  void* library_ = nullptr;  // stays open
  void* communicator_ = nullptr;
  int (*get_id_)(Id*) = nullptr;
  int (*init_)(void**, int, Id, int) = nullptr;
  int (*all_reduce_)(const void*, void*, size_t, int, int, void*, void*) = nullptr;
  int (*destroy_)(void*) = nullptr;
  const char* (*error_text_)(int) = nullptr;
};

TrainGroup::TrainGroup(int process, int processes, const std::string& meeting,
                       std::chrono::milliseconds meeting_time)
    : process_(process), processes_(processes) {
  if (process < 0 || process >= processes) {
    throw Error(
        ErrorCode::kInvalidArgument,
        "there is no process " + std::to_string(process) + " of " + std::to_string(processes),
        "they are counted from 0");
  }
  if (meeting.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "processes have no file to meet by",
                "name one that is not there yet");
  }
  store_ = std::make_unique<Store>(process, meeting, meeting_time);
  Wait();
  store_->SetTimeout(kWaitingTime);
}

TrainGroup::~TrainGroup() = default;

std::vector<std::vector<uint8_t>> TrainGroup::Exchange(std::vector<uint8_t> own) {
  const auto key = [](int64_t exchange, int process) {
    return std::to_string(exchange) + "/" + std::to_string(process);
  };
  const auto read_key = [&](int process) { return key(exchanges_, process) + "/read"; };
  // Whoever has come to the exchange after it has read all of this one.
  if (exchanges_ >= 2) store_->Delete(key(exchanges_ - 2, process_));
  store_->Set(key(exchanges_, process_), own);
  std::vector<std::vector<uint8_t>> all(static_cast<size_t>(processes_));
  for (int i = 0; i < processes_; ++i) {
    all[static_cast<size_t>(i)] = i == process_ ? std::move(own) : store_->Get(key(exchanges_, i));
  }
  // Process 0 may end at once, and its store with it: not before all have read.
  if (process_ != 0) store_->Set(read_key(process_), {1});
  for (int i = 1; process_ == 0 && i < processes_; ++i) {
    store_->Get(read_key(i));
    store_->Delete(read_key(i));
  }
  ++exchanges_;
  return all;
}

bool TrainGroup::AnyOf(bool flag) {
  for (const std::vector<uint8_t>& value : Exchange({static_cast<uint8_t>(flag)})) {
    if (!value.empty() && value[0] != 0) return true;
  }
  return false;
}

void TrainGroup::SumByStore(const at::Tensor& sum) {
  const auto bytes_of = [](const at::Tensor& tensor) {
    return static_cast<size_t>(tensor.numel()) * tensor.element_size();
  };
  const auto exchange = [&](const void* bytes, size_t size) {
    const auto* const first = static_cast<const uint8_t*>(bytes);
    return Exchange({first, first + size});
  };
  // Told first: else who has more to add would wait for what nobody sends.
  const uint64_t size = bytes_of(sum);
  for (const auto& other : exchange(&size, sizeof(size))) {
    if (other.size() == sizeof(size) && std::memcmp(other.data(), &size, sizeof(size)) == 0)
      continue;
    throw Error(ErrorCode::kInvalidArgument, "processes add up tensors of different sizes",
                "give all of them the same model and options");
  }
  const auto most = static_cast<int64_t>(kPieceBytes / sum.element_size());
  for (int64_t first = 0; first < sum.numel(); first += most) {
    const at::Tensor piece = sum.narrow(0, first, std::min(most, sum.numel() - first));
    const auto all = exchange(piece.data_ptr(), bytes_of(piece));
    at::Tensor other = at::empty_like(piece);
    piece.zero_();
    for (const std::vector<uint8_t>& values : all) {
      std::memcpy(other.data_ptr(), values.data(), bytes_of(piece));
      piece.add_(other);
    }
  }
}

void TrainGroup::Sum(const std::vector<at::Tensor>& tensors) {
  const at::NoGradGuard no_gradient;
  std::vector<at::Tensor> rows;
  for (const at::Tensor& tensor : tensors) rows.push_back(tensor.reshape({-1}));
  at::Tensor sum = at::cat(rows);
  if (sum.device().is_cpu()) {
    SumByStore(sum);
  } else {
    if (nccl_ == nullptr) {
      nccl_ = std::make_unique<Nccl>();
      Nccl::Id id = {};
      if (process_ == 0) id = nccl_->NewId();
      const auto all = Exchange({id.bytes, id.bytes + Nccl::kIdBytes});
      std::memcpy(id.bytes, all[0].data(), Nccl::kIdBytes);
      nccl_->Begin(processes_, id, process_, sum.device());
    }
    nccl_->AllReduce(sum);
  }
  int64_t first = 0;
  for (const at::Tensor& tensor : tensors) {
    tensor.copy_(sum.narrow(0, first, tensor.numel()).view(tensor.sizes()));
    first += tensor.numel();
  }
}

}  // namespace eidetic::model

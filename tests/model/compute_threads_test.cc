#include "model/compute_threads.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <thread>

#include "model/error.h"

namespace eidetic::model {
namespace {

// The variable as the environment has it again afterwards.
class WithThreadsWanted {
 public:
  explicit WithThreadsWanted(const char* wanted) {
    if (const char* before = std::getenv(kName)) before_ = before;
    wanted != nullptr ? ::setenv(kName, wanted, 1) : ::unsetenv(kName);
  }
  ~WithThreadsWanted() {
    before_.empty() ? ::unsetenv(kName) : ::setenv(kName, before_.c_str(), 1);
  }

 private:
  static constexpr const char* kName = "OMP_NUM_THREADS";
  std::string before_;
};

int Counted(const char* wanted, int threads = 0) {
  const WithThreadsWanted environment(wanted);
  return ComputeThreads(threads);
}

TEST(ComputeThreads, AreThoseAskedForElseOfTheEnvironmentElseOnePerCore) {
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  EXPECT_EQ(Counted(nullptr), cores);
  EXPECT_EQ(Counted("3"), 3);
  EXPECT_EQ(Counted("5,2"), 5);
  EXPECT_EQ(Counted("3", 7), 7);
  for (const char* wrong : {"", "0", "-2", "3x", "many", "1025", "99999999999999999999"}) {
    EXPECT_EQ(Counted(wrong), cores) << wrong;
  }
  EXPECT_THROW(ComputeThreads(-1), Error);
  EXPECT_THROW(ComputeThreads(1025), Error);
}

}  // namespace
}  // namespace eidetic::model

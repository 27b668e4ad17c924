// Processes that train together meet on this machine alone, and none waits in vain. Threads stand
// for processes here: each has a group of its own.
#include "model/train/train_group.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <thread>

#include "model/error.h"
#include "tests/temporary_folder.h"

namespace eidetic::model {
namespace {

using namespace std::chrono_literals;

bool Connects(const char* host, uint16_t port) {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  ::inet_pton(AF_INET, host, &address.sin_addr);
  const int failed = ::connect(socket, reinterpret_cast<sockaddr*>(&address), sizeof(address));
  ::close(socket);
  return failed == 0;
}

// The error of what must fail.
Error Failure(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error";
  return {ErrorCode::kUnsupported, ""};
}

class TrainGroupTest : public ::testing::Test {
 protected:
  // `work` of two processes that have met. The first ends while the second still may be at it.
  void Together(const std::function<void(TrainGroup*)>& work) const {
    std::jthread other([&] {
      TrainGroup group(1, 2, meeting_);
      work(&group);
    });
    TrainGroup group(0, 2, meeting_);
    work(&group);
  }

  const tests::TemporaryFolder folder_;
  const std::string meeting_ = folder_ / "meeting";
};

TEST_F(TrainGroupTest, ProcessesAddUpToTheSameBits) {
  std::vector<at::Tensor> sums(2);
  Together([&](TrainGroup* group) {
    const at::Tensor own = at::tensor({0.1F, static_cast<float>(group->process())});
    group->Sum({own});
    sums[static_cast<size_t>(group->process())] = own;
    EXPECT_TRUE(group->AnyOf(group->process() == 1));
    EXPECT_FALSE(group->AnyOf(false));
  });
  for (const at::Tensor& sum : sums) {
    EXPECT_EQ(sum[0].item<float>(), 0.1F + 0.1F);
    EXPECT_EQ(sum[1].item<float>(), 1);
  }
}

// Through the store they go in pieces of a MiB, of which a tensor may end anywhere.
TEST_F(TrainGroupTest, TheyAddUpMoreThanAStoreTakesAtOnce) {
  constexpr int64_t kPiece = (int64_t{1} << 20) / 4;
  for (const std::vector<int64_t>& sizes :
       {std::vector<int64_t>{24 * kPiece}, {kPiece - 1, 2, 3 * kPiece}, {kPiece}, {1, kPiece}}) {
    std::filesystem::remove(meeting_);
    Together([&](TrainGroup* group) {
      std::vector<at::Tensor> own;
      for (const int64_t size : sizes) {
        own.push_back(at::arange(size, at::kFloat).mul_(group->process() == 0 ? 1 : 0.1F));
      }
      group->Sum(own);
      for (size_t i = 0; i < sizes.size(); ++i) {
        const at::Tensor all = at::arange(sizes[i], at::kFloat);
        EXPECT_TRUE(at::equal(own[i], all.add(all.mul(0.1F)))) << sizes[i];
      }
    });
  }
}

TEST_F(TrainGroupTest, TensorsOfOtherSizesAreAnErrorOfBoth) {
  Together([&](TrainGroup* group) {
    const int64_t size = (int64_t{1} << 20) * (1 + group->process());
    EXPECT_EQ(Failure([&] { group->Sum({at::zeros({size})}); }).code(),
              ErrorCode::kInvalidArgument);
  });
}

TEST_F(TrainGroupTest, NoOtherMachineReachesThem) {
  Together([&](TrainGroup* group) {
    uint16_t port = 0;
    ASSERT_TRUE(std::ifstream(meeting_) >> port);
    EXPECT_TRUE(Connects("127.0.0.1", port));
    // Of this machine too, but not the address that is listened on: as any of a network.
    EXPECT_FALSE(Connects("127.0.0.2", port));
    group->Wait();
  });
}

TEST_F(TrainGroupTest, WhoeverDoesNotComeIsNotWaitedForLonger) {
  for (const int process : {0, 1}) {
    const auto begin = std::chrono::steady_clock::now();
    const Error error = Failure(
        [&] { TrainGroup(process, 2, folder_ / ("meeting-" + std::to_string(process)), 200ms); });
    EXPECT_EQ(error.code(), ErrorCode::kIo) << error.what();
    EXPECT_FALSE(error.remedy().empty());
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 30s);
  }
  // Nor one that came, and went before the other did.
  std::ofstream(meeting_) << "1\n";  // where nobody listens
  EXPECT_EQ(Failure([&] { TrainGroup(1, 2, meeting_, 200ms); }).code(), ErrorCode::kIo);
}

TEST_F(TrainGroupTest, OneThatIsGoneIsAnErrorOfTheOthers) {
  std::optional<Error> error;
  {
    std::jthread other([&] {
      TrainGroup group(1, 2, meeting_);
      error = Failure([&] { group.Wait(); });
    });
    const TrainGroup group(0, 2, meeting_);
  }
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::kIo) << error->what();
  EXPECT_NE(std::string(error->what()).find("process 1 of several cannot reach process 0"),
            std::string::npos)
      << error->what();
  EXPECT_NE(error->remedy().find("the same command again"), std::string::npos);
}

TEST_F(TrainGroupTest, AProcessIsOneOfThose) {
  EXPECT_EQ(Failure([&] { TrainGroup(2, 2, meeting_); }).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(Failure([&] { TrainGroup(0, 2, ""); }).code(), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace eidetic::model

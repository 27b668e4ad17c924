// The process that is killed: crash_writer PATH SEED. One line on the standard output per
// acknowledgement.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "tests/crash/crash_workload.h"

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  eidetic::memory::testing::Workload workload;
  workload.seed = std::strtoull(argv[2], nullptr, 10);
  const auto status =
      eidetic::memory::testing::RunWorkload(argv[1], workload, [](const std::string& acknowledged) {
        const std::string line = acknowledged + "\n";
        // Past any buffer of ours: what was written is in the pipe when the kill comes.
        if (write(STDOUT_FILENO, line.data(), line.size()) < 0) std::_Exit(3);
      });
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", status.message().c_str());
  return 1;
}

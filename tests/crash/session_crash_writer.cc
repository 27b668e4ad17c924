// The process that is killed: session_crash_writer PATH SEED BEGIN END. Does the steps BEGIN..END
// of the script and writes the number of each on the standard output when it is acknowledged.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "tests/crash/session_script.h"

namespace eidetic::memory {

Status Run(const std::string& path, uint64_t seed, uint64_t begin, uint64_t end) {
  ArchiveOptions options;
  options.path = path;
  options.create = true;
  options.pool_bytes = 1u << 20;
  EID_ASSIGN_OR_RETURN(const auto archive, Archive::Open(options));
  testing::Sessions sessions = testing::SessionsAfter(begin, seed);
  for (uint64_t number = begin; number < end; ++number) {
    const testing::Step step = testing::StepAfter(sessions, number, seed);
    EID_RETURN_IF_ERROR(testing::Apply(step, sessions, archive.get()));
    testing::Apply(step, &sessions);
    const std::string line = std::to_string(number) + "\n";
    // Past any buffer of ours: what was written is in the pipe when the kill comes.
    if (write(STDOUT_FILENO, line.data(), line.size()) < 0) std::_Exit(3);
  }
  return {};
}

}  // namespace eidetic::memory

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  const auto number = [&](int i) { return std::strtoull(argv[i], nullptr, 10); };
  const auto status = eidetic::memory::Run(argv[1], number(2), number(3), number(4));
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", status.message().c_str());
  return 1;
}

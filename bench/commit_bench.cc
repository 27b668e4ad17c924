// What committing a turn costs: a session of a real model reads prose, turn after turn.
//
//   commit_bench MODEL.gguf TEXT FOLDER [TURNS [TOKENS]]     default: 100 turns of 310 tokens
//
// FOLDER gets an archive and must not exist; it is removed afterwards. Before anything is told, the
// session is opened again and has the logits that it had. Times are of turns whose window is full
// (by the clock, and the processor time of the committing thread, which other programs do not
// stretch); bytes are told by the kinds of record (docs/formats/archive-v1.md).
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "memory/archive.h"
#include "memory/record_store.h"
#include "sdk/engine.h"
#include "sdk/session.h"

namespace eidetic::sdk {
namespace {

constexpr uint64_t kWindow = 1024;

void Require(const memory::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "commit_bench: %s\n", status.message().c_str());
  std::exit(1);
}

template <typename T>
T Must(memory::Result<T> result) {
  Require(result.status());
  return std::move(result).value();
}

double ThreadSeconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Pages that the thread was the first to touch since they were its program's.
int64_t ThreadFaults() {
  rusage usage{};
  getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_minflt;
}

void Tell(const char* what, std::vector<double> seconds) {
  std::sort(seconds.begin(), seconds.end());
  std::printf("%-28s median %6.1f ms, nine of ten below %6.1f ms, most %6.1f ms\n", what,
              1e3 * seconds[seconds.size() / 2], 1e3 * seconds[seconds.size() * 9 / 10],
              1e3 * seconds.back());
}

// What lies in the archive, by family and, in `sessions`, by the first letter of the key.
void TellRecords(const std::string& folder, size_t turns) {
  memory::RocksOptions options;
  options.path = folder;
  options.read_only = true;
  const auto records = Must(memory::OpenRocksRecordStore(options));
  std::map<std::string, std::pair<uint64_t, uint64_t>> kinds;
  for (int family = 0; family < memory::kFamilyCount; ++family) {
    const auto which = static_cast<memory::Family>(family);
    Require(records->Scan(which, "", "", [&](std::string_view key, std::string_view value) {
      std::string kind = memory::FamilyName(which);
      if (which == memory::Family::kSessions) kind += std::string(" ") + key[0];
      ++kinds[kind].first;
      kinds[kind].second += key.size() + value.size();
      return memory::Status();
    }));
  }
  for (const auto& [kind, sum] : kinds) {
    std::printf("%-28s %7llu records, %10llu bytes, %8.0f a turn\n", kind.c_str(),
                static_cast<unsigned long long>(sum.first),
                static_cast<unsigned long long>(sum.second),
                static_cast<double>(sum.second) / static_cast<double>(turns));
  }
}

int Run(const std::string& model, const std::string& text_path, const std::string& folder,
        size_t turns, size_t turn_tokens) {
  EngineOptions engine_options;
  engine_options.model_path = model;
  const auto engine = Must(Engine::Create(engine_options));
  std::ifstream file(text_path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const std::vector<int32_t> tokens = engine->tokenizer().Encode(text, /*special=*/false);
  if (tokens.size() < turns * turn_tokens || turns * turn_tokens < 2 * kWindow) {
    std::fprintf(stderr, "commit_bench: the text has %zu tokens, must have %zu, at least %zu\n",
                 tokens.size(), turns * turn_tokens, static_cast<size_t>(2 * kWindow));
    return 1;
  }
  memory::ArchiveOptions archive_options;
  archive_options.path = folder;
  archive_options.create = true;
  std::shared_ptr<memory::Archive> archive = Must(memory::Archive::Open(archive_options));
  SessionOptions options;
  options.name = "talk";
  auto session = Must(Session::Create(engine, options, archive));
  std::vector<double> seconds, processor;
  uint64_t bytes = 0;
  int64_t faults = 0;
  for (size_t turn = 0; turn < turns; ++turn) {
    const auto begin = tokens.begin() + static_cast<std::ptrdiff_t>(turn * turn_tokens);
    Require(session->Append({begin, begin + static_cast<std::ptrdiff_t>(turn_tokens)}, false, {}));
    const double before = ThreadSeconds();
    const int64_t faults_before = ThreadFaults();
    const CommittedTurn committed = Must(session->CommitTurn(""));
    if (turn * turn_tokens <= kWindow) continue;
    processor.push_back(ThreadSeconds() - before);
    faults += ThreadFaults() - faults_before;
    seconds.push_back(committed.seconds);
    bytes += committed.bytes;
  }
  const std::vector<float> logits = session->logits();
  session.reset();
  session = Must(Session::Open(engine, archive, "talk"));
  if (session->logits() != logits) {
    std::fprintf(stderr, "commit_bench: opened again, the session has other logits\n");
    return 1;
  }
  session.reset();
  archive.reset();
  std::printf("%zu turns of %zu tokens, %zu of them measured\n", turns, turn_tokens,
              seconds.size());
  Tell("by the clock", seconds);
  Tell("processor time", processor);
  std::printf("%-28s %.0f bytes a turn\n", "written",
              static_cast<double>(bytes) / static_cast<double>(seconds.size()));
  std::printf("%-28s %.0f a turn\n", "pages touched first",
              static_cast<double>(faults) / static_cast<double>(seconds.size()));
  TellRecords(folder, turns);
  return 0;
}

}  // namespace
}  // namespace eidetic::sdk

int main(int count, char** arguments) {
  if (count < 4 || count > 6) {
    std::fprintf(stderr, "commit_bench MODEL.gguf TEXT FOLDER [TURNS [TOKENS]]\n");
    return 2;
  }
  if (std::filesystem::exists(arguments[3])) {
    std::fprintf(stderr, "commit_bench: %s is there already\n", arguments[3]);
    return 2;
  }
  const size_t turns = count > 4 ? std::strtoul(arguments[4], nullptr, 10) : 100;
  const size_t tokens = count > 5 ? std::strtoul(arguments[5], nullptr, 10) : 310;
  const int code = eidetic::sdk::Run(arguments[1], arguments[2], arguments[3], turns, tokens);
  std::error_code ignored;
  std::filesystem::remove_all(arguments[3], ignored);
  return code;
}

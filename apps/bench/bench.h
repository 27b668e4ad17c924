// What memory costs: ratios measured within one run, so that they mean something on any machine.
#ifndef EIDETIC_APPS_BENCH_BENCH_H_
#define EIDETIC_APPS_BENCH_BENCH_H_

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "eidetic/eidetic.hpp"

namespace eidetic::bench {

struct BenchOptions {
  std::string text;                    // running text, repeated when it is too short
  std::uint64_t ingest_tokens = 8192;  // of the ingest ratio
  std::uint64_t small_archive = 10'000, large_archive = 100'000;  // tokens
  int repeats = 3;                     // of the ingest ratio and of opening
  int decode_rounds = 8;               // interleaved between the archives
  int decode_tokens = 16;              // per round
  std::uint64_t prompt_tokens = 1280;  // before decoding, so that the window is full
  SessionOptions session;
  std::string work_dir;  // archives are kept here between runs; empty: a temporary folder
};

// What the stage at hand is doing, for people; returns false to stop.
using BenchProgress = std::function<bool(const std::string& stage, const eid_progress& progress)>;

// {"ingest":{..},"decode":{..},"open":{..},"memory":{..},"disk":{..}}: docs/cli.md lists the
// fields.
nlohmann::json run_bench(const Engine& engine, const BenchOptions& options,
                         const BenchProgress& progress);

double median(std::vector<double> values);

}  // namespace eidetic::bench

#endif  // EIDETIC_APPS_BENCH_BENCH_H_

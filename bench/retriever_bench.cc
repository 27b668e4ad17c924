// What choosing the span costs: an archive of the hybrid's shape (10 layers, 3 kv heads of 64, 9
// query heads, int8), random keys, one query token (decode) and thirty (a question).
//
//   retriever_bench FOLDER [TOKENS...]     default: 10000 100000
//
// FOLDER gets a database (4.5 KB a token) and is removed afterwards. A round asks every layer once,
// as a generated token does; the layers' indexes together are larger than the last cache from
// 100,000 tokens on, so nothing stays warm that would not in use. A decoding model reads its
// weights between two choices, which empties the caches: the rows "cold" read 54 MB before each
// layer's choice (smol-hybrid's share) and leave that time out. The anchor is this machine's speed
// of reading memory, taken in the same run: a search cannot read its vectors faster.
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "kernels/instruction_set.h"
#include "memory/block_store.h"
#include "memory/representative_index.h"
#include "memory/retriever.h"
#include "tests/memory/slow_retrieval.h"

namespace eidetic::memory {
namespace {

constexpr int kLayers = 10;
constexpr int kHeads = 9;
// Rounds of a measurement: at least so many, and more while they take less than a second.
constexpr int kRounds = 15;
constexpr int kMostRounds = 400;

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void Require(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "retriever_bench: %s\n", status.message().c_str());
  std::exit(1);
}

// Seconds of computing by all threads of the process: what other programs on the machine do not
// stretch (but spinning at a join counts).
double CpuSeconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

struct Times {
  double median = 0;
  double best = 0;
  double cpu = 0;  // the least of all rounds
};

// Milliseconds of `work`, over rounds.
Times Measure(const std::function<void()>& work) {
  std::vector<double> times, cpu_times;
  const double started = Seconds();
  for (int round = 0; round < kRounds || (round < kMostRounds && Seconds() - started < 1);
       ++round) {
    const double begin = Seconds(), cpu_begin = CpuSeconds();
    work();
    cpu_times.push_back((CpuSeconds() - cpu_begin) * 1e3);
    times.push_back((Seconds() - begin) * 1e3);
  }
  std::sort(times.begin(), times.end());
  return {times[times.size() / 2], times[0], *std::min_element(cpu_times.begin(), cpu_times.end())};
}

Layout BenchLayout() {
  Layout layout;
  layout.fingerprint = std::string(64, 'f');
  for (int layer = 0; layer < kLayers; ++layer) layout.layers.push_back(3 * layer + 2);
  layout.kv_heads = 3;
  layout.head_dim = 64;
  return layout;
}

// Random numbers are dear; rows are cut from one long random run at random places.
class RandomRows {
 public:
  explicit RandomRows(uint32_t seed) : random_(seed), numbers_(1 << 20) {
    std::normal_distribution<float> normal;
    for (float& number : numbers_) number = normal(random_);
  }
  void Fill(std::vector<float>* rows) {
    for (size_t at = 0; at < rows->size(); at += 64) {
      const size_t from = random_() % (numbers_.size() - 64);
      std::copy_n(numbers_.begin() + static_cast<std::ptrdiff_t>(from),
                  std::min<size_t>(64, rows->size() - at),
                  rows->begin() + static_cast<std::ptrdiff_t>(at));
    }
  }

 private:
  std::mt19937 random_;
  std::vector<float> numbers_;
};

// Writes one document's lineage; remembers what the slow formulas need of the first layer.
std::vector<KnownBlock> Write(BlockStore* store, const Layout& layout, int tokens, RandomRows* rows,
                              LineageId* lineage) {
  auto writer = store->NewLineage(layout, "document/1");
  Require(writer.status());
  std::vector<KnownBlock> known;
  std::vector<std::vector<float>> keys(kLayers), values(kLayers);
  for (int position = 0; position < tokens; position += layout.block_tokens) {
    BlockHeader header;
    header.position = static_cast<uint64_t>(position);
    const int count = std::min(layout.block_tokens, tokens - position);
    header.tokens.assign(static_cast<size_t>(count), 1);
    std::vector<const float*> key_rows, value_rows;
    for (int layer = 0; layer < kLayers; ++layer) {
      for (std::vector<float>* part : {&keys[layer], &values[layer]}) {
        part->resize(static_cast<size_t>(count * layout.RowWidth()));
        rows->Fill(part);
      }
      key_rows.push_back(keys[layer].data());
      value_rows.push_back(values[layer].data());
    }
    Result<Block> block = EncodeBlock(layout, header, key_rows.data(), value_rows.data());
    Require(block.status());
    const size_t of_layer = block->representatives.size() / kLayers;
    known.push_back({header,
                     {block->keys[0]},
                     {block->representatives.begin(),
                      block->representatives.begin() + static_cast<std::ptrdiff_t>(of_layer)}});
    known.back().header.lineage = (*writer)->lineage();
    Require((*writer)->Append(std::move(block).value()));
  }
  Require((*writer)->Commit());
  *lineage = (*writer)->lineage();
  return known;
}

// The first layer's choice against the formulas in double precision; false when they differ.
bool ChoiceIsRight(const RetrievalSource& source, const std::vector<KnownBlock>& known,
                   const RetrievalOptions& options, const LayerQueries& queries) {
  Layout first_layer = source.index->layout();
  first_layer.layers.resize(1);
  const auto wanted = SlowChoice({{&known, &first_layer}}, options, queries);
  std::vector<ChosenBlock> chosen;
  Require(ChooseBlocks({source}, options, queries, &chosen));
  if (chosen.size() != wanted.size()) return false;
  auto next = wanted.begin();
  for (const ChosenBlock& one : chosen) {
    if (std::get<2>(next->first) != one.block.position) return false;
    if (std::abs(next->second - one.mass) > 1e-4) return false;
    ++next;
  }
  return true;
}

// GB/s of reading a buffer far larger than the caches, on all cores.
double ReadingSpeed(int threads) {
  std::vector<uint64_t> buffer(64u << 20, 1);  // 512 MiB
  const int64_t count = static_cast<int64_t>(buffer.size());
  uint64_t sum = 0;
  const Times times = Measure([&] {
#pragma omp parallel for reduction(+ : sum) num_threads(threads)
    for (int64_t i = 0; i < count; ++i) sum += buffer[static_cast<size_t>(i)];
  });
  if (sum == 0) std::exit(1);
  return static_cast<double>(buffer.size()) * 8 / times.best / 1e6;
}

// As Measure, for `work(layer)` of every layer; the caches are emptied before each.
Times MeasureCold(const std::function<void(int layer)>& work) {
  static std::vector<uint64_t> weights(54'000'000 / sizeof(uint64_t), 1);
  std::vector<double> times, cpu_times;
  const double started = Seconds();
  for (int round = 0; round < kRounds || (round < kMostRounds && Seconds() - started < 2);
       ++round) {
    double seconds = 0, cpu = 0;
    for (int layer = 0; layer < kLayers; ++layer) {
      uint64_t sum = 0;
      for (const uint64_t weight : weights) sum += weight;
      weights[0] = sum | 1;
      const double begin = Seconds(), cpu_begin = CpuSeconds();
      work(layer);
      cpu += CpuSeconds() - cpu_begin;
      seconds += Seconds() - begin;
    }
    cpu_times.push_back(cpu * 1e3);
    times.push_back(seconds * 1e3);
  }
  std::sort(times.begin(), times.end());
  return {times[times.size() / 2], times[0], *std::min_element(cpu_times.begin(), cpu_times.end())};
}

void Row(const char* what, int tokens, int queries, const Times& times) {
  std::printf("| %7d | %3d | %-36s | %8.3f | %8.3f | %8.3f |\n", tokens, queries, what,
              times.median, times.best, times.cpu);
  std::fflush(stdout);
}

struct Asked {
  std::vector<float> numbers;
  std::vector<LayerQueries> layers;
};

void TimeQueries(const RetrievalSource& source, const std::vector<KnownBlock>& known, int tokens,
                 int query_tokens, double reading_speed) {
  const Layout& layout = source.index->layout();
  RandomRows rows(99);
  Asked asked;
  asked.numbers.resize(static_cast<size_t>(query_tokens) * kHeads * 64);
  rows.Fill(&asked.numbers);
  for (const int layer : layout.layers) {
    asked.layers.push_back({layer, asked.numbers.data(), query_tokens, kHeads});
  }
  RetrievalOptions options;
  options.scale = 0.125f;
  RetrievalOptions candidates_only = options;
  candidates_only.candidates = 0;
  candidates_only.k = options.candidates;
  if (!ChoiceIsRight(source, known, options, asked.layers[0]) ||
      !ChoiceIsRight(source, known, candidates_only, asked.layers[0])) {
    std::fprintf(stderr, "retriever_bench: the choice differs from the formulas; not timed\n");
    std::exit(1);
  }

  const int per_head = query_tokens * kHeads / layout.kv_heads;
  std::vector<int64_t> ordinals(static_cast<size_t>(per_head) * 16);
  std::vector<float> scores(ordinals.size());
  const Times search = Measure([&] {
    for (int layer = 0; layer < kLayers; ++layer) {
      for (int head = 0; head < layout.kv_heads; ++head) {
        Require(source.index->Search(layer, head, asked.numbers.data(), per_head, 16,
                                     ordinals.data(), scores.data()));
      }
    }
  });
  Row("search, 10 layers x 3 kv heads", tokens, query_tokens, search);

  std::vector<ChosenBlock> chosen;
  const Times vote = Measure([&] {
    for (const LayerQueries& queries : asked.layers) {
      Require(ChooseBlocks({source}, candidates_only, queries, &chosen));
    }
  });
  Row("stage 1 (search and votes)", tokens, query_tokens, vote);

  std::vector<std::vector<PayloadKey>> keys;
  for (const LayerQueries& queries : asked.layers) {
    Require(ChooseBlocks({source}, candidates_only, queries, &chosen));
    keys.emplace_back();
    for (const ChosenBlock& one : chosen) {
      keys.back().push_back({one.block.lineage, queries.layer, Part::kKeys, one.block.position});
    }
  }
  std::vector<PayloadPtr> payloads;
  const Times read = Measure([&] {
    for (const std::vector<PayloadKey>& layer : keys) {
      Require(source.store->ReadPayloads(layer, &payloads));
    }
  });
  Row("candidates' keys from the pool", tokens, query_tokens, read);

  const Times whole = Measure([&] {
    for (const LayerQueries& queries : asked.layers) {
      Require(ChooseBlocks({source}, options, queries, &chosen));
    }
  });
  Row("the whole choice, 10 layers", tokens, query_tokens, whole);
  Row("search, cold", tokens, query_tokens, MeasureCold([&](int layer) {
        for (int head = 0; head < layout.kv_heads; ++head) {
          Require(source.index->Search(layer, head, asked.numbers.data(), per_head, 16,
                                       ordinals.data(), scores.data()));
        }
      }));
  Row("candidates' keys from the pool, cold", tokens, query_tokens, MeasureCold([&](int layer) {
        Require(source.store->ReadPayloads(keys[static_cast<size_t>(layer)], &payloads));
      }));
  Row("the whole choice, cold", tokens, query_tokens, MeasureCold([&](int layer) {
        Require(ChooseBlocks({source}, options, asked.layers[static_cast<size_t>(layer)], &chosen));
      }));
  const double index_bytes = static_cast<double>(source.index->bytes());
  std::printf(
      "  %zu candidates in the last layer; index %.1f MB; search at %.1f GB/s, %.2f of "
      "reading memory (%.1f GB/s); %.3f ms a layer\n",
      keys.back().size(), index_bytes / 1e6, index_bytes / search.best / 1e6,
      index_bytes / search.best / 1e6 / reading_speed, reading_speed, whole.median / kLayers);
}

void Bench(const std::string& folder, int tokens, double reading_speed) {
  const Layout layout = BenchLayout();
  const std::string path = folder + "/retriever_bench_database";
  std::filesystem::remove_all(path);
  RandomRows rows(7);
  LineageId lineage = 0;
  std::vector<KnownBlock> known;
  {
    auto records = OpenRocksRecordStore({.path = path, .create = true});
    Require(records.status());
    auto store = BlockStore::Open(std::move(records).value(), 16u << 20, false);
    Require(store.status());
    known = Write(store->get(), layout, tokens, &rows, &lineage);
  }
  const double opening = Seconds();
  auto records = OpenRocksRecordStore({.path = path});
  Require(records.status());
  auto store = BlockStore::Open(std::move(records).value(), 384u << 20, false);
  Require(store.status());
  const double opened = Seconds(), cpu_opened = CpuSeconds();
  RepresentativeIndex index(layout, IndexKind::kExact, 0);
  Require(index.AddLineage(**store, lineage));
  const double loaded = Seconds(), cpu_loaded = CpuSeconds();
  RandomRows warm(123);
  std::vector<float> query(kHeads * 64);
  warm.Fill(&query);
  RetrievalOptions options;
  options.scale = 0.125f;
  std::vector<ChosenBlock> chosen;
  for (const int layer : layout.layers) {
    Require(
        ChooseBlocks({{&index, store->get()}}, options, {layer, query.data(), 1, kHeads}, &chosen));
  }
  std::printf(
      "%d tokens: open %.1f ms; index loaded in %.1f ms (cpu %.1f); first choice of 10 "
      "layers, keys from disk, %.1f ms (cpu %.1f)\n",
      tokens, (opened - opening) * 1e3, (loaded - opened) * 1e3, (cpu_loaded - cpu_opened) * 1e3,
      (Seconds() - loaded) * 1e3, (CpuSeconds() - cpu_loaded) * 1e3);
  for (const int query_tokens : {1, 30}) {
    TimeQueries({&index, store->get()}, known, tokens, query_tokens, reading_speed);
  }
  store->reset();
  std::filesystem::remove_all(path);
}

}  // namespace
}  // namespace eidetic::memory

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: retriever_bench FOLDER [TOKENS...]\n");
    return 2;
  }
  std::vector<int> sizes;
  for (int i = 2; i < argc; ++i) sizes.push_back(std::atoi(argv[i]));
  if (sizes.empty()) sizes = {10000, 100000};
  const int threads = omp_get_max_threads();
  const double speed = eidetic::memory::ReadingSpeed(threads);
  std::printf("%d threads (OMP_NUM_THREADS), %s\n", threads,
              eidetic::kernels::InstructionSetName(eidetic::kernels::BestInstructionSet()));
  std::printf(
      "| tokens  | q   | stage, ms for all 10 layers          | median   | best     | cpu      "
      "|\n");
  std::printf("|---|---|---|---|---|---|\n");
  for (const int tokens : sizes) eidetic::memory::Bench(argv[1], tokens, speed);
  return 0;
}

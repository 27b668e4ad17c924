#include "apps/bench/bench.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <optional>

#include "apps/bench/process_memory.h"
#include "apps/common/ingest_settings.h"
#include "apps/common/temporary_directory.h"
#include "apps/eval/haystack.h"

namespace eidetic::bench {
namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::json;

constexpr const char* kCollection = "bench";
// Memory must be flat after this much text: 100 KB, about 4.3 bytes a token.
constexpr std::uint64_t kSettledTokens = 23'000;
constexpr std::size_t kCurvePoints = 50;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

std::uint64_t folder_bytes(const std::string& path) {
  std::uint64_t bytes = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
    if (entry.is_regular_file()) bytes += entry.file_size();
  }
  return bytes;
}

// About `tokens` tokens of running text, from the beginning again when it ends.
struct Text {
  std::string bytes;
  std::vector<std::int32_t> tokens;
};
Text running_text(const eval::Corpus& corpus, std::uint64_t tokens) {
  Text text;
  const auto& pieces = corpus.pieces();
  for (std::size_t i = 0; text.tokens.size() < tokens; i = (i + 1) % pieces.size()) {
    text.bytes += pieces[i].text;
    text.tokens.insert(text.tokens.end(), pieces[i].tokens.begin(), pieces[i].tokens.end());
  }
  return text;
}

json spread(const std::vector<double>& values) {
  return {{"median", median(values)},
          {"least", *std::min_element(values.begin(), values.end())},
          {"most", *std::max_element(values.begin(), values.end())},
          {"all", values}};
}

SessionOptions without_memory(SessionOptions options) {
  options.mode = EID_ATTENTION_WINDOW;
  options.forget_own_past = true;
  return options;
}

class Bench {
 public:
  Bench(const Engine& engine, const BenchOptions& options, const BenchProgress& progress)
      : engine_(engine), options_(options), progress_(progress), corpus_(engine, {options.text}) {
    folder_ = options.work_dir;
    if (folder_.empty()) folder_ = temporary_.emplace("").path();
    std::filesystem::create_directories(folder_);
  }

  json run() {
    json report;
    report["ingest"] = ingest();
    report["memory"] = fill_archives();
    report["disk"] = disk_;
    report["open"] = open_large();
    report["decode"] = decode();
    return report;
  }

 private:
  Progress stage(const std::string& name) {
    return [this, name](const eid_progress& p) { return !progress_ || progress_(name, p); };
  }

  IngestOptions ingest_options(const Text& text, const std::string& source) const {
    return apps::ingest_as(options_.session, kCollection, source, text.bytes);
  }

  double read_plainly(const Text& text, const std::string& name) {
    Session session(engine_, without_memory(options_.session));
    const auto begin = Clock::now();
    session.append(text.tokens, {.use_span = false}, stage(name));
    return static_cast<double>(text.tokens.size()) / seconds_since(begin);
  }

  double read_into_archive(const Text& text, const std::string& name) {
    const apps::TemporaryDirectory directory(folder_);
    Archive archive({.path = directory / "archive", .create = true});
    const auto begin = Clock::now();
    const eid_ingest_result result =
        archive.ingest(engine_, ingest_options(text, "text"), stage(name));
    return static_cast<double>(result.tokens) / seconds_since(begin);
  }

  // (a) The same text through the same layers, with and without storing and indexing.
  json ingest() {
    const Text text = running_text(corpus_, options_.ingest_tokens);
    read_plainly(running_text(corpus_, std::min<std::uint64_t>(1024, options_.ingest_tokens)),
                 "warm-up");
    std::vector<double> plain, stored, ratios;
    for (int i = 0; i < options_.repeats; ++i) {
      const std::string round = std::to_string(i + 1) + "/" + std::to_string(options_.repeats);
      plain.push_back(read_plainly(text, "reading without memory " + round));
      stored.push_back(read_into_archive(text, "ingest " + round));
      ratios.push_back(stored.back() / plain.back());
    }
    return {{"tokens", text.tokens.size()},
            {"repeats", options_.repeats},
            {"plain_tokens_per_second", spread(plain)},
            {"ingest_tokens_per_second", spread(stored)},
            {"ratio", median(ratios)},
            {"ratios", ratios}};
  }

  std::string archive_path(std::uint64_t tokens) const {
    return folder_ + "/archive-" + std::to_string(tokens);
  }

  // (d) and (e): memory while the large archive is filled, bytes on disk after it. An archive that
  // an earlier run left in the work directory is not read again, and gives no memory figures.
  json fill_archives() {
    fill(options_.small_archive, nullptr);
    const std::uint64_t before = anonymous_bytes();
    MemorySampler sampler;
    const eid_ingest_result result = fill(options_.large_archive, &sampler);
    const auto samples = sampler.stop();
    measure_disk(result);
    if (result.tokens_read == 0) return {{"measured", false}};

    const auto weights = json::parse(engine_.info()).value("weight_bytes", std::uint64_t{0});
    std::uint64_t peak = 0, settled_peak = 0, late_peak = 0;
    json curve = json::array();
    const std::size_t step = std::max<std::size_t>(1, samples.size() / kCurvePoints);
    for (std::size_t i = 0; i < samples.size(); ++i) {
      peak = std::max(peak, samples[i].bytes);
      auto& part = samples[i].done <= kSettledTokens ? settled_peak : late_peak;
      part = std::max(part, samples[i].bytes);
      if (i % step == 0) curve.push_back({samples[i].done, samples[i].bytes});
    }
    json report = {{"measured", true},
                   {"tokens", result.tokens},
                   {"weight_bytes", weights},
                   {"before_bytes", before},
                   {"peak_bytes", peak},
                   {"peak_over_weights", static_cast<std::int64_t>(peak - weights)},
                   {"settled_tokens", kSettledTokens},
                   {"growth_after_settled", nullptr},
                   {"curve", curve}};
    if (late_peak > 0) {
      report["growth_after_settled"] =
          static_cast<std::int64_t>(late_peak) - static_cast<std::int64_t>(settled_peak);
    }
    return report;
  }

  eid_ingest_result fill(std::uint64_t tokens, MemorySampler* sampler) {
    Archive archive({.path = archive_path(tokens), .create = true});
    const Text text = running_text(corpus_, tokens);
    const Progress show = stage("filling an archive of " + std::to_string(tokens) + " tokens");
    return archive.ingest(engine_, ingest_options(text, "text"), [&](const eid_progress& p) {
      if (sampler) sampler->set_done(p.done);
      return show(p);
    });
  }

  void measure_disk(const eid_ingest_result& result) {
    const std::uint64_t bytes = folder_bytes(archive_path(options_.large_archive));
    disk_ = {{"tokens", result.tokens},
             {"bytes", bytes},
             {"bytes_per_token", static_cast<double>(bytes) / static_cast<double>(result.tokens)}};
  }

  // (c) The large archive, opened to read and attached to a fresh session.
  json open_large() {
    std::vector<double> open, attach, both;
    for (int i = 0; i < std::max(3, options_.repeats); ++i) {
      const auto begin = Clock::now();
      const Archive archive({.path = archive_path(options_.large_archive), .read_only = true});
      open.push_back(seconds_since(begin));
      Session session(engine_, options_.session);
      const auto attaching = Clock::now();
      session.attach(archive, kCollection);
      attach.push_back(seconds_since(attaching));
      both.push_back(open.back() + attach.back());
    }
    return {{"tokens", options_.large_archive},
            {"open_seconds", spread(open)},
            {"attach_seconds", spread(attach)},
            {"open_and_attach_seconds", spread(both)}};
  }

  Session decoding_session(std::uint64_t archive_tokens, std::vector<Archive>& archives) {
    SessionOptions options = options_.session;
    // Only the archive is searched, so that the three sessions differ in nothing else.
    options.forget_own_past = true;
    if (archive_tokens == 0) options.mode = EID_ATTENTION_WINDOW;
    Session session(engine_, options);
    if (archive_tokens > 0) {
      archives.emplace_back(ArchiveOptions{archive_path(archive_tokens), false, true});
      session.attach(archives.back(), kCollection);
    }
    const Text prompt = running_text(corpus_, options_.prompt_tokens);
    session.append(prompt.tokens, {.use_span = false}, stage("prompt"));
    return session;
  }

  double decode_round(Session& session, int round) {
    GenerateOptions generate;
    // The first token of a round is the prompt's: the rest is decoding.
    generate.max_tokens = options_.decode_tokens + 1;
    generate.temperature = 1;
    generate.seed = static_cast<std::uint64_t>(round) + 1;
    const Answer answer = session.generate(generate);
    if (answer.tokens < 2) return 0;
    return static_cast<double>(answer.tokens - 1) / (answer.seconds - answer.first_token_seconds);
  }

  // (b) Decoding with the window full: no memory, the small archive, the large one, taking turns.
  json decode() {
    const std::vector<std::uint64_t> sizes = {0, options_.small_archive, options_.large_archive};
    std::vector<Archive> archives;
    std::vector<Session> sessions;
    for (const std::uint64_t size : sizes) sessions.push_back(decoding_session(size, archives));
    std::vector<std::vector<double>> rates(sizes.size());
    for (int round = 0; round <= options_.decode_rounds; ++round) {
      for (std::size_t i = 0; i < sizes.size(); ++i) {
        const double rate = decode_round(sessions[i], round);
        // Round 0 warms up caches; a round that ended at once has no rate.
        if (round > 0 && rate > 0) rates[i].push_back(rate);
        eid_progress p{};
        p.stage = "decoding";
        p.done = static_cast<std::uint64_t>(round);
        p.total = static_cast<std::uint64_t>(options_.decode_rounds);
        if (!stage("decoding, round " + std::to_string(round))(p)) {
          throw Error(EID_CANCELLED, "the bench was stopped while decoding");
        }
      }
    }
    for (const auto& rate : rates) {
      if (rate.empty()) {
        throw Error(EID_INTERNAL, "every decoding round ended before its second token",
                    "give another --text, or more --decode-rounds");
      }
    }
    const double none = median(rates[0]), small = median(rates[1]), large = median(rates[2]);
    return {{"prompt_tokens", options_.prompt_tokens},
            {"tokens_per_round", options_.decode_tokens},
            {"none_tokens_per_second", spread(rates[0])},
            {"small_archive_tokens", options_.small_archive},
            {"small_tokens_per_second", spread(rates[1])},
            {"large_archive_tokens", options_.large_archive},
            {"large_tokens_per_second", spread(rates[2])},
            {"small_to_none", small / none},
            {"large_to_none", large / none},
            {"large_to_small", large / small}};
  }

  const Engine& engine_;
  const BenchOptions& options_;
  const BenchProgress& progress_;
  const eval::Corpus corpus_;
  std::optional<apps::TemporaryDirectory> temporary_;
  std::string folder_;
  json disk_;
};

}  // namespace

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

json run_bench(const Engine& engine, const BenchOptions& options, const BenchProgress& progress) {
  return Bench(engine, options, progress).run();
}

}  // namespace eidetic::bench

#include "apps/eval/continuation.h"

#include <algorithm>
#include <numeric>

#include "apps/common/ingest_settings.h"
#include "apps/common/temporary_directory.h"

namespace eidetic::eval {
namespace {

using nlohmann::json;
using Tokens = std::vector<std::int32_t>;

constexpr const char* kBeginning = "beginning";

}  // namespace

Continuation measure_continuation(const Engine& engine, const NamedText& text,
                                  const ContinuationOptions& options, const Progress& progress) {
  const Tokens tokens = engine.tokenize(text.text);
  const std::uint64_t read = options.lead + options.score;
  if (tokens.size() < read + 32) {
    throw Error(EID_INVALID_ARGUMENT,
                "'" + text.name + "' has " + std::to_string(tokens.size()) +
                    " tokens: nothing to remember before the last " + std::to_string(read),
                "name a longer text, or score fewer tokens with --score");
  }
  const auto scored = tokens.end() - static_cast<std::ptrdiff_t>(options.score);
  const auto lead = scored - static_cast<std::ptrdiff_t>(options.lead);
  const auto before = static_cast<std::uint64_t>(lead - tokens.begin());
  const std::uint64_t archived =
      options.beginning > 0 ? std::min(options.beginning, before) : before;
  const apps::TemporaryDirectory directory(options.work_dir);
  Archive archive({.path = directory / "archive", .create = true});
  const std::string beginning =
      engine.detokenize({lead - static_cast<std::ptrdiff_t>(archived), lead});
  archive.ingest(engine, apps::ingest_as(options.session, kBeginning, text.name, beginning),
                 progress);

  const auto loss = [&](const std::string& mode, bool memory) {
    Session session(engine, session_of(mode, options.session, engine));
    if (memory) session.attach(archive, kBeginning);
    if (options.lead > 0) session.append(Tokens(lead, scored), {.use_span = false});
    std::vector<float> losses = session.losses({scored, tokens.end()}, {.use_span = memory});
    if (options.lead == 0) losses.erase(losses.begin());  // the first token of a session has none
    return std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(losses.size());
  };
  Continuation result{text.name, archived, options.score - (options.lead == 0 ? 1 : 0)};
  result.without = loss("window", false);
  result.with_memory = loss("stream", true);
  result.at_random = loss("random", true);
  return result;
}

json to_json(const Continuation& r) {
  return {{"text", r.text},       {"archived", r.archived},       {"tokens", r.tokens},
          {"without", r.without}, {"with_memory", r.with_memory}, {"at_random", r.at_random}};
}

Continuation continuation_from_json(const json& json) {
  Continuation r;
  r.text = json.at("text");
  r.archived = json.at("archived");
  r.tokens = json.at("tokens");
  r.without = json.at("without");
  r.with_memory = json.at("with_memory");
  r.at_random = json.at("at_random");
  return r;
}

}  // namespace eidetic::eval

#include "model/train/text_record.h"

#include <xxhash.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <string_view>
#include <utility>

#include "model/error.h"
#include "model/train/training_text.h"

namespace eidetic::model {
namespace {

constexpr size_t kHashedAtOnce = size_t{1} << 24;
constexpr size_t kMostNames = 5;  // of files, in a message

std::string TextHash(std::string_view bytes, const TokenCacheProgress& progress) {
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(),
                                                                       &XXH3_freeState);
  if (!state || XXH3_128bits_reset(state.get()) != XXH_OK) throw std::bad_alloc();
  for (size_t at = 0; at < bytes.size(); at += kHashedAtOnce) {
    if (at > 0 && progress && !progress(0, 0)) {
      throw Error(ErrorCode::kCancelled, "stopped while training texts were read");
    }
    const std::string_view part = bytes.substr(at, kHashedAtOnce);
    XXH3_128bits_update(state.get(), part.data(), part.size());
  }
  const XXH128_hash_t hash = XXH3_128bits_digest(state.get());
  char text[33];
  std::snprintf(text, sizeof text, "%016" PRIx64 "%016" PRIx64, uint64_t{hash.high64},
                uint64_t{hash.low64});
  return text;
}

using Content = std::pair<std::string, uint64_t>;  // hash and bytes

Content ContentOf(const TextRecord& record) {
  return {record.hash, record.bytes};
}

// Takes out of both what the two have in common by `key`; gives what was taken out of the second.
template <typename Key>
std::vector<TextRecord> TakeCommon(std::vector<TextRecord>* first, std::vector<TextRecord>* second,
                                   const Key& key) {
  using Value = decltype(key(TextRecord()));
  std::map<Value, size_t> in_first;
  for (const TextRecord& record : *first) ++in_first[key(record)];
  std::map<Value, size_t> common;
  std::vector<TextRecord> taken;
  std::erase_if(*second, [&](const TextRecord& record) {
    const auto found = in_first.find(key(record));
    if (found == in_first.end() || found->second == 0) return false;
    --found->second;
    ++common[key(record)];
    taken.push_back(record);
    return true;
  });
  std::erase_if(*first, [&](const TextRecord& record) {
    const auto found = common.find(key(record));
    if (found == common.end() || found->second == 0) return false;
    --found->second;
    return true;
  });
  return taken;
}

// "added: b.txt, c.txt and 3 more"; nothing for no files.
void AddFiles(const char* what, const std::vector<TextRecord>& records, std::string* text) {
  if (records.empty()) return;
  *text += (text->empty() ? "" : "; ") + std::string(what) + ": ";
  const size_t told = std::min(records.size(), kMostNames);
  for (size_t i = 0; i < told; ++i) *text += (i > 0 ? ", " : "") + records[i].path;
  if (told < records.size()) *text += " and " + std::to_string(records.size() - told) + " more";
}

}  // namespace

std::vector<TextRecord> RecordTexts(const std::vector<std::string>& files,
                                    const TokenCacheProgress& progress) {
  std::vector<TextRecord> records;
  for (const std::string& path : files) {
    const TrainingFile file(path);
    records.push_back({path, file.bytes().size(), TextHash(file.bytes(), progress)});
  }
  return records;
}

void CheckHeldOutIsApart(const TuneTexts& texts) {
  std::map<Content, const TextRecord*> trained;
  for (const TextRecord& record : texts.train) trained.emplace(ContentOf(record), &record);
  std::string problem;
  size_t others = 0;
  for (const TextRecord& record : texts.held_out) {
    const auto found = trained.find(ContentOf(record));
    if (found == trained.end()) continue;
    if (!problem.empty()) {
      ++others;
      continue;
    }
    std::error_code ignored;
    const std::string& other = found->second->path;
    const bool is_same =
        record.path == other || std::filesystem::equivalent(record.path, other, ignored);
    problem = is_same ? "'" + record.path + "' is held out, and trained on as '" + other + "'"
                      : "'" + record.path + "', which is held out, has the same content as '" +
                            other + "', which is trained on";
  }
  if (problem.empty()) return;
  if (others > 0) problem += " (and " + std::to_string(others) + " more)";
  throw Error(ErrorCode::kInvalidArgument, problem,
              "take it out of the one or the other: the loss on a text that is trained on says "
              "nothing of others");
}

std::string TextDifferences(const std::vector<TextRecord>& was, const std::vector<TextRecord>& is) {
  std::vector<TextRecord> removed = was, added = is;
  TakeCommon(&removed, &added, ContentOf);
  if (removed.empty() && added.empty()) {
    const bool same_order =
        std::equal(was.begin(), was.end(), is.begin(), is.end(),
                   [](const auto& a, const auto& b) { return ContentOf(a) == ContentOf(b); });
    return same_order ? "" : "the same files in another order";
  }
  const std::vector<TextRecord> changed =
      TakeCommon(&removed, &added, [](const TextRecord& record) { return record.path; });
  std::string text;
  AddFiles("changed", changed, &text);
  AddFiles("added", added, &text);
  AddFiles("removed", removed, &text);
  return text;
}

}  // namespace eidetic::model

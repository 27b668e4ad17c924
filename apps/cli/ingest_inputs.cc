#include "apps/cli/ingest_inputs.h"

#include <sys/stat.h>

#include <algorithm>
#include <new>
#include <set>
#include <utility>

#include "apps/cli/interrupt.h"
#include "apps/cli/text_file.h"
#include "apps/ingest/document_file.h"

namespace eidetic::cli {
namespace {

constexpr const char* kStandardInput = "-";

Error wrong_name(const std::string& name, const std::string& what) {
  return {EID_INVALID_ARGUMENT, "--name '" + name + "' cannot name " + what,
          "a document's name is unique in its collection: ingest the files one by one"};
}

// What is in both.
std::vector<std::string> both(std::vector<std::string> one, const std::vector<std::string>& other) {
  std::erase_if(one, [&](const std::string& pattern) {
    return std::find(other.begin(), other.end(), pattern) == other.end();
  });
  return one;
}

}  // namespace

IngestInputs list_inputs(const std::vector<std::string>& paths, const std::string& name,
                         const ingest::WalkOptions& options) {
  if (!name.empty() && paths.size() > 1) {
    throw wrong_name(name, std::to_string(paths.size()) + " files");
  }
  IngestInputs list;
  std::set<std::string> sources;
  const auto add = [&](IngestInput input) {
    if (sources.insert(input.source).second) list.inputs.push_back(std::move(input));
  };
  for (const std::string& path : paths) {
    if (path == kStandardInput) {
      if (name.empty()) {
        throw Error(EID_INVALID_ARGUMENT, "standard input has no name for its document",
                    "pass --source NAME");
      }
      add({path, name, true, false});
      continue;
    }
    struct stat status {};
    const bool there = ::stat(path.c_str(), &status) == 0;
    if (!there || !S_ISDIR(status.st_mode)) {
      add({path, name.empty() ? path : name, true, !there || S_ISREG(status.st_mode)});
      continue;
    }
    if (!name.empty()) throw wrong_name(name, "the files of the directory '" + path + "'");
    ingest::WalkResult found = ingest::walk_directory(path, options, [] { return interrupted(); });
    const std::string folder = ingest::plain_path(path);
    list.unused = list.folders.empty() ? std::move(found.unused) : both(list.unused, found.unused);
    list.folders.push_back(folder);
    if (found.files.empty() && found.skipped.empty() && found.left_out == 0) {
      list.empty_folders.push_back(folder);
    }
    for (std::string& file : found.files) add({file, file, false, true});
    for (ingest::SkippedEntry& entry : found.skipped) list.skipped.push_back(std::move(entry));
    list.left_out += found.left_out;
  }
  return list;
}

ingest::ReadDocument read_input(const IngestInput& input, const std::string& format) {
  ingest::ReadDocument document;
  std::string bytes;
  bool read = false;
  try {
    bytes = input.path == kStandardInput ? read_standard_input() : read_file(input.path);
    read = true;
    document.text = ingest::extract_text(bytes, input.source, format);
  } catch (const Error& error) {
    document.error = error;
    if (read) document.refusal = ingest::refusal_of(bytes);
  } catch (const std::bad_alloc&) {
    document.error =
        Error(EID_OUT_OF_MEMORY, "'" + input.path + "' is too large for this machine", "split it");
  }
  return document;
}

}  // namespace eidetic::cli

// The files of a directory that are to be read.
#ifndef EIDETIC_APPS_INGEST_DIRECTORY_WALK_H_
#define EIDETIC_APPS_INGEST_DIRECTORY_WALK_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace eidetic::ingest {

struct WalkOptions {
  // Patterns as in .gitignore, from the directory on.
  std::vector<std::string> include{}, exclude{};
  bool hidden = false;     // also entries whose name begins with a dot
  bool no_ignore = false;  // .gitignore and .eideticignore do not count
  bool follow = false;     // symbolic links within the directory
};

// An entry that is left out although nobody asked for it.
struct SkippedEntry {
  std::string path;
  std::string reason;  // "symbolic link", "loop", "archive", "special", "unreadable"
  std::string detail;  // for people
};

struct WalkResult {
  std::vector<std::string> files;     // in the order of their names, folder by folder
  std::vector<SkippedEntry> skipped;  // in the same order
  std::uint64_t left_out = 0;         // entries that patterns or dots leave out
  std::vector<std::string> unused;    // those of WalkOptions::include that fit no file
};

// Walks `directory`, which is one. Paths begin with it as it is written here, "." alone is left
// away. .gitignore and .eideticignore of every folder count for what is in it, the second one
// after the first; within a repository also those of the folders above. `.git` is never read.
// Looks at `stop` between folders; ends early, with what it has, when that is true.
WalkResult walk_directory(const std::string& directory, const WalkOptions& options,
                          const std::function<bool()>& stop = {});

// A path without needless parts ("./notes/" is "notes"), by its letters alone.
std::string plain_path(const std::string& path);

}  // namespace eidetic::ingest

#endif  // EIDETIC_APPS_INGEST_DIRECTORY_WALK_H_

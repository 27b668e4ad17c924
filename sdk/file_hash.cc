#include "sdk/file_hash.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#include "memory/hash.h"

namespace eidetic::sdk {

using memory::Code;
using memory::Result;
using memory::Status;
using nlohmann::json;

namespace {

namespace fs = std::filesystem;

// A file may be changed again within the resolution of its times, which is two seconds at worst.
constexpr int64_t kSettledNs = 2'000'000'000;

int64_t Nanoseconds(const timespec& time) {
  return static_cast<int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

json IdentityJson(const FileIdentity& file) {
  return {{"path", file.path}, {"device", file.device},     {"inode", file.inode},
          {"size", file.size}, {"mtime_ns", file.mtime_ns}, {"ctime_ns", file.ctime_ns}};
}

// A path need not be UTF-8.
std::string Text(const json& entry) {
  return entry.dump(-1, ' ', false, json::error_handler_t::replace);
}

// An entry of the cache. Its own hash shows damage.
std::string EncodeEntry(const FileIdentity& file, const std::string& hash) {
  json entry = {{"eidetic_file_hash", 1}, {"file", IdentityJson(file)}, {"sha256", hash}};
  entry["check"] = memory::Sha256Hex(Text(entry));
  return Text(entry) + "\n";
}

fs::path EntryPath(const FileIdentity& file, const std::string& cache_dir) {
  return fs::path(cache_dir) / "hashes" / (memory::Sha256Hex(file.path).substr(0, 32) + ".json");
}

// The remembered hash, when the entry is, byte for byte, the one that would be written for it.
std::optional<std::string> Remembered(const FileIdentity& file, const std::string& cache_dir) {
  std::ifstream in(EntryPath(file, cache_dir), std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), {});
  const json entry = json::parse(bytes, nullptr, /*allow_exceptions=*/false);
  if (!entry.is_object() || !entry.contains("sha256") || !entry["sha256"].is_string()) return {};
  const std::string hash = entry["sha256"].get<std::string>();
  if (bytes != EncodeEntry(file, hash)) return {};
  return hash;
}

void Remember(const FileIdentity& file, const std::string& hash, const std::string& cache_dir) {
  std::error_code failed;
  const fs::path entry = EntryPath(file, cache_dir);
  fs::create_directories(entry.parent_path(), failed);
  fs::path temporary = entry;
  temporary += "." + std::to_string(getpid()) + "." +
               std::to_string(std::hash<std::thread::id>()(std::this_thread::get_id()));
  std::ofstream out(temporary, std::ios::binary);
  out << EncodeEntry(file, hash);
  out.close();
  if (out) fs::rename(temporary, entry, failed);
  if (!out || failed) fs::remove(temporary, failed);
}

Result<std::string> HashFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    return Status(Code::kIoError, path + ": cannot be read: " + std::strerror(errno),
                  "check the file's permissions");
  }
  memory::Sha256 hash;
  std::vector<char> buffer(1 << 20);
  while (in) {
    in.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    hash.Update(std::string_view(buffer.data(), static_cast<size_t>(in.gcount())));
  }
  if (in.bad()) {
    return Status(Code::kIoError, path + ": reading it failed half-way", "check the disk");
  }
  return hash.Finish();
}

}  // namespace

Result<FileIdentity> FileIdentity::Of(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) {
    const bool absent = errno == ENOENT || errno == ENOTDIR;
    return Status(absent ? Code::kNotFound : Code::kIoError,
                  path + (absent ? std::string(": there is no such file")
                                 : std::string(": cannot be read: ") + std::strerror(errno)),
                  absent ? "check the path" : "check the file's permissions");
  }
  std::error_code failed;
  const fs::path real = fs::canonical(path, failed);
  FileIdentity file;
  file.path = failed ? path : real.string();
  file.device = info.st_dev;
  file.inode = info.st_ino;
  file.size = info.st_size;
  file.mtime_ns = Nanoseconds(info.st_mtim);
  file.ctime_ns = Nanoseconds(info.st_ctim);
  return file;
}

Result<std::string> CachedFileHash(const FileIdentity& file, const std::string& cache_dir,
                                   std::chrono::system_clock::time_point now) {
  std::optional<std::string> hash;
  if (!cache_dir.empty()) hash = Remembered(file, cache_dir);
  const bool remembered = hash.has_value();
  if (!remembered) {
    EID_ASSIGN_OR_RETURN(hash, HashFile(file.path));
  }
  EID_ASSIGN_OR_RETURN(const FileIdentity still, FileIdentity::Of(file.path));
  if (still != file) {
    return Status(Code::kIoError, file.path + ": the file was changed while it was being read",
                  "wait until it is written, and load it again");
  }
  const int64_t now_ns =
      std::chrono::duration_cast<std::chrono::nanoseconds>(now.time_since_epoch()).count();
  const bool settled = std::max(file.mtime_ns, file.ctime_ns) + kSettledNs <= now_ns;
  if (!remembered && settled && !cache_dir.empty()) Remember(file, *hash, cache_dir);
  return *std::move(hash);
}

Result<std::vector<FileIdentity>> IdentitiesOf(const std::vector<std::string>& paths) {
  std::vector<FileIdentity> files;
  for (const std::string& path : paths) {
    EID_ASSIGN_OR_RETURN(FileIdentity file, FileIdentity::Of(path));
    files.push_back(std::move(file));
  }
  return files;
}

Result<std::string> CachedModelHash(const std::vector<FileIdentity>& files,
                                    const std::vector<std::string>& paths,
                                    const std::string& cache_dir) {
  if (files.size() == 1) return CachedFileHash(files[0], cache_dir);
  std::map<std::string, std::string>
      hashes;  // by name: what a path leads to may be called anything
  for (size_t i = 0; i < files.size(); ++i) {
    EID_ASSIGN_OR_RETURN(hashes[fs::path(paths[i]).filename().string()],
                         CachedFileHash(files[i], cache_dir));
  }
  memory::Sha256 hash;
  hash.Update("eidetic-folder:1");
  for (const auto& [name, of_file] : hashes) {
    hash.Update(":" + std::to_string(name.size()) + ":" + name + ":" + of_file);
  }
  return hash.Finish();
}

}  // namespace eidetic::sdk

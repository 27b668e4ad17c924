#include "sdk/fingerprint.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>
#include <vector>

#include "memory/hash.h"

namespace eidetic::sdk {

using memory::Code;
using memory::Result;
using memory::Status;

namespace {

struct FileIdentity {
  std::string path;
  int64_t size = 0;
  int64_t mtime_ns = 0;
  uint64_t inode = 0;

  nlohmann::json ToJson() const {
    return {{"path", path}, {"size", size}, {"mtime_ns", mtime_ns}, {"inode", inode}};
  }
};

Result<FileIdentity> Identify(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) {
    return Status(errno == ENOENT ? Code::kNotFound : Code::kIoError,
                  "cannot read '" + path + "': " + std::strerror(errno),
                  "check the path and its permissions");
  }
  std::error_code ignored;
  std::filesystem::path real = std::filesystem::canonical(path, ignored);
  return FileIdentity{
      ignored ? path : real.string(), static_cast<int64_t>(info.st_size),
      static_cast<int64_t>(info.st_mtim.tv_sec) * 1'000'000'000 + info.st_mtim.tv_nsec,
      static_cast<uint64_t>(info.st_ino)};
}

Result<std::string> HashFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    return Status(Code::kIoError, "cannot read '" + path + "': " + std::strerror(errno),
                  "check the path and its permissions");
  }
  memory::Sha256 hash;
  std::vector<char> buffer(1 << 20);
  while (in) {
    in.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    hash.Update(std::string_view(buffer.data(), static_cast<size_t>(in.gcount())));
  }
  if (in.bad()) return Status(Code::kIoError, "reading '" + path + "' failed half-way");
  return hash.Finish();
}

}  // namespace

Result<std::string> CachedFileHash(const std::string& path, const std::string& cache_dir) {
  EID_ASSIGN_OR_RETURN(FileIdentity identity, Identify(path));
  std::filesystem::path entry;
  if (!cache_dir.empty()) {
    entry = std::filesystem::path(cache_dir) / "hashes" /
            (memory::Sha256Hex(identity.path).substr(0, 32) + ".json");
    std::ifstream in(entry);
    nlohmann::json stored = nlohmann::json::parse(in, nullptr, /*allow_exceptions=*/false);
    if (stored.is_object() && stored.contains("sha256") && stored["sha256"].is_string() &&
        stored.value("file", nlohmann::json()) == identity.ToJson()) {
      return stored["sha256"].get<std::string>();
    }
  }
  EID_ASSIGN_OR_RETURN(std::string hash, HashFile(path));
  if (!entry.empty()) {
    std::error_code ignored;
    std::filesystem::create_directories(entry.parent_path(), ignored);
    std::filesystem::path temporary = entry;
    temporary += ".";
    temporary += std::to_string(getpid());
    std::ofstream out(temporary);
    out << nlohmann::json{{"file", identity.ToJson()}, {"sha256", hash}} << '\n';
    out.close();
    if (out) std::filesystem::rename(temporary, entry, ignored);
    if (!out || ignored) std::filesystem::remove(temporary, ignored);
  }
  return hash;
}

std::string Fingerprint(const std::string& weights_hash, const model::Tokenizer& tokenizer,
                        const model::HybridModel& model) {
  memory::Sha256 hash;
  auto field = [&hash](const char* name, const std::string& bytes) {
    hash.Update(std::string(name) + ":" + std::to_string(bytes.size()) + ":");
    hash.Update(bytes);
  };
  field("eidetic-fingerprint", "1");
  field("weights", weights_hash);
  field("tokenizer", tokenizer.FingerprintBytes());
  field("graph", model.FingerprintBytes());
  return hash.Finish();
}

}  // namespace eidetic::sdk

#include "model/train/file_checksum.h"

#include <xxhash.h>

#include <cinttypes>
#include <cstdio>

#include "model/mapped_file.h"

namespace eidetic::model {

std::string FileChecksum(const std::string& path) {
  const MappedFile file = MapFile(path);
  const uint64_t hash = XXH3_64bits(file.data, file.size);
  Unmap(file);
  char text[17];
  std::snprintf(text, sizeof text, "%016" PRIx64, hash);
  return text;
}

}  // namespace eidetic::model

// A file mapped for reading.
#ifndef EIDETIC_MODEL_MAPPED_FILE_H_
#define EIDETIC_MODEL_MAPPED_FILE_H_

#include <cstdint>
#include <string>

namespace eidetic::model {

// The whole of a regular file, read-only; released with Unmap. Throws Error: kNotFound, kIo,
// kCorruption for an empty file.
struct MappedFile {
  const uint8_t* data = nullptr;
  uint64_t size = 0;
};
MappedFile MapFile(const std::string& path);
void Unmap(const MappedFile& file) noexcept;

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_MAPPED_FILE_H_

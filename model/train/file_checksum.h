// Whether a file is the one that was written.
#ifndef EIDETIC_MODEL_TRAIN_FILE_CHECKSUM_H_
#define EIDETIC_MODEL_TRAIN_FILE_CHECKSUM_H_

#include <string>

namespace eidetic::model {

// XXH3-64 of the whole file: 16 hexadecimal digits. Throws Error: kNotFound, kIo, kCorruption for
// an empty one.
std::string FileChecksum(const std::string& path);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_FILE_CHECKSUM_H_

// The search for what was forgotten in the files of an archive: as their bytes stand, and tables
// also record by record, since what is compressed cannot be found in bytes.
#ifndef EIDETIC_MEMORY_FILE_SEARCH_H_
#define EIDETIC_MEMORY_FILE_SEARCH_H_

#include <string>
#include <string_view>

#include "memory/forget.h"
#include "memory/forgotten_bytes.h"

namespace eidetic::memory {

// Adds what is found in `bytes`, which stand at `offset` of what is called `name`.
void SearchBytes(const ForgottenBytes& samples, const std::string& name, std::string_view bytes,
                 FileScan* scan, uint64_t offset = 0);
// Every file below `folder`. kIoError when one that is still there cannot be read, kCorruption when
// a table cannot: then nothing is proved.
Status SearchFolder(const ForgottenBytes& samples, const std::string& folder, FileScan* scan);

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_FILE_SEARCH_H_

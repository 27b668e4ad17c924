// Reading a text file, or saying exactly why it is none.
#ifndef EIDETIC_APPS_CLI_TEXT_FILE_H_
#define EIDETIC_APPS_CLI_TEXT_FILE_H_

#include <string>
#include <string_view>

#include "eidetic/eidetic.h"

namespace eidetic::cli {

// The whole file. Throws Error: not found, cannot be read, a directory, a device.
std::string read_file(const std::string& path);

// The same of text. Throws Error as well: empty, binary (a NUL byte,
// UTF-16), or not UTF-8 (with the offset of the first bad byte).
std::string read_text_file(const std::string& path);

// Checks that `text` is text: not empty, no NUL, UTF-8. `name` is for the message; the error has
// `status`, which tells a wrong argument from a wrong file.
void check_text(std::string_view text, const std::string& name,
                eid_status status = EID_INVALID_ARGUMENT);

// All of standard input, unchecked.
std::string read_standard_input();

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_TEXT_FILE_H_

#include "apps/cli/text_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "apps/cli/characters.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/terminal.h"
#include "eidetic/eidetic.hpp"

namespace eidetic::cli {
namespace {

struct File {
  int descriptor;
  explicit File(int d) : descriptor(d) {}
  ~File() {
    if (descriptor >= 0) ::close(descriptor);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
};

std::string reason(int number) {
  return std::generic_category().message(number);
}

std::string read_all(int descriptor, const std::string& name) {
  std::string text;
  char buffer[1 << 16];
  for (;;) {
    // A read would go on waiting for a terminal or a pipe after Ctrl-C.
    if (wait_for_input(descriptor) == Waited::kInterrupted) {
      throw Error(EID_CANCELLED, "stopped while '" + name + "' was read");
    }
    const ssize_t got = ::read(descriptor, buffer, sizeof buffer);
    if (got > 0) {
      text.append(buffer, static_cast<std::size_t>(got));
    } else if (got == 0) {
      return text;
    } else if (errno != EINTR) {
      const int number = errno;
      throw Error(EID_IO_ERROR,
                  "'" + name + "' cannot be read after byte " + std::to_string(text.size()) + ": " +
                      reason(number),
                  "check the file and the disk it lies on");
    }
  }
}

}  // namespace

void check_text(std::string_view text, const std::string& name, eid_status status) {
  if (text.empty()) {
    throw Error(status, name + " is empty: there is nothing to read", "give some text");
  }
  const std::string_view mark = text.substr(0, 2);
  if (mark == "\xFF\xFE" || mark == "\xFE\xFF") {
    throw Error(status, name + " begins with a UTF-16 mark, not UTF-8 text",
                "convert it: iconv -f UTF-16 -t UTF-8");
  }
  const std::size_t nul = text.find('\0');
  if (nul != std::string_view::npos) {
    throw Error(status, name + " is binary, not text: byte " + std::to_string(nul) + " is NUL",
                "eidetic reads UTF-8 text; extract the text of the document first");
  }
  const std::size_t bad = first_invalid_utf8(text);
  if (bad != std::string_view::npos) {
    char hex[8];
    std::snprintf(hex, sizeof hex, "0x%02X",
                  static_cast<unsigned>(static_cast<unsigned char>(text[bad])));
    throw Error(status, name + " is not UTF-8: byte " + std::to_string(bad) + " is " + hex,
                "convert it, for example: iconv -f ISO-8859-1 -t UTF-8");
  }
}

std::string read_file(const std::string& path) {
  const File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.descriptor < 0) {
    const int number = errno;
    throw Error(number == ENOENT || number == ENOTDIR ? EID_NOT_FOUND : EID_IO_ERROR,
                "'" + path + "' cannot be opened: " + reason(number),
                number == EACCES ? "check its permissions" : "check the path");
  }
  struct stat status {};
  if (::fstat(file.descriptor, &status) == 0 && S_ISDIR(status.st_mode)) {
    throw Error(EID_IO_ERROR, "'" + path + "' is a directory, not a file",
                "name the files in it, for example " + path + "/*.txt");
  }
  const bool endless =
      S_ISBLK(status.st_mode) || (S_ISCHR(status.st_mode) && !::isatty(file.descriptor));
  if (endless) {
    throw Error(EID_UNSUPPORTED, "'" + path + "' is a device, not a file", "name a file of text");
  }
  return read_all(file.descriptor, path);
}

std::string read_text_file(const std::string& path) {
  std::string text = read_file(path);
  check_text(text, "'" + path + "'", EID_UNSUPPORTED);
  return text;
}

std::string read_standard_input() {
  if (::isatty(STDIN_FILENO)) {
    print_note("eidetic: reads from the terminal; Ctrl-D at the beginning of a line ends the text");
  }
  return read_all(STDIN_FILENO, "standard input");
}

}  // namespace eidetic::cli

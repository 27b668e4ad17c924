#include "apps/cli/text_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

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

// Bytes in the sequence that begins with `lead`, and the smallest value that needs so many.
struct Form {
  int length;
  char32_t least;
};
Form form_of(unsigned char lead) {
  if (lead < 0x80) return {1, 0};
  if ((lead & 0xE0) == 0xC0) return {2, 0x80};
  if ((lead & 0xF0) == 0xE0) return {3, 0x800};
  if ((lead & 0xF8) == 0xF0) return {4, 0x10000};
  return {0, 0};
}

}  // namespace

std::size_t first_invalid_utf8(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const auto lead = static_cast<unsigned char>(text[at]);
    const Form form = form_of(lead);
    if (form.length == 1) {
      ++at;
      continue;
    }
    if (form.length == 0 || at + static_cast<std::size_t>(form.length) > text.size()) return at;
    char32_t value = lead & (0x7F >> form.length);
    for (int i = 1; i < form.length; ++i) {
      const auto next = static_cast<unsigned char>(text[at + static_cast<std::size_t>(i)]);
      if ((next & 0xC0) != 0x80) return at;
      value = (value << 6) | (next & 0x3F);
    }
    const bool surrogate = value >= 0xD800 && value <= 0xDFFF;
    if (value < form.least || value > 0x10FFFF || surrogate) return at;
    at += static_cast<std::size_t>(form.length);
  }
  return std::string_view::npos;
}

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

std::string read_text_file(const std::string& path) {
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
  std::string text = read_all(file.descriptor, path);
  check_text(text, "'" + path + "'", EID_UNSUPPORTED);
  return text;
}

std::string read_standard_input() {
  return read_all(STDIN_FILENO, "standard input");
}

}  // namespace eidetic::cli

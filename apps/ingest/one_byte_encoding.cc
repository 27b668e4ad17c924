#include "apps/ingest/one_byte_encoding.h"

#include <iconv.h>

#include <algorithm>

#include "apps/ingest/lower_case.h"

namespace eidetic::ingest {
namespace {

constexpr std::size_t kDeclarationBytes = 1024;  // where HTML wants it to stand
constexpr const char* kReplacement = "\xEF\xBF\xBD";

bool is_number(std::string_view text, int least, int most) {
  if (text.empty() || text.size() > 4) return false;
  int number = 0;
  for (char c : text) {
    if (c < '0' || c > '9') return false;
    number = number * 10 + (c - '0');
  }
  return number >= least && number <= most;
}

// The name that iconv knows; empty for an encoding that is none of ours.
std::string system_name(const std::string& name) {
  const auto after = [&](const char* prefix) {
    const std::string_view begin(prefix);
    return name.rfind(begin, 0) == 0 ? name.substr(begin.size()) : std::string();
  };
  if (name == "latin1" || name == "us-ascii" || name == "ascii") return "windows-1252";
  std::string number = after("iso-8859-");
  if (number.empty()) number = after("iso8859-");
  if (number == "1") return "windows-1252";
  if (is_number(number, 2, 16) && number != "12") return "iso-8859-" + number;
  number = after("windows-");
  if (number.empty()) number = after("cp");
  if (is_number(number, 1250, 1258)) return "windows-" + number;
  return name == "koi8-r" || name == "koi8-u" ? name : "";
}

struct Converter {
  iconv_t handle;
  explicit Converter(const std::string& from) : handle(::iconv_open("UTF-8", from.c_str())) {}
  ~Converter() {
    if (valid()) ::iconv_close(handle);
  }
  Converter(const Converter&) = delete;
  Converter& operator=(const Converter&) = delete;
  bool valid() const { return handle != reinterpret_cast<iconv_t>(-1); }
};

}  // namespace

std::string declared_encoding(std::string_view page) {
  const std::string head = lower_case(page.substr(0, kDeclarationBytes));
  for (std::size_t at = 0; (at = head.find("<meta", at)) != std::string::npos; ++at) {
    const std::string tag = head.substr(at, head.find('>', at) - at);
    std::size_t begin = tag.find("charset");
    if (begin == std::string::npos) continue;
    begin = tag.find('=', begin);
    if (begin == std::string::npos) continue;
    begin = tag.find_first_not_of(" \t\r\n'\"", begin + 1);
    if (begin == std::string::npos) continue;
    return tag.substr(begin, tag.find_first_of(" \t\r\n'\";/", begin) - begin);
  }
  return "";
}

std::optional<ByteTable> one_byte_encoding(const std::string& name) {
  const std::string known = system_name(lower_case(name));
  if (known.empty()) return std::nullopt;
  const Converter converter(known);
  if (!converter.valid()) return std::nullopt;
  ByteTable table;
  for (int byte = 0; byte < 256; ++byte) {
    char in = static_cast<char>(byte), out[8];
    char *from = &in, *to = out;
    std::size_t left = 1, room = sizeof out;
    ::iconv(converter.handle, nullptr, nullptr, nullptr, nullptr);
    // Some encodings hold a character back, for a mark that may follow.
    const bool converted =
        ::iconv(converter.handle, &from, &left, &to, &room) != static_cast<std::size_t>(-1) &&
        ::iconv(converter.handle, nullptr, nullptr, &to, &room) != static_cast<std::size_t>(-1);
    table[static_cast<std::size_t>(byte)] =
        converted ? std::string(out, sizeof out - room) : kReplacement;
  }
  return table;
}

}  // namespace eidetic::ingest

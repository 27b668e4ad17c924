#include "apps/cli/name_check.h"

#include <string_view>

#include "apps/cli/characters.h"

namespace eidetic::cli {

CLI::Validator name_check(const std::string& what) {
  return CLI::Validator(
      [what](std::string& name) {
        if (name.empty()) return what + " cannot be empty";
        const std::size_t bad = first_invalid_utf8(name);
        if (bad == std::string_view::npos) return std::string();
        return what + " is not UTF-8: byte " + std::to_string(bad) + " begins no character";
      },
      "");
}

}  // namespace eidetic::cli

// Names of encodings, tags and file endings are compared in lower case.
#ifndef EIDETIC_APPS_INGEST_LOWER_CASE_H_
#define EIDETIC_APPS_INGEST_LOWER_CASE_H_

#include <cctype>
#include <string>
#include <string_view>

namespace eidetic::ingest {

// ASCII letters in lower case, in the C locale; other bytes as they are.
inline std::string lower_case(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

}  // namespace eidetic::ingest

#endif  // EIDETIC_APPS_INGEST_LOWER_CASE_H_

// The texts of tests/golden/hard_cases.txt, and how golden files tell tokens.
#ifndef EIDETIC_TESTS_MODEL_HARD_CASES_H_
#define EIDETIC_TESTS_MODEL_HARD_CASES_H_

#include <cstdint>
#include <cstdio>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/model/model_files.h"

namespace eidetic::model {

inline std::string Repeated(size_t times, const std::string& text) {
  std::string repeated;
  for (size_t i = 0; i < times; ++i) repeated += text;
  return repeated;
}

// FNV-1a of the ids as little-endian int32, as the golden file has it.
inline std::string Hash(const std::vector<int32_t>& ids) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const int32_t id : ids) {
    for (int shift = 0; shift < 32; shift += 8) {
      hash = (hash ^ (static_cast<uint32_t>(id) >> shift & 0xff)) * 0x100000001b3u;
    }
  }
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(hash));
  return text;
}

// One line of hard_cases.txt, with its escapes undone.
inline std::string Unescaped(std::string line) {
  size_t times = 1;
  if (line[0] == '%') {
    times = std::stoul(line.substr(1));
    line.erase(0, line.find('%', 1) + 1);
  }
  std::string text;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] != '\\') {
      text += line[i];
      continue;
    }
    switch (line.at(++i)) {
      case 'n':
        text += '\n';
        break;
      case 'r':
        text += '\r';
        break;
      case 't':
        text += '\t';
        break;
      case '\\':
        text += '\\';
        break;
      case 'x':
        text += static_cast<char>(std::stoi(line.substr(i + 1, 2), nullptr, 16));
        i += 2;
        break;
      default:
        throw std::runtime_error("unknown escape in: " + line);
    }
  }
  return Repeated(times, text);
}

// Counted from 1.
inline std::vector<std::string> HardLines(const std::string& path) {
  std::vector<std::string> lines(1);
  std::istringstream in(ReadFile(path));
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

}  // namespace eidetic::model

#endif  // EIDETIC_TESTS_MODEL_HARD_CASES_H_

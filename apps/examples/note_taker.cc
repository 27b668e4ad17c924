// Takes notes and answers questions about them, also after it was started again.
//
//   note_taker MODEL.gguf ARCHIVE
//
// Every line is a note. One that begins with '?' is a question; the words of a question find the
// notes that speak of it, and these are recalled as they were read.
#include <chrono>
#include <eidetic/eidetic.hpp>
#include <iostream>
#include <string>

namespace {

constexpr const char* kNotes = "notes";

// A name that no other note has: the time, to the nanosecond.
std::string name_of_now() {
  return "note " + std::to_string(std::chrono::system_clock::now().time_since_epoch().count());
}

void take(const eidetic::Engine& engine, eidetic::Archive& archive, const std::string& note) {
  archive.ingest(engine, {.collection = kNotes, .source = name_of_now(), .text = note});
  std::cout << "noted\n";
}

void answer(const eidetic::Engine& engine, eidetic::Archive& archive, const std::string& question) {
  eidetic::Session session(engine, {.policy = EID_RECALL_BOTH});
  session.attach(archive, kNotes);
  session.append(question, {.use_span = true, .role = "user"});
  std::cout << session.generate({.max_tokens = 64, .assistant_turn = true}).text << "\n";
  for (const eidetic::Passage& note : session.sources(1)) {
    std::cout << "  " << note.source << ": " << note.text << "\n";
  }
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 3) {
    std::cerr << "usage: note_taker MODEL.gguf ARCHIVE\n";
    return 2;
  }
  const eidetic::Engine engine({.model_path = argv[1]});
  eidetic::Archive archive({.path = argv[2], .create = true});
  for (std::string line; std::getline(std::cin, line);) {
    try {
      const std::size_t begin = line.find_first_not_of("? ");
      if (begin == std::string::npos) continue;
      if (line[0] == '?') {
        answer(engine, archive, line.substr(begin));
      } else {
        take(engine, archive, line);
      }
    } catch (const eidetic::Error& error) {
      std::cerr << error.what() << "\n";  // this line alone
    }
  }
} catch (const eidetic::Error& error) {
  std::cerr << error.what() << "\n" << error.remedy() << "\n";
  return 1;
}

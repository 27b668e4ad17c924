// Answers a question from files, and shows the passages that served.
//
//   ask_documents MODEL.gguf ARCHIVE QUESTION FILE...
//
// Files that were read before and did not change cost nothing.
#include <eidetic/eidetic.hpp>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>

namespace {

void read(const eidetic::Engine& engine, eidetic::Archive& archive, const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  if (!in) throw eidetic::Error(EID_NOT_FOUND, "'" + path + "' cannot be read");
  const std::string bytes = text.str();
  archive.ingest(engine, {.collection = "documents", .source = path, .text = bytes},
                 [](const eid_progress& progress) {
                   std::cerr << "\r" << progress.item << ": " << progress.done << " of "
                             << progress.total << " tokens" << std::flush;
                   return true;
                 });
  std::cerr << "\n";
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 5) {
    std::cerr << "usage: ask_documents MODEL.gguf ARCHIVE QUESTION FILE...\n";
    return 2;
  }
  const eidetic::Engine engine({.model_path = argv[1]});
  eidetic::Archive archive({.path = argv[2], .create = true});
  for (int i = 4; i < argc; ++i) read(engine, archive, argv[i]);

  eidetic::Session session(engine, {.policy = EID_RECALL_BOTH});
  session.attach(archive, "documents");
  session.append(argv[3], {.use_span = true, .role = "user"});
  std::cout << session.generate({.max_tokens = 64, .assistant_turn = true}).text << "\n";
  int number = 0;
  for (const eidetic::Passage& passage : session.sources(3)) {
    std::cout << "[" << ++number << "] " << passage.source << ", bytes " << passage.byte_begin
              << " to " << passage.byte_end << ":\n    " << passage.text << "\n";
  }
} catch (const eidetic::Error& error) {
  std::cerr << error.what() << "\n" << error.remedy() << "\n";
  return 1;
}

// Memory in a C++ program: a text goes in, an answer comes out, with the place it came from.
//
//   embed_in_cpp MODEL.gguf ARCHIVE
#include <eidetic/eidetic.hpp>
#include <iostream>

int main(int argc, char** argv) try {
  if (argc != 3) {
    std::cerr << "usage: embed_in_cpp MODEL.gguf ARCHIVE\n";
    return 2;
  }
  const eidetic::Engine engine({.model_path = argv[1]});
  eidetic::Archive archive({.path = argv[2], .create = true});
  const eid_ingest_result read = archive.ingest(
      engine, {.collection = "notes",
               .source = "diary",
               .text = "It was late, and the lamp had burned low. One of the special magic numbers "
                       "for blue-fox is: 4201777. Nobody spoke of it again."});
  std::cout << (read.outcome == EID_INGEST_UNCHANGED ? "there already: " : "remembered: ")
            << read.tokens << " tokens\n";

  eidetic::Session session(engine);  // knows nothing of the text
  session.attach(archive, "notes");
  session.append("What is the special magic number for blue-fox mentioned in the provided text?",
                 {.use_span = true, .role = "user"});
  session.generate({.assistant_turn = true}, [](std::string_view piece) {
    std::cout << piece << std::flush;  // as it comes
    return true;
  });
  std::cout << "\n";
  for (const eidetic::Passage& passage : session.sources(1)) {
    std::cout << "from " << passage.source << ", bytes " << passage.byte_begin << " to "
              << passage.byte_end << "\n";
  }
} catch (const eidetic::Error& error) {
  std::cerr << error.what() << "\n" << error.remedy() << "\n";
  return 1;
}

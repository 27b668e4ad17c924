// A conversation that is kept, turn by turn: what `chat` does between two lines of input. It reads
// nothing from a terminal and prints nothing.
#ifndef EIDETIC_APPS_CLI_CONVERSATION_H_
#define EIDETIC_APPS_CLI_CONVERSATION_H_

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "eidetic/eidetic.hpp"

namespace eidetic::cli {

struct ConversationOptions {
  std::string session;                     // opened, or begun when it is not there
  std::vector<std::string> collections{};  // to recall from, beside what the session has already
  std::string system{};      // read before the first message of a new session; empty: none
  SessionOptions attention;  // of a new session
  GenerateOptions generate;  // of every answer
  bool memory_off = false;   // no recall, neither while reading nor while answering
  // Called before turns that come after something forgotten are read again, with how many there are
  // and their tokens: it takes as long as reading them did.
  std::function<void(std::uint64_t turns, std::uint64_t tokens)> on_reading_again{};
};

// What a message led to.
struct Exchange {
  Answer answer;
  eid_commit_result turn{};  // the turn that was committed
};

// Belongs to one thread. The engine and the archive outlive it.
class Conversation {
 public:
  // Throws Error; kFingerprintMismatch for a session of another model.
  Conversation(const Engine& engine, Archive& archive, ConversationOptions options);

  // Reads `text` as the user's message, answers, and commits both as one turn: all or nothing. An
  // answer that `on_text` stops is committed as far as it came. When reading is stopped (`progress`
  // returns false: EID_CANCELLED), or anything fails, the conversation stands where it stood
  // before.
  Exchange say(const std::string& text, const OnText& on_text = {}, const Progress& progress = {});

  // Makes another session that has read the same, and goes on in it. EID_NOT_FOUND before the first
  // turn, EID_ALREADY_EXISTS when the name is taken.
  void fork(const std::string& name);
  // Goes back to the end of `turn`; EID_NOT_FOUND when there is none. What came later is gone.
  void rewind(std::uint64_t turn);
  // Forgets `turn` for good, here and in every fork that has read it, and goes on: later turns are
  // read again without it. The receipt of Archive::forget(). EID_NOT_FOUND when there is none.
  nlohmann::json forget(std::uint64_t turn);
  // Recalls from this collection too, from the next message on; kept with the next turn.
  void attach(const std::string& collection);

  const std::string& session() const { return options_.session; }
  std::uint64_t turns() const { return turns_; }
  // Session::info().
  nlohmann::json info() const;
  // What was in the span during the last answer, by focus; empty before the first of this run.
  std::vector<Passage> sources() const;
  // The turn whose tokens hold `token`; 0: none of those that were committed.
  std::uint64_t turn_of_token(std::uint64_t token) const;
  // The session and its turns: Archive::sessions(). Empty before the first.
  nlohmann::json kept() const;

 private:
  void open();
  void tell_of_waiting() const;
  // Throws EID_NOT_FOUND when `turn` is none of those that were committed; `what` for.
  void check_turn(std::uint64_t turn, const char* what) const;
  // Lets go of the session while `change` changes what is kept of it.
  template <class Change>
  void changed_by(Change change);

  const Engine& engine_;
  Archive& archive_;
  ConversationOptions options_;
  std::optional<Session> live_;
  std::uint64_t turns_ = 0;
};

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_CONVERSATION_H_

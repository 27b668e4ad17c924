// The ways in which an evaluation reads a text: through a session, or as a whole sequence by the
// published method and its baselines.
#ifndef EIDETIC_APPS_EVAL_READING_MODE_H_
#define EIDETIC_APPS_EVAL_READING_MODE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "eidetic/eidetic.hpp"

namespace eidetic::eval {

// Tokens, where no window is given.
inline constexpr int kDefaultWindow = 1024;

// By a session: stream, window, wide-window, full, random. As a sequence: paper, paper-random,
// paper-no-memory, paper-landmark, se-stream, s2.
std::vector<std::string> reading_modes();
// Whether the mode reads a whole sequence at once. Throws EID_INVALID_ARGUMENT for no mode.
bool reads_a_sequence(const std::string& mode);
// stream and random recall.
bool recalls(const std::string& mode);

// `options` for a session of that mode. wide-window is a window as large as stream's window and
// span together. The modes without memory keep none: their speed is that of the plain model.
SessionOptions session_of(const std::string& mode, SessionOptions options, const Engine& engine);
// `options` for a sequence of that mode.
SequenceOptions sequence_of(const std::string& mode, SequenceOptions options);

}  // namespace eidetic::eval

#endif  // EIDETIC_APPS_EVAL_READING_MODE_H_

#include "model/train/finite_check.h"

#include "model/error.h"
#include "model/train/distill.h"

namespace eidetic::model {

std::string PlacesOf(const SequencesRead& read) {
  std::string places;
  for (const int64_t first : read.first) {
    places += (places.empty() ? "" : ", ") + std::to_string(first) + " to " +
              std::to_string(first + read.length - 1);
  }
  return places;
}

void CheckTeacherIsFinite(const DifferentiableModel& teacher, const SequencesRead& read,
                          const std::string& when, const std::string& text,
                          const std::string& then) {
  SequencesRead faulty{read.text, {}, read.length};
  for (const int64_t first : read.first) {
    if (!TeacherIsFinite(teacher, read.text->Sequence(first, read.length).tokens, {})) {
      faulty.first.push_back(first);
    }
  }
  if (faulty.first.empty()) return;
  throw Error(ErrorCode::kInvalidArgument,
              "in " + when + " the teacher's outputs are not finite, on tokens " +
                  PlacesOf(faulty) + " of " + text + "; " + then,
              "learn from another file of the teacher: no rate mends numbers that it has not");
}

}  // namespace eidetic::model

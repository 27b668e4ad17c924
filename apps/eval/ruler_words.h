// Common English words for the synthetic tasks of `eval ruler`: lists of our own.
#ifndef EIDETIC_APPS_EVAL_RULER_WORDS_H_
#define EIDETIC_APPS_EVAL_RULER_WORDS_H_

#include <string>
#include <vector>

namespace eidetic::eval {

// In a fixed order, none twice in a list.
const std::vector<std::string>& ruler_adjectives();
const std::vector<std::string>& ruler_nouns();
// Adjectives, nouns and verbs, sorted, none twice.
const std::vector<std::string>& ruler_common_words();

}  // namespace eidetic::eval

#endif  // EIDETIC_APPS_EVAL_RULER_WORDS_H_

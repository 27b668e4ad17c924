// Constants of a saved state (docs/formats/session.md).
#ifndef EIDETIC_MODEL_SESSION_FORMAT_H_
#define EIDETIC_MODEL_SESSION_FORMAT_H_

#include <cstdint>

namespace eidetic::model {

inline constexpr char kSessionMagic[8] = {'E', 'I', 'D', 'S', 'T', 'A', 'T', 'E'};
inline constexpr uint32_t kSessionVersion = 1;
// The recurrent state, without keys and values.
inline constexpr char kRecurrentMagic[8] = {'E', 'I', 'D', 'R', 'E', 'C', 'U', 'R'};
inline constexpr uint32_t kRecurrentVersion = 1;

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_SESSION_FORMAT_H_

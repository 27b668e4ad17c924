// What the SDK keeps of a session in the memory's records: settings that hold for all its turns,
// and the small state after each (docs/formats/session.md). Both are version 1.
#ifndef EIDETIC_SDK_TURN_RECORD_H_
#define EIDETIC_SDK_TURN_RECORD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "memory/status.h"
#include "sdk/session.h"

namespace eidetic::sdk {

struct SessionSettings {
  std::string fingerprint;
  SessionOptions options;  // its name is not part of the bytes
};

struct TurnResume {
  std::string sampler;
  bool sampler_seeded = false;
  uint64_t recall_random = 0;
  bool turn_open = false;
  std::vector<std::string> collections;  // attached, of the same archive
  std::vector<SavedPin> pins;            // of the last question
  uint64_t state_checksum = 0;           // of the recurrent state: what reading again must lead to
  std::vector<float> logits;             // only when the model's state does not tell them
};

std::string EncodeSettings(const SessionSettings& settings);
// kCorruption names the session and the field; kUnsupported for a newer version. `name`: of the
// session.
memory::Result<SessionSettings> DecodeSettings(const std::string& bytes, const std::string& name);

// Blocks that words pinned, as RecallView::choice; empty for none.
std::string EncodePins(const std::vector<SavedPin>& pins);
memory::Result<std::vector<SavedPin>> DecodePins(const std::string& bytes, const std::string& name);

std::string EncodeResume(const TurnResume& resume);
memory::Result<TurnResume> DecodeResume(const std::string& bytes, const std::string& name);

}  // namespace eidetic::sdk

#endif  // EIDETIC_SDK_TURN_RECORD_H_

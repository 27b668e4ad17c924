// A saved session as bytes: docs/formats/session.md. Version 2; reads 1 too.
#ifndef EIDETIC_SDK_SESSION_RECORD_H_
#define EIDETIC_SDK_SESSION_RECORD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "memory/block.h"
#include "memory/status.h"
#include "sdk/session.h"

namespace eidetic::sdk {

struct SessionRecord {
  using Pin = SavedPin;
  std::string fingerprint;
  SessionOptions options;
  memory::LineageId lineage = 0;
  std::vector<std::string> collections;  // attached, of the same archive
  std::vector<Pin> pins;
  std::vector<int32_t> tokens;
  std::vector<float> logits;  // after the last token; empty before the first
  std::string sampler;
  bool sampler_seeded = false;
  uint64_t recall_random = 0;  // where the draws of mode `random` stand
  bool turn_open = false;
  std::string model_state;
};

std::string EncodeSessionRecord(const SessionRecord& record);
// kCorruption names the session and the field; kUnsupported for a newer version.
memory::Result<SessionRecord> DecodeSessionRecord(const std::string& bytes,
                                                  const std::string& name);

}  // namespace eidetic::sdk

#endif  // EIDETIC_SDK_SESSION_RECORD_H_

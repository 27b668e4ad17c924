#include "sdk/fingerprint.h"

#include "memory/hash.h"

namespace eidetic::sdk {

std::string Fingerprint(const std::string& weights_hash, const std::string& adapter_hash,
                        const model::Tokenizer& tokenizer, const std::string& graph) {
  memory::Sha256 hash;
  auto field = [&hash](const char* name, const std::string& bytes) {
    hash.Update(std::string(name) + ":" + std::to_string(bytes.size()) + ":");
    hash.Update(bytes);
  };
  field("eidetic-fingerprint", "1");
  field("weights", weights_hash);
  if (!adapter_hash.empty()) field("adapter", adapter_hash);
  field("tokenizer", tokenizer.FingerprintBytes());
  field("graph", graph);
  return hash.Finish();
}

}  // namespace eidetic::sdk

// The fingerprint of a model: what memory is bound to (rule 4).
#ifndef EIDETIC_SDK_FINGERPRINT_H_
#define EIDETIC_SDK_FINGERPRINT_H_

#include <string>

#include "model/tokenizer.h"

namespace eidetic::sdk {

// Hex SHA-256 over the hash of the model's files (file_hash.h), that of its adapter's, the
// tokenizer, and the model's rotary settings and graph version, which are `graph`
// (model::GraphFingerprint). Neither device nor the dtype of compute is in it. `adapter_hash`:
// empty without an adapter.
std::string Fingerprint(const std::string& weights_hash, const std::string& adapter_hash,
                        const model::Tokenizer& tokenizer, const std::string& graph);

}  // namespace eidetic::sdk

#endif  // EIDETIC_SDK_FINGERPRINT_H_

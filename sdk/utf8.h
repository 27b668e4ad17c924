// What of UTF-8 the SDK needs to check at its edge.
#ifndef EIDETIC_SDK_UTF8_H_
#define EIDETIC_SDK_UTF8_H_

#include <cstddef>
#include <string_view>

namespace eidetic::sdk {

// The offset of the first byte that begins no well-formed UTF-8 sequence (overlong forms,
// surrogates and values above U+10FFFF are not well-formed), or npos.
size_t FirstInvalidUtf8(std::string_view text);

}  // namespace eidetic::sdk

#endif  // EIDETIC_SDK_UTF8_H_

// The receipt of what was forgotten, as JSON (docs/reports.md).
#ifndef EIDETIC_SDK_FORGET_REPORT_H_
#define EIDETIC_SDK_FORGET_REPORT_H_

#include <string>

#include "memory/forget.h"

namespace eidetic::sdk {

std::string ForgetJson(const memory::ForgetReceipt& receipt);

}  // namespace eidetic::sdk

#endif  // EIDETIC_SDK_FORGET_REPORT_H_

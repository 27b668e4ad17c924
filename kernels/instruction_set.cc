#include "kernels/instruction_set.h"

namespace eidetic::kernels {

const char* InstructionSetName(InstructionSet set) {
  switch (set) {
    case InstructionSet::kPortable:
      return "portable";
    case InstructionSet::kAvx2:
      return "avx2";
    case InstructionSet::kAvx512:
      return "avx512";
  }
  return "unknown";
}

bool Supports(InstructionSet set) {
  if (set == InstructionSet::kPortable) return true;
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  if (set == InstructionSet::kAvx2) return avx2;
  return avx2 && __builtin_cpu_supports("avx512f");
#else
  return false;
#endif
}

InstructionSet BestInstructionSet() {
  static const InstructionSet best = Supports(InstructionSet::kAvx512) ? InstructionSet::kAvx512
                                     : Supports(InstructionSet::kAvx2) ? InstructionSet::kAvx2
                                                                       : InstructionSet::kPortable;
  return best;
}

}  // namespace eidetic::kernels

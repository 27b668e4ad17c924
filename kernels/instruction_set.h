// Which vector instructions the CPU has. One binary serves every machine: code for wider sets is
// compiled with target attributes and chosen at run time.
#ifndef EIDETIC_KERNELS_INSTRUCTION_SET_H_
#define EIDETIC_KERNELS_INSTRUCTION_SET_H_

namespace eidetic::kernels {

enum class InstructionSet {
  kPortable,  // plain C++
  kAvx2,      // AVX2, FMA and F16C
  kAvx512,    // AVX-512F beside these
};

const char* InstructionSetName(InstructionSet set);
bool Supports(InstructionSet set);
// The widest that this machine supports.
InstructionSet BestInstructionSet();

}  // namespace eidetic::kernels

#endif  // EIDETIC_KERNELS_INSTRUCTION_SET_H_

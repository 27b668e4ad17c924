# LibTorch as the wheel carries it, by imported targets of our own: find_package(Torch) wants a CUDA
# compiler even for CPU use and adds flags of its own.
#
# We link libtorch_cpu and libc10 alone. libtorch_cuda is opened at run time when a CUDA device is
# asked for (model/device.cc), so that one build serves machines with and without a GPU.
if(NOT EIDETIC_TORCH_ROOT OR NOT EXISTS "${EIDETIC_TORCH_ROOT}/torch/lib/libtorch_cpu.so")
  message(FATAL_ERROR "LibTorch was not found at EIDETIC_TORCH_ROOT='${EIDETIC_TORCH_ROOT}'. Run "
                      "scripts/setup: it installs the wheel and prints the folder to pass.")
endif()
set(EIDETIC_TORCH_LIB "${EIDETIC_TORCH_ROOT}/torch/lib")

foreach(name c10 torch_cpu)
  add_library(eidetic_${name} SHARED IMPORTED)
  set_target_properties(eidetic_${name} PROPERTIES
    IMPORTED_LOCATION "${EIDETIC_TORCH_LIB}/lib${name}.so" IMPORTED_NO_SONAME OFF)
endforeach()

add_library(eidetic_torch INTERFACE)
target_include_directories(eidetic_torch SYSTEM INTERFACE
  "${EIDETIC_TORCH_ROOT}/torch/include" "${EIDETIC_TORCH_ROOT}/torch/include/torch/csrc/api/include")
target_link_libraries(eidetic_torch INTERFACE OpenMP::OpenMP_CXX eidetic_torch_cpu eidetic_c10)
target_link_options(eidetic_torch INTERFACE "-Wl,-rpath-link,${EIDETIC_TORCH_LIB}"
                    "-Wl,-rpath-link,${EIDETIC_TORCH_ROOT}/nvidia/cu13/lib")
# One OpenMP runtime in the process: torch's own, also for our kernels and for FAISS. It has the
# soname of the system's, so whichever is loaded first serves all.
set_target_properties(OpenMP::OpenMP_CXX PROPERTIES
  INTERFACE_LINK_LIBRARIES "${EIDETIC_TORCH_LIB}/libgomp.so.1" INTERFACE_LINK_OPTIONS "")
set(CMAKE_BUILD_RPATH "${EIDETIC_TORCH_LIB}")

# How everything of ours is compiled: C++20, warnings are errors, hidden symbols, ccache and mold
# where they are installed.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/lib")
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/lib")
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

find_program(EIDETIC_CCACHE ccache)
if(EIDETIC_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${EIDETIC_CCACHE}")
  set(CMAKE_C_COMPILER_LAUNCHER "${EIDETIC_CCACHE}")
endif()
find_program(EIDETIC_MOLD mold)
if(EIDETIC_MOLD)
  # Code and data on pages of their own, as GNU ld has them: mold 1.10 lets the part that becomes
  # read-only begin at a thread-local variable of one byte (LibTorch's headers have one). When that
  # falls on the last bytes of a page of nothing, the program cannot be loaded: "cannot apply
  # additional memory protection after relocation".
  add_link_options(-fuse-ld=mold -Wl,-z,separate-code)
endif()

# The flags of every target of ours: link this PRIVATE.
add_library(eid_flags INTERFACE)
target_include_directories(eid_flags INTERFACE "${PROJECT_SOURCE_DIR}")
target_compile_options(eid_flags INTERFACE -Wall -Wextra -Werror -fno-math-errno)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # GCC 12 sees an overlap in `"text" + std::string()` that is not there (its bug 105651).
  target_compile_options(eid_flags INTERFACE -Wno-restrict)
endif()

if(EIDETIC_SANITIZE)
  # `vptr` asks for the type information of RocksDB's classes, which Debian's library leaves out. What
  # `null` would find ends the program under AddressSanitizer too, and `object-size` finds nothing
  # without the optimiser; the two are a third of the time to compile.
  add_link_options(-fsanitize=${EIDETIC_SANITIZE})
  target_compile_options(eid_flags INTERFACE -fsanitize=${EIDETIC_SANITIZE} -fno-sanitize=vptr,null,object-size
                         -fno-sanitize-recover=all -fno-omit-frame-pointer)
  # Every program carries its sanitizers' options, so that it needs none from the environment.
  target_sources(eid_flags INTERFACE
    "$<$<STREQUAL:$<TARGET_PROPERTY:TYPE>,EXECUTABLE>:${PROJECT_SOURCE_DIR}/tests/sanitizers/options.cc>")
endif()

# For code that is not hot and reads no bytes of files as numbers: sanitized, it compiles in half the
# time without the optimiser and without a check of alignment at every access.
function(eid_compile_quickly name)
  if(EIDETIC_SANITIZE)
    target_compile_options(${name} PRIVATE -O0 -fno-sanitize=alignment)
  endif()
endfunction()

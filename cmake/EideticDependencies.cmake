# Debian's packages. Each is found once here, as a target that the rest links by name.
find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(RocksDB REQUIRED CONFIG)
find_package(nlohmann_json REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)

find_library(EIDETIC_FAISS_LIBRARY faiss REQUIRED)
find_path(EIDETIC_FAISS_INCLUDE faiss/Index.h REQUIRED)
find_library(EIDETIC_OPENBLAS_LIBRARY NAMES openblas PATH_SUFFIXES openblas-openmp REQUIRED)
add_library(eidetic_faiss INTERFACE)
target_include_directories(eidetic_faiss SYSTEM INTERFACE "${EIDETIC_FAISS_INCLUDE}")
target_link_libraries(eidetic_faiss INTERFACE "${EIDETIC_FAISS_LIBRARY}"
                      "${EIDETIC_OPENBLAS_LIBRARY}" OpenMP::OpenMP_CXX)

if(EIDETIC_BUILD_MODEL)
  pkg_check_modules(pcre2 REQUIRED IMPORTED_TARGET libpcre2-8)
  find_package(CLI11 REQUIRED)
endif()
if(EIDETIC_BUILD_TESTS)
  find_package(GTest REQUIRED)
endif()

# `cmake --install`: the library with its C interface, its headers, the command line, and what lets
# CMake (find_package(eidetic)) and pkg-config find them. Everything is found relative to where it
# lies, so the folder may be moved, with one exception: LibTorch, which stays where it was.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(EIDETIC_TORCH_RPATH "${EIDETIC_TORCH_LIB}" CACHE PATH
    "Where the installed library looks for libtorch_cpu.so at run time")

file(RELATIVE_PATH from_bin_to_lib "${CMAKE_INSTALL_FULL_BINDIR}" "${CMAKE_INSTALL_FULL_LIBDIR}")
set_target_properties(eidetic PROPERTIES INSTALL_RPATH "$ORIGIN;${EIDETIC_TORCH_RPATH}")
set_target_properties(eidetic_cli PROPERTIES INSTALL_RPATH "$ORIGIN/${from_bin_to_lib}")

install(TARGETS eidetic LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}")
install(TARGETS eidetic_cli RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
install(DIRECTORY sdk/include/eidetic DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(FILES LICENSE NOTICE DESTINATION "${CMAKE_INSTALL_DOCDIR}")
install(DIRECTORY apps/examples DESTINATION "${CMAKE_INSTALL_DOCDIR}")

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/eidetic")
set(config_dir "${PROJECT_BINARY_DIR}/package")
configure_package_config_file(cmake/eidetic-config.cmake.in "${config_dir}/eidetic-config.cmake"
  INSTALL_DESTINATION "${package_dir}"
  PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_LIBDIR CMAKE_INSTALL_BINDIR)
# Until 1.0.0 a minor version may break the interface.
write_basic_package_version_file("${config_dir}/eidetic-config-version.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES "${config_dir}/eidetic-config.cmake" "${config_dir}/eidetic-config-version.cmake"
        DESTINATION "${package_dir}")

file(RELATIVE_PATH from_pc_to_prefix "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig"
     "${CMAKE_INSTALL_PREFIX}")
configure_file(cmake/eidetic.pc.in "${config_dir}/eidetic.pc" @ONLY)
install(FILES "${config_dir}/eidetic.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")

# What an installation holds: the library, its headers, a CMake package and a pkg-config file.
include(CMakePackageConfigHelpers)

install(TARGETS transfer_engine EXPORT TransferEngineTargets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES include/transfer_engine_c.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY include/transfer_engine DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

set(te_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/TransferEngine)
install(EXPORT TransferEngineTargets NAMESPACE TransferEngine:: DESTINATION ${te_package_dir})
configure_package_config_file(cmake/TransferEngineConfig.cmake.in
  ${PROJECT_BINARY_DIR}/TransferEngineConfig.cmake INSTALL_DESTINATION ${te_package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/TransferEngineConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/TransferEngineConfig.cmake
              ${PROJECT_BINARY_DIR}/TransferEngineConfigVersion.cmake
        DESTINATION ${te_package_dir})

# The file finds its prefix from where it lies, so an installation may be moved.
file(RELATIVE_PATH te_prefix_from_pc ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
configure_file(cmake/transfer_engine.pc.in ${PROJECT_BINARY_DIR}/transfer_engine.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/transfer_engine.pc
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# find_package(sori) gives the targets sori::sori (shared) and sori::static.

get_filename_component(_sori_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)

if(NOT TARGET sori::sori)
  add_library(sori::sori SHARED IMPORTED)
  set_target_properties(sori::sori PROPERTIES
    IMPORTED_LOCATION "${_sori_prefix}/lib/libsori${CMAKE_SHARED_LIBRARY_SUFFIX}"
    INTERFACE_INCLUDE_DIRECTORIES "${_sori_prefix}/include/sori")
endif()

if(NOT TARGET sori::static AND EXISTS "${_sori_prefix}/lib/libsori.a")
  find_package(Threads REQUIRED)
  add_library(sori::static STATIC IMPORTED)
  set_target_properties(sori::static PROPERTIES
    IMPORTED_LOCATION "${_sori_prefix}/lib/libsori.a"
    INTERFACE_INCLUDE_DIRECTORIES "${_sori_prefix}/include/sori"
    INTERFACE_LINK_LIBRARIES "Threads::Threads;${CMAKE_DL_LIBS};m")
endif()

unset(_sori_prefix)

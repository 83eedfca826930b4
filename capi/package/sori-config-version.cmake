# Versions that begin alike fit: 0.1.x for 0.1.
set(PACKAGE_VERSION "@version@")
string(REGEX MATCH "^[0-9]+\\.[0-9]+" _sori_has "${PACKAGE_VERSION}")
string(REGEX MATCH "^[0-9]+\\.[0-9]+" _sori_wants "${PACKAGE_FIND_VERSION}")
if(NOT PACKAGE_FIND_VERSION OR
   (_sori_has STREQUAL _sori_wants AND NOT PACKAGE_VERSION VERSION_LESS PACKAGE_FIND_VERSION))
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
endif()
if(PACKAGE_VERSION STREQUAL "${PACKAGE_FIND_VERSION}")
  set(PACKAGE_VERSION_EXACT TRUE)
endif()
unset(_sori_has)
unset(_sori_wants)

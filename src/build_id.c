#include "build_id.h"

/* Both come from CMake. */
const char *lam_build_id(void) { return LAMELLA_BUILD_ID " " LAMELLA_FLAVOUR; }

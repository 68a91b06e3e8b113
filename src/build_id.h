#pragma once
#include "api.h"
/* "HASH FLAVOUR": the hash of the sources this library was built from, so that a loader can tell that it has found another
 * version's file, and simd, relaxed or native. */
LAM_API const char *lam_build_id(void);

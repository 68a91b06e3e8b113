/* The number formats of a checkpoint. All arithmetic is f32; these convert on the way in. */
#pragma once
#include <stddef.h>
#include "lamella.h"

size_t dtype_bytes(lam_type type);           /* of one element; 0 for an unknown type */
/* dst [n] = src [n] of `type`, rounded to nearest where f32 holds less (F64, I64, I32). NaN and infinities stay. */
void dtype_to_f32(float *dst, lam_type type, const void *src, size_t n);

/* Error texts without printf, which would double the size of the .wasm. */
#pragma once
#include <stdarg.h>
#include <stddef.h>

typedef struct lam_shape lam_shape;

/* Writes at most size - 1 characters and a NUL. %s string, %d int, %v const lam_shape * as "[2, ?, 64]", %% percent. */
void text_format(char *text, size_t size, const char *format, ...);
void text_format_list(char *text, size_t size, const char *format, va_list arguments);

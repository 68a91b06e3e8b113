/* Milliseconds since some fixed moment. In the .wasm it is the import env.clock_milliseconds, so that the host decides what a clock
 * is; natively clock.c reads the monotonic clock. */
#pragma once
#ifdef __wasm__
__attribute__((import_module("env"), import_name("clock_milliseconds")))
#endif
double clock_milliseconds(void);

/* Milliseconds since some fixed moment. The host of the wasm module supplies it; natively it is the monotonic clock. */
#pragma once
double clock_milliseconds(void);

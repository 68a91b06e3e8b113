/* LAM_API marks what the library exports: the attribute keeps the function in the .wasm, so there is no list of exports. */
#pragma once
#define LAM_API __attribute__((visibility("default"), used))

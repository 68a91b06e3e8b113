# CMake's view of Emscripten, without the one that Emscripten brings: the same for an emcc on PATH and for the private one.
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR wasm32)
set(EMSCRIPTEN TRUE)
set(CMAKE_C_COMPILER emcc)
set(CMAKE_C_COMPILER_WORKS TRUE)
set(CMAKE_EXECUTABLE_SUFFIX_C .wasm)

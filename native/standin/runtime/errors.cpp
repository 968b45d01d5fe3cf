// Names of errors, and each thread's last one.
#include "driver.h"

using namespace standin_runtime;

cudaError_t cudaGetLastError() { return take_last(); }
cudaError_t cudaPeekAtLastError() { return peek_last(); }

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
#define ERROR(name) \
  case name:        \
    return #name;
#include "errors.def"
#undef ERROR
  }
  return "unrecognized error code";
}

// The driver's words, where its errors are the same; they say that it is a stand-in.
const char* cudaGetErrorString(cudaError_t error) {
  const char* text = nullptr;
  cudaError_t ready;
  const Driver& calls = driver(&ready);
  if (calls.cuGetErrorString != nullptr) calls.cuGetErrorString(static_cast<CUresult>(error), &text);
  return text != nullptr ? text : cudaGetErrorName(error);
}

// The driver, found as programs find it: dlopen, dlsym of cuGetProcAddress, and all else from there. So
// whoever stands in between, by preloading or by wrapping what cuGetProcAddress returns, sees every call.
#pragma once

#include <cuda.h>
#include <cudaTypedefs.h>

#include "api.h"

namespace standin_runtime {

// Their header is not in the wheels.
using PFN_cuProfilerStart_v4000 = CUresult (*)();
using PFN_cuProfilerStop_v4000 = CUresult (*)();

struct Driver {
#define CALL(name, version) PFN_##name##_v##version name = nullptr;
#include "driver.def"
#undef CALL
};

// Loads and initialises it on the first call. What it answered is in `result`, then and later.
const Driver& driver(cudaError_t* result);

// --- core.cpp
// --------------------------------------------------------------------------------------------------------

// Driver initialised, and a context current: of this thread's device, unless the program has chosen one.
cudaError_t prepare();
// The device of this thread.
cudaError_t current_device(CUdevice* device);
// The primary context of a device, retained once for the whole process.
cudaError_t context_of(int device, CUcontext* out);
// Makes it this thread's.
cudaError_t choose_device(int device);
// Its context and all in it is gone.
cudaError_t reset_device(int device);

// Remembers an error for cudaGetLastError, and returns it.
cudaError_t keep(cudaError_t result);
int refuse();  // with cudaErrorNotSupported
cudaError_t take_last();
cudaError_t peek_last();

// The driver's errors have the runtime's numbers.
inline cudaError_t from(CUresult result) { return static_cast<cudaError_t>(result); }

// Calls a function of the driver whose parameters are the runtime's under other names: streams, handles and
// enumerations are the same ones, and a device pointer is a number there.
template <typename... P, typename... A>
cudaError_t try_call(CUresult (*Driver::*function)(P...), A... arguments) {
  cudaError_t ready;
  auto found = driver(&ready).*function;
  if (ready != cudaSuccess) return ready;
  if (found == nullptr) return cudaErrorNotSupported;
  return from(found((P)arguments...));
}

// The same in a context, keeping the error.
template <typename... P, typename... A>
cudaError_t call(CUresult (*Driver::*function)(P...), A... arguments) {
  cudaError_t ready = prepare();
  return keep(ready != cudaSuccess ? ready : try_call(function, arguments...));
}

// For what asks about a device and needs no context.
template <typename... P, typename... A>
cudaError_t ask(CUresult (*Driver::*function)(P...), A... arguments) {
  return keep(try_call(function, arguments...));
}

// The stream that a per-thread form means.
inline cudaStream_t per_thread(cudaStream_t stream) {
  return stream == nullptr ? cudaStreamPerThread : stream;
}

// --- images.cpp
// ------------------------------------------------------------------------------------------------------

// A function of the program, or a handle that the runtime gave out, as the driver's.
cudaError_t kernel_of(const void* function, CUfunction* out);
void know_kernel(CUkernel kernel);
// A variable of the program, on the device.
cudaError_t variable_of(const void* symbol, CUdeviceptr* address, size_t* size);

}  // namespace standin_runtime

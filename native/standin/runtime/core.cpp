// Which device and which context a thread uses, and the last error of each.
#include <pthread.h>

#include "driver.h"

namespace standin_runtime {
namespace {

constexpr int kMostDevices = 64;

thread_local int chosen = 0;
thread_local cudaError_t last = cudaSuccess;

pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
CUcontext retained[kMostDevices];

}  // namespace

cudaError_t context_of(int device, CUcontext* out) {
  if (device < 0 || device >= kMostDevices) return cudaErrorInvalidDevice;
  pthread_mutex_lock(&mutex);
  cudaError_t result = cudaSuccess;
  if (retained[device] == nullptr)
    result = try_call(&Driver::cuDevicePrimaryCtxRetain, &retained[device], device);
  *out = retained[device];
  pthread_mutex_unlock(&mutex);
  return result;
}

cudaError_t keep(cudaError_t result) {
  if (result != cudaSuccess) last = result;
  return result;
}

int refuse() { return keep(cudaErrorNotSupported); }

cudaError_t take_last() {
  cudaError_t was = last;
  last = cudaSuccess;
  return was;
}

cudaError_t peek_last() { return last; }

cudaError_t prepare() {
  CUcontext context = nullptr;
  cudaError_t result = try_call(&Driver::cuCtxGetCurrent, &context);
  if (result != cudaSuccess || context != nullptr) return result;
  return choose_device(chosen);
}

cudaError_t current_device(CUdevice* device) {
  CUcontext context = nullptr;
  cudaError_t result = try_call(&Driver::cuCtxGetCurrent, &context);
  if (result == cudaSuccess && context != nullptr) return try_call(&Driver::cuCtxGetDevice, device);
  *device = chosen;
  return result;
}

cudaError_t choose_device(int device) {
  CUcontext context = nullptr;
  cudaError_t result = context_of(device, &context);
  if (result == cudaSuccess) result = try_call(&Driver::cuCtxSetCurrent, context);
  if (result == cudaSuccess) chosen = device;
  return result;
}

cudaError_t reset_device(int device) {
  if (device < 0 || device >= kMostDevices) return cudaErrorInvalidDevice;
  pthread_mutex_lock(&mutex);
  if (retained[device] != nullptr) try_call(&Driver::cuDevicePrimaryCtxRelease, device);
  retained[device] = nullptr;
  pthread_mutex_unlock(&mutex);
  cudaError_t result = try_call(&Driver::cuDevicePrimaryCtxReset, device);
  try_call(&Driver::cuCtxSetCurrent, nullptr);
  return result;
}

}  // namespace standin_runtime

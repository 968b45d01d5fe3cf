// Devices, their limits, and the driver behind them.
#include "driver.h"

using namespace standin_runtime;

namespace {

// For a function of the driver that is about a device which the runtime's form leaves out.
template <typename Then>
cudaError_t with_device(Then then) {
  CUdevice device = 0;
  cudaError_t result = current_device(&device);
  return result != cudaSuccess ? keep(result) : then(device);
}

}  // namespace

cudaError_t cudaGetDeviceCount(int* count) {
  if (count != nullptr) *count = 0;
  cudaError_t result = ask(&Driver::cuDeviceGetCount, count);
  return result == cudaSuccess && *count == 0 ? keep(cudaErrorNoDevice) : result;
}

cudaError_t cudaGetDevice(int* device) {
  if (device == nullptr) return keep(cudaErrorInvalidValue);
  return with_device([=](CUdevice current) {
    *device = current;
    return cudaSuccess;
  });
}

cudaError_t cudaSetDevice(int device) {
  int count = 0;
  cudaError_t result = cudaGetDeviceCount(&count);
  if (result != cudaSuccess) return result;
  if (device < 0 || device >= count) return keep(cudaErrorInvalidDevice);
  return keep(choose_device(device));
}

cudaError_t cudaInitDevice(int device, unsigned flags, unsigned use_flags) {
  cudaError_t result = cudaSuccess;
  if ((use_flags & cudaInitDeviceFlagsAreValid) != 0)
    result = ask(&Driver::cuDevicePrimaryCtxSetFlags, device, flags);
  CUcontext unused = nullptr;
  return result != cudaSuccess ? result : keep(context_of(device, &unused));
}

cudaError_t cudaSetValidDevices(int* devices, int count) {
  if (count > 0 && devices == nullptr) return keep(cudaErrorInvalidValue);
  int there = 0;
  cudaError_t result = cudaGetDeviceCount(&there);
  for (int i = 0; result == cudaSuccess && i < count; ++i)
    if (devices[i] < 0 || devices[i] >= there) return keep(cudaErrorInvalidDevice);
  return result != cudaSuccess || count == 0 ? result : keep(choose_device(devices[0]));
}

cudaError_t cudaDeviceSynchronize() { return call(&Driver::cuCtxSynchronize); }

cudaError_t cudaDeviceReset() {
  return with_device([](CUdevice device) { return keep(reset_device(device)); });
}

cudaError_t cudaSetDeviceFlags(unsigned flags) {
  return with_device([=](CUdevice device) {
    // What the runtime adds itself is not the driver's.
    return ask(&Driver::cuDevicePrimaryCtxSetFlags, device,
               flags & cudaDeviceMask & ~unsigned{cudaDeviceMapHost});
  });
}

cudaError_t cudaGetDeviceFlags(unsigned* flags) {
  return with_device([=](CUdevice device) {
    int active = 0;
    cudaError_t result = ask(&Driver::cuDevicePrimaryCtxGetState, device, flags, &active);
    if (result == cudaSuccess) *flags |= cudaDeviceMapHost;
    return result;
  });
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  return ask(&Driver::cuDeviceGetAttribute, value, attribute, device);
}

cudaError_t cudaDeviceGetPCIBusId(char* bus, int length, int device) {
  return ask(&Driver::cuDeviceGetPCIBusId, bus, length, device);
}

cudaError_t cudaDeviceGetByPCIBusId(int* device, const char* bus) {
  return ask(&Driver::cuDeviceGetByPCIBusId, device, bus);
}

cudaError_t cudaDeviceGetLimit(size_t* value, cudaLimit limit) {
  return call(&Driver::cuCtxGetLimit, value, limit);
}

cudaError_t cudaDeviceSetLimit(cudaLimit limit, size_t value) {
  return call(&Driver::cuCtxSetLimit, limit, value);
}

cudaError_t cudaDeviceGetCacheConfig(cudaFuncCache* config) {
  return call(&Driver::cuCtxGetCacheConfig, config);
}
cudaError_t cudaDeviceSetCacheConfig(cudaFuncCache config) {
  return call(&Driver::cuCtxSetCacheConfig, config);
}

cudaError_t cudaDeviceGetSharedMemConfig(cudaSharedMemConfig* config) {
  return call(&Driver::cuCtxGetSharedMemConfig, config);
}

cudaError_t cudaDeviceSetSharedMemConfig(cudaSharedMemConfig config) {
  return call(&Driver::cuCtxSetSharedMemConfig, config);
}

cudaError_t cudaCtxResetPersistingL2Cache() { return call(&Driver::cuCtxResetPersistingL2Cache); }

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  return call(&Driver::cuCtxGetStreamPriorityRange, least, greatest);
}

cudaError_t cudaDeviceFlushGPUDirectRDMAWrites(cudaFlushGPUDirectRDMAWritesTarget target,
                                               cudaFlushGPUDirectRDMAWritesScope scope) {
  return call(&Driver::cuFlushGPUDirectRDMAWrites, target, scope);
}

// --- peers
// -----------------------------------------------------------------------------------------------------------

cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  return ask(&Driver::cuDeviceCanAccessPeer, can, device, peer);
}

cudaError_t cudaDeviceGetP2PAttribute(int* value, cudaDeviceP2PAttr attribute, int source, int target) {
  return ask(&Driver::cuDeviceGetP2PAttribute, value, attribute, source, target);
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags) {
  CUcontext theirs = nullptr;
  cudaError_t result = keep(context_of(peer, &theirs));
  return result != cudaSuccess ? result : call(&Driver::cuCtxEnablePeerAccess, theirs, flags);
}

cudaError_t cudaDeviceDisablePeerAccess(int peer) {
  CUcontext theirs = nullptr;
  cudaError_t result = keep(context_of(peer, &theirs));
  return result != cudaSuccess ? result : call(&Driver::cuCtxDisablePeerAccess, theirs);
}

// --- the driver
// ------------------------------------------------------------------------------------------------------

cudaError_t cudaDriverGetVersion(int* version) {
  if (version == nullptr) return keep(cudaErrorInvalidValue);
  *version = 0;  // without a driver that is the answer, and no error
  cudaError_t ready;
  const Driver& calls = driver(&ready);
  return calls.cuDriverGetVersion != nullptr ? keep(from(calls.cuDriverGetVersion(version))) : cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  if (version == nullptr) return keep(cudaErrorInvalidValue);
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned version,
                                             unsigned long long flags,
                                             cudaDriverEntryPointQueryResult* status) {
  return ask(&Driver::cuGetProcAddress, symbol, function, version, flags, status);
}

cudaError_t cudaGetDriverEntryPoint(const char* symbol, void** function, unsigned long long flags,
                                    cudaDriverEntryPointQueryResult* status) {
  return cudaGetDriverEntryPointByVersion(symbol, function, CUDART_VERSION, flags, status);
}

cudaError_t cudaGetDriverEntryPointByVersion_ptsz(const char* symbol, void** function, unsigned version,
                                                  unsigned long long flags,
                                                  cudaDriverEntryPointQueryResult* status) {
  if (flags == cudaEnableDefault) flags = cudaEnablePerThreadDefaultStream;
  return cudaGetDriverEntryPointByVersion(symbol, function, version, flags, status);
}

cudaError_t cudaGetDriverEntryPoint_ptsz(const char* symbol, void** function, unsigned long long flags,
                                         cudaDriverEntryPointQueryResult* status) {
  return cudaGetDriverEntryPointByVersion_ptsz(symbol, function, CUDART_VERSION, flags, status);
}

cudaError_t cudaProfilerStart() { return call(&Driver::cuProfilerStart); }
cudaError_t cudaProfilerStop() { return call(&Driver::cuProfilerStop); }

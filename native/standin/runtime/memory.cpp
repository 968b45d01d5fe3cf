// Memory: of the device, managed, pinned, of other processes.
#include <cstring>

#include "driver.h"

using namespace standin_runtime;

// --- device
// ----------------------------------------------------------------------------------------------------------

cudaError_t cudaMalloc(void** address, size_t bytes) {
  if (address == nullptr) return keep(cudaErrorInvalidValue);
  if (bytes != 0) return call(&Driver::cuMemAlloc, address, bytes);
  *address = nullptr;
  return keep(prepare());
}

cudaError_t cudaFree(void* address) {
  return address != nullptr ? call(&Driver::cuMemFree, address) : keep(prepare());
}

cudaError_t cudaMallocPitch(void** address, size_t* pitch, size_t width, size_t height) {
  if (address == nullptr || pitch == nullptr) return keep(cudaErrorInvalidValue);
  if (width != 0 && height != 0) return call(&Driver::cuMemAllocPitch, address, pitch, width, height, 4);
  *address = nullptr;
  *pitch = 0;
  return keep(prepare());
}

cudaError_t cudaMalloc3D(cudaPitchedPtr* out, cudaExtent extent) {
  if (out == nullptr) return keep(cudaErrorInvalidValue);
  *out = {nullptr, 0, extent.width, extent.height};
  return cudaMallocPitch(&out->ptr, &out->pitch, extent.width, extent.height * extent.depth);
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) { return call(&Driver::cuMemGetInfo, free, total); }

// --- managed
// ---------------------------------------------------------------------------------------------------------

cudaError_t cudaMallocManaged(void** address, size_t bytes, unsigned flags) {
  return call(&Driver::cuMemAllocManaged, address, bytes, flags);
}

namespace {

CUmemLocation location_of(cudaMemLocation location) {
  CUmemLocation theirs = {};
  theirs.type = static_cast<CUmemLocationType>(location.type);
  theirs.id = location.id;
  return theirs;
}

}  // namespace

cudaError_t cudaMemAdvise(const void* address, size_t bytes, cudaMemoryAdvise advice,
                          cudaMemLocation location) {
  return call(&Driver::cuMemAdvise, address, bytes, advice, location_of(location));
}

cudaError_t cudaMemPrefetchAsync(const void* address, size_t bytes, cudaMemLocation location, unsigned flags,
                                 cudaStream_t stream) {
  return call(&Driver::cuMemPrefetchAsync, address, bytes, location_of(location), flags, stream);
}

cudaError_t cudaMemRangeGetAttribute(void* data, size_t size, cudaMemRangeAttribute attribute,
                                     const void* address, size_t bytes) {
  return call(&Driver::cuMemRangeGetAttribute, data, size, attribute, address, bytes);
}

cudaError_t cudaMemRangeGetAttributes(void** data, size_t* sizes, cudaMemRangeAttribute* attributes,
                                      size_t count, const void* address, size_t bytes) {
  return call(&Driver::cuMemRangeGetAttributes, data, sizes, attributes, count, address, bytes);
}

// --- of the host
// -----------------------------------------------------------------------------------------------------

cudaError_t cudaHostAlloc(void** address, size_t bytes, unsigned flags) {
  if (address == nullptr) return keep(cudaErrorInvalidValue);
  if (bytes != 0) return call(&Driver::cuMemHostAlloc, address, bytes, flags);
  *address = nullptr;
  return keep(prepare());
}

cudaError_t cudaMallocHost(void** address, size_t bytes) { return cudaHostAlloc(address, bytes, 0); }

cudaError_t cudaFreeHost(void* address) {
  return address != nullptr ? call(&Driver::cuMemFreeHost, address) : keep(prepare());
}

cudaError_t cudaHostRegister(void* address, size_t bytes, unsigned flags) {
  return call(&Driver::cuMemHostRegister, address, bytes, flags);
}

cudaError_t cudaHostUnregister(void* address) { return call(&Driver::cuMemHostUnregister, address); }

cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned flags) {
  return call(&Driver::cuMemHostGetDevicePointer, device, host, flags);
}

cudaError_t cudaHostGetFlags(unsigned* flags, void* host) {
  return call(&Driver::cuMemHostGetFlags, flags, host);
}

// --- whose it is
// -----------------------------------------------------------------------------------------------------

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* out, const void* address) {
  if (out == nullptr) return keep(cudaErrorInvalidValue);
  unsigned kind = 0, managed = 0;
  int device = -1;
  void *on_device = nullptr, *on_host = nullptr;
  CUpointer_attribute asked[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_IS_MANAGED,
                                 CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, CU_POINTER_ATTRIBUTE_DEVICE_POINTER,
                                 CU_POINTER_ATTRIBUTE_HOST_POINTER};
  void* answers[] = {&kind, &managed, &device, &on_device, &on_host};
  cudaError_t result = call(&Driver::cuPointerGetAttributes, 5, asked, answers, address);
  if (result != cudaSuccess) return result;
  *out = {};
  out->type = managed                        ? cudaMemoryTypeManaged
              : kind == CU_MEMORYTYPE_HOST   ? cudaMemoryTypeHost
              : kind == CU_MEMORYTYPE_DEVICE ? cudaMemoryTypeDevice
                                             : cudaMemoryTypeUnregistered;
  bool known = out->type != cudaMemoryTypeUnregistered;
  out->device = known ? device : -1;
  out->devicePointer = known ? on_device : nullptr;
  out->hostPointer = known ? on_host : const_cast<void*>(address);
  return cudaSuccess;
}

// --- of other processes
// ----------------------------------------------------------------------------------------------

cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t* handle, void* address) {
  return call(&Driver::cuIpcGetMemHandle, handle, address);
}

cudaError_t cudaIpcOpenMemHandle(void** address, cudaIpcMemHandle_t handle, unsigned flags) {
  CUipcMemHandle theirs;
  static_assert(sizeof(theirs) == sizeof(handle));
  memcpy(&theirs, &handle, sizeof(theirs));
  return call(&Driver::cuIpcOpenMemHandle, address, theirs, flags);
}

cudaError_t cudaIpcCloseMemHandle(void* address) { return call(&Driver::cuIpcCloseMemHandle, address); }

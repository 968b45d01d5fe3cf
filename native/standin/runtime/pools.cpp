// Memory in the order of a stream, and the pools that it comes from.
#include "driver.h"

using namespace standin_runtime;

cudaError_t cudaMallocAsync(void** address, size_t bytes, cudaStream_t stream) {
  if (address == nullptr) return keep(cudaErrorInvalidValue);
  if (bytes != 0) return call(&Driver::cuMemAllocAsync, address, bytes, stream);
  *address = nullptr;
  return keep(prepare());
}

cudaError_t cudaMallocFromPoolAsync(void** address, size_t bytes, cudaMemPool_t pool, cudaStream_t stream) {
  if (address == nullptr) return keep(cudaErrorInvalidValue);
  if (bytes != 0) return call(&Driver::cuMemAllocFromPoolAsync, address, bytes, pool, stream);
  *address = nullptr;
  return keep(prepare());
}

cudaError_t cudaFreeAsync(void* address, cudaStream_t stream) {
  return address != nullptr ? call(&Driver::cuMemFreeAsync, address, stream) : keep(prepare());
}

cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps* properties) {
  static_assert(sizeof(cudaMemPoolProps) == sizeof(CUmemPoolProps));
  return call(&Driver::cuMemPoolCreate, pool, properties);
}

cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) { return call(&Driver::cuMemPoolDestroy, pool); }

cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t keep_bytes) {
  return call(&Driver::cuMemPoolTrimTo, pool, keep_bytes);
}

cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  return call(&Driver::cuMemPoolGetAttribute, pool, attribute, value);
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  return call(&Driver::cuMemPoolSetAttribute, pool, attribute, value);
}

cudaError_t cudaMemPoolGetAccess(cudaMemAccessFlags* flags, cudaMemPool_t pool, cudaMemLocation* location) {
  return call(&Driver::cuMemPoolGetAccess, flags, pool, location);
}

cudaError_t cudaMemPoolSetAccess(cudaMemPool_t pool, const cudaMemAccessDesc* list, size_t count) {
  static_assert(sizeof(cudaMemAccessDesc) == sizeof(CUmemAccessDesc));
  return call(&Driver::cuMemPoolSetAccess, pool, list, count);
}

cudaError_t cudaMemPoolExportToShareableHandle(void* handle, cudaMemPool_t pool,
                                               cudaMemAllocationHandleType type, unsigned flags) {
  return call(&Driver::cuMemPoolExportToShareableHandle, handle, pool, type, flags);
}

cudaError_t cudaMemPoolImportFromShareableHandle(cudaMemPool_t* pool, void* handle,
                                                 cudaMemAllocationHandleType type, unsigned flags) {
  return call(&Driver::cuMemPoolImportFromShareableHandle, pool, handle, type, flags);
}

cudaError_t cudaMemPoolExportPointer(cudaMemPoolPtrExportData* data, void* address) {
  return call(&Driver::cuMemPoolExportPointer, data, address);
}

cudaError_t cudaMemPoolImportPointer(void** address, cudaMemPool_t pool, cudaMemPoolPtrExportData* data) {
  return call(&Driver::cuMemPoolImportPointer, address, pool, data);
}

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device) {
  return ask(&Driver::cuDeviceGetDefaultMemPool, pool, device);
}

cudaError_t cudaDeviceGetMemPool(cudaMemPool_t* pool, int device) {
  return ask(&Driver::cuDeviceGetMemPool, pool, device);
}

cudaError_t cudaDeviceSetMemPool(int device, cudaMemPool_t pool) {
  return ask(&Driver::cuDeviceSetMemPool, device, pool);
}

cudaError_t cudaMemGetDefaultMemPool(cudaMemPool_t* pool, cudaMemLocation* location,
                                     cudaMemAllocationType type) {
  return ask(&Driver::cuMemGetDefaultMemPool, pool, location, type);
}

cudaError_t cudaMemGetMemPool(cudaMemPool_t* pool, cudaMemLocation* location, cudaMemAllocationType type) {
  return ask(&Driver::cuMemGetMemPool, pool, location, type);
}

cudaError_t cudaMemSetMemPool(cudaMemLocation* location, cudaMemAllocationType type, cudaMemPool_t pool) {
  return ask(&Driver::cuMemSetMemPool, location, type, pool);
}

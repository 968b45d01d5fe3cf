// Copies: in one, two and three dimensions, to and from variables, now and in the order of a stream.
#include "copies.h"

namespace standin_runtime {
namespace {

bool known(cudaMemcpyKind kind) { return kind >= cudaMemcpyHostToHost && kind <= cudaMemcpyDefault; }

CUmemorytype source_type(cudaMemcpyKind kind) {
  if (kind == cudaMemcpyDefault) return CU_MEMORYTYPE_UNIFIED;
  bool host = kind == cudaMemcpyHostToHost || kind == cudaMemcpyHostToDevice;
  return host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
}

CUmemorytype target_type(cudaMemcpyKind kind) {
  if (kind == cudaMemcpyDefault) return CU_MEMORYTYPE_UNIFIED;
  bool host = kind == cudaMemcpyHostToHost || kind == cudaMemcpyDeviceToHost;
  return host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
}

// One side of a copy: memory with a pitch, or an array.
struct Side {
  CUmemorytype type;
  const void* memory;
  size_t pitch;
  cudaArray_const_t array;
  size_t x_bytes, y;
};

Side in_memory(CUmemorytype type, const void* memory, size_t pitch) {
  return {type, memory, pitch, nullptr, 0, 0};
}

Side in_array(cudaArray_const_t array, size_t x_bytes, size_t y) {
  return {CU_MEMORYTYPE_ARRAY, nullptr, 0, array, x_bytes, y};
}

CUarray handle_of(cudaArray_const_t array) { return (CUarray)array; }
CUdeviceptr device_pointer(const void* memory) { return reinterpret_cast<CUdeviceptr>(memory); }

CUDA_MEMCPY2D describe(const Side& to, const Side& from, size_t width, size_t height) {
  CUDA_MEMCPY2D copy = {};
  copy.srcXInBytes = from.x_bytes;
  copy.srcY = from.y;
  copy.srcMemoryType = from.type;
  copy.srcHost = from.memory;
  copy.srcDevice = device_pointer(from.memory);
  copy.srcArray = handle_of(from.array);
  copy.srcPitch = from.pitch;
  copy.dstXInBytes = to.x_bytes;
  copy.dstY = to.y;
  copy.dstMemoryType = to.type;
  copy.dstHost = const_cast<void*>(to.memory);
  copy.dstDevice = device_pointer(to.memory);
  copy.dstArray = handle_of(to.array);
  copy.dstPitch = to.pitch;
  copy.WidthInBytes = width;
  copy.Height = height;
  return copy;
}

// At once where there is no stream.
cudaError_t copy_rows(const Side& to, const Side& from, size_t width, size_t height, cudaMemcpyKind kind,
                      const cudaStream_t* stream) {
  if (!known(kind)) return keep(cudaErrorInvalidMemcpyDirection);
  if (width == 0 || height == 0) return keep(prepare());
  CUDA_MEMCPY2D copy = describe(to, from, width, height);
  if (stream == nullptr) return call(&Driver::cuMemcpy2DUnaligned, &copy);
  return call(&Driver::cuMemcpy2DAsync, &copy, *stream);
}

// Where a variable of the program lies, if it has so many bytes there.
cudaError_t inside(const void* symbol, size_t offset, size_t bytes, void** out) {
  CUdeviceptr address = 0;
  size_t size = 0;
  cudaError_t result = variable_of(symbol, &address, &size);
  if (result != cudaSuccess) return keep(result);
  if (offset > size || bytes > size - offset) return keep(cudaErrorInvalidValue);
  *out = reinterpret_cast<void*>(address + offset);
  return cudaSuccess;
}

}  // namespace

cudaError_t describe(const cudaMemcpy3DParms& copy, CUDA_MEMCPY3D* out) {
  if (!known(copy.kind)) return cudaErrorInvalidMemcpyDirection;
  // With an array in it, a copy counts elements across; in memory, positions stay bytes.
  size_t source_unit = 1, target_unit = 1;
  cudaError_t result = cudaSuccess;
  if (copy.srcArray != nullptr) result = element_bytes(copy.srcArray, &source_unit);
  if (result == cudaSuccess && copy.dstArray != nullptr) result = element_bytes(copy.dstArray, &target_unit);
  *out = {};
  out->srcXInBytes = copy.srcPos.x * source_unit;
  out->srcY = copy.srcPos.y;
  out->srcZ = copy.srcPos.z;
  out->srcMemoryType = copy.srcArray != nullptr ? CU_MEMORYTYPE_ARRAY : source_type(copy.kind);
  out->srcHost = copy.srcPtr.ptr;
  out->srcDevice = device_pointer(copy.srcPtr.ptr);
  out->srcArray = handle_of(copy.srcArray);
  out->srcPitch = copy.srcPtr.pitch;
  out->srcHeight = copy.srcPtr.ysize;
  out->dstXInBytes = copy.dstPos.x * target_unit;
  out->dstY = copy.dstPos.y;
  out->dstZ = copy.dstPos.z;
  out->dstMemoryType = copy.dstArray != nullptr ? CU_MEMORYTYPE_ARRAY : target_type(copy.kind);
  out->dstHost = copy.dstPtr.ptr;
  out->dstDevice = device_pointer(copy.dstPtr.ptr);
  out->dstArray = handle_of(copy.dstArray);
  out->dstPitch = copy.dstPtr.pitch;
  out->dstHeight = copy.dstPtr.ysize;
  out->WidthInBytes = copy.extent.width * (source_unit > target_unit ? source_unit : target_unit);
  out->Height = copy.extent.height;
  out->Depth = copy.extent.depth;
  return result;
}

}  // namespace standin_runtime

using namespace standin_runtime;

// --- one dimension
// ---------------------------------------------------------------------------------------------------

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  if (!known(kind)) return keep(cudaErrorInvalidMemcpyDirection);
  if (bytes == 0) return keep(prepare());
  switch (kind) {
    case cudaMemcpyHostToDevice:
      return call(&Driver::cuMemcpyHtoD, to, from, bytes);
    case cudaMemcpyDeviceToHost:
      return call(&Driver::cuMemcpyDtoH, to, from, bytes);
    case cudaMemcpyDeviceToDevice:
      return call(&Driver::cuMemcpyDtoD, to, from, bytes);
    default:
      return call(&Driver::cuMemcpy, to, from, bytes);
  }
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (!known(kind)) return keep(cudaErrorInvalidMemcpyDirection);
  if (bytes == 0) return keep(prepare());
  switch (kind) {
    case cudaMemcpyHostToDevice:
      return call(&Driver::cuMemcpyHtoDAsync, to, from, bytes, stream);
    case cudaMemcpyDeviceToHost:
      return call(&Driver::cuMemcpyDtoHAsync, to, from, bytes, stream);
    case cudaMemcpyDeviceToDevice:
      return call(&Driver::cuMemcpyDtoDAsync, to, from, bytes, stream);
    default:
      return call(&Driver::cuMemcpyAsync, to, from, bytes, stream);
  }
}

cudaError_t cudaMemcpyPeer(void* to, int to_device, const void* from, int from_device, size_t bytes) {
  CUcontext theirs = nullptr, ours = nullptr;
  cudaError_t result = context_of(to_device, &theirs);
  if (result == cudaSuccess) result = context_of(from_device, &ours);
  return result != cudaSuccess ? keep(result) : call(&Driver::cuMemcpyPeer, to, theirs, from, ours, bytes);
}

cudaError_t cudaMemcpyPeerAsync(void* to, int to_device, const void* from, int from_device, size_t bytes,
                                cudaStream_t stream) {
  CUcontext theirs = nullptr, ours = nullptr;
  cudaError_t result = context_of(to_device, &theirs);
  if (result == cudaSuccess) result = context_of(from_device, &ours);
  if (result != cudaSuccess) return keep(result);
  return call(&Driver::cuMemcpyPeerAsync, to, theirs, from, ours, bytes, stream);
}

// --- variables of the program
// ----------------------------------------------------------------------------------------

cudaError_t cudaGetSymbolAddress(void** address, const void* symbol) {
  CUdeviceptr found = 0;
  cudaError_t result = variable_of(symbol, &found, nullptr);
  if (result == cudaSuccess) *address = reinterpret_cast<void*>(found);
  return keep(result);
}

cudaError_t cudaGetSymbolSize(size_t* size, const void* symbol) {
  CUdeviceptr found = 0;
  return keep(variable_of(symbol, &found, size));
}

cudaError_t cudaMemcpyToSymbol(const void* symbol, const void* from, size_t bytes, size_t offset,
                               cudaMemcpyKind kind) {
  void* to = nullptr;
  cudaError_t result = inside(symbol, offset, bytes, &to);
  return result != cudaSuccess ? result : cudaMemcpy(to, from, bytes, kind);
}

cudaError_t cudaMemcpyFromSymbol(void* to, const void* symbol, size_t bytes, size_t offset,
                                 cudaMemcpyKind kind) {
  void* from = nullptr;
  cudaError_t result = inside(symbol, offset, bytes, &from);
  return result != cudaSuccess ? result : cudaMemcpy(to, from, bytes, kind);
}

cudaError_t cudaMemcpyToSymbolAsync(const void* symbol, const void* from, size_t bytes, size_t offset,
                                    cudaMemcpyKind kind, cudaStream_t stream) {
  void* to = nullptr;
  cudaError_t result = inside(symbol, offset, bytes, &to);
  return result != cudaSuccess ? result : cudaMemcpyAsync(to, from, bytes, kind, stream);
}

cudaError_t cudaMemcpyFromSymbolAsync(void* to, const void* symbol, size_t bytes, size_t offset,
                                      cudaMemcpyKind kind, cudaStream_t stream) {
  void* from = nullptr;
  cudaError_t result = inside(symbol, offset, bytes, &from);
  return result != cudaSuccess ? result : cudaMemcpyAsync(to, from, bytes, kind, stream);
}

// --- two dimensions
// --------------------------------------------------------------------------------------------------

cudaError_t cudaMemcpy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                         size_t height, cudaMemcpyKind kind) {
  return copy_rows(in_memory(target_type(kind), to, to_pitch), in_memory(source_type(kind), from, from_pitch),
                   width, height, kind, nullptr);
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  return copy_rows(in_memory(target_type(kind), to, to_pitch), in_memory(source_type(kind), from, from_pitch),
                   width, height, kind, &stream);
}

cudaError_t cudaMemcpy2DToArray(cudaArray_t to, size_t x, size_t y, const void* from, size_t pitch,
                                size_t width, size_t height, cudaMemcpyKind kind) {
  return copy_rows(in_array(to, x, y), in_memory(source_type(kind), from, pitch), width, height, kind,
                   nullptr);
}

cudaError_t cudaMemcpy2DToArrayAsync(cudaArray_t to, size_t x, size_t y, const void* from, size_t pitch,
                                     size_t width, size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  return copy_rows(in_array(to, x, y), in_memory(source_type(kind), from, pitch), width, height, kind,
                   &stream);
}

cudaError_t cudaMemcpy2DFromArray(void* to, size_t pitch, cudaArray_const_t from, size_t x, size_t y,
                                  size_t width, size_t height, cudaMemcpyKind kind) {
  return copy_rows(in_memory(target_type(kind), to, pitch), in_array(from, x, y), width, height, kind,
                   nullptr);
}

cudaError_t cudaMemcpy2DFromArrayAsync(void* to, size_t pitch, cudaArray_const_t from, size_t x, size_t y,
                                       size_t width, size_t height, cudaMemcpyKind kind,
                                       cudaStream_t stream) {
  return copy_rows(in_memory(target_type(kind), to, pitch), in_array(from, x, y), width, height, kind,
                   &stream);
}

cudaError_t cudaMemcpy2DArrayToArray(cudaArray_t to, size_t to_x, size_t to_y, cudaArray_const_t from,
                                     size_t from_x, size_t from_y, size_t width, size_t height,
                                     cudaMemcpyKind kind) {
  return copy_rows(in_array(to, to_x, to_y), in_array(from, from_x, from_y), width, height, kind, nullptr);
}

// --- three dimensions
// ------------------------------------------------------------------------------------------------

cudaError_t cudaMemcpy3D(const cudaMemcpy3DParms* copy) {
  if (copy == nullptr) return keep(cudaErrorInvalidValue);
  CUDA_MEMCPY3D theirs;
  cudaError_t result = describe(*copy, &theirs);
  return result != cudaSuccess ? keep(result) : call(&Driver::cuMemcpy3D, &theirs);
}

cudaError_t cudaMemcpy3DAsync(const cudaMemcpy3DParms* copy, cudaStream_t stream) {
  if (copy == nullptr) return keep(cudaErrorInvalidValue);
  CUDA_MEMCPY3D theirs;
  cudaError_t result = describe(*copy, &theirs);
  return result != cudaSuccess ? keep(result) : call(&Driver::cuMemcpy3DAsync, &theirs, stream);
}

// --- many at once
// ----------------------------------------------------------------------------------------------------

cudaError_t cudaMemcpyBatchAsync(void* const* to, const void* const* from, const size_t* bytes, size_t count,
                                 cudaMemcpyAttributes* attributes, size_t* indices, size_t attribute_count,
                                 cudaStream_t stream) {
  static_assert(sizeof(cudaMemcpyAttributes) == sizeof(CUmemcpyAttributes));
  return call(&Driver::cuMemcpyBatchAsync, to, from, bytes, count, attributes, indices, attribute_count,
              stream);
}

cudaError_t cudaMemPrefetchBatchAsync(void** addresses, size_t* bytes, size_t count,
                                      cudaMemLocation* locations, size_t* indices, size_t location_count,
                                      unsigned long long flags, cudaStream_t stream) {
  static_assert(sizeof(cudaMemLocation) == sizeof(CUmemLocation));
  return call(&Driver::cuMemPrefetchBatchAsync, addresses, bytes, count, locations, indices, location_count,
              flags, stream);
}

cudaError_t cudaMemDiscardBatchAsync(void** addresses, size_t* bytes, size_t count, unsigned long long flags,
                                     cudaStream_t stream) {
  return call(&Driver::cuMemDiscardBatchAsync, addresses, bytes, count, flags, stream);
}

cudaError_t cudaMemDiscardAndPrefetchBatchAsync(void** addresses, size_t* bytes, size_t count,
                                                cudaMemLocation* locations, size_t* indices,
                                                size_t location_count, unsigned long long flags,
                                                cudaStream_t stream) {
  return call(&Driver::cuMemDiscardAndPrefetchBatchAsync, addresses, bytes, count, locations, indices,
              location_count, flags, stream);
}

// Memory set to a value.
#include "driver.h"

using namespace standin_runtime;

namespace {

unsigned char byte_of(int value) { return static_cast<unsigned char>(value); }

// Slice by slice: the driver has no form of three dimensions.
template <typename SetRows>
cudaError_t each_slice(const cudaPitchedPtr& memory, const cudaExtent& extent, SetRows set) {
  cudaError_t result = keep(prepare());
  for (size_t z = 0; result == cudaSuccess && z < extent.depth; ++z)
    result = set(static_cast<char*>(memory.ptr) + z * memory.pitch * memory.ysize);
  return result;
}

}  // namespace

cudaError_t cudaMemset(void* address, int value, size_t bytes) {
  return bytes != 0 ? call(&Driver::cuMemsetD8, address, byte_of(value), bytes) : keep(prepare());
}

cudaError_t cudaMemsetAsync(void* address, int value, size_t bytes, cudaStream_t stream) {
  return bytes != 0 ? call(&Driver::cuMemsetD8Async, address, byte_of(value), bytes, stream)
                    : keep(prepare());
}

cudaError_t cudaMemset2D(void* address, size_t pitch, int value, size_t width, size_t height) {
  if (width == 0 || height == 0) return keep(prepare());
  return call(&Driver::cuMemsetD2D8, address, pitch, byte_of(value), width, height);
}

cudaError_t cudaMemset2DAsync(void* address, size_t pitch, int value, size_t width, size_t height,
                              cudaStream_t stream) {
  if (width == 0 || height == 0) return keep(prepare());
  return call(&Driver::cuMemsetD2D8Async, address, pitch, byte_of(value), width, height, stream);
}

cudaError_t cudaMemset3D(cudaPitchedPtr memory, int value, cudaExtent extent) {
  return each_slice(memory, extent, [&](void* slice) {
    return cudaMemset2D(slice, memory.pitch, value, extent.width, extent.height);
  });
}

cudaError_t cudaMemset3DAsync(cudaPitchedPtr memory, int value, cudaExtent extent, cudaStream_t stream) {
  return each_slice(memory, extent, [&](void* slice) {
    return cudaMemset2DAsync(slice, memory.pitch, value, extent.width, extent.height, stream);
  });
}

// Arrays: memory whose layout is the device's own affair.
#include "copies.h"

namespace standin_runtime {
namespace {

struct Format {
  CUarray_format driver;
  cudaChannelFormatKind kind;
  int bits;
};
constexpr Format kFormats[] = {
    {CU_AD_FORMAT_UNSIGNED_INT8, cudaChannelFormatKindUnsigned, 8},
    {CU_AD_FORMAT_UNSIGNED_INT16, cudaChannelFormatKindUnsigned, 16},
    {CU_AD_FORMAT_UNSIGNED_INT32, cudaChannelFormatKindUnsigned, 32},
    {CU_AD_FORMAT_SIGNED_INT8, cudaChannelFormatKindSigned, 8},
    {CU_AD_FORMAT_SIGNED_INT16, cudaChannelFormatKindSigned, 16},
    {CU_AD_FORMAT_SIGNED_INT32, cudaChannelFormatKindSigned, 32},
    {CU_AD_FORMAT_HALF, cudaChannelFormatKindFloat, 16},
    {CU_AD_FORMAT_FLOAT, cudaChannelFormatKindFloat, 32},
};

const Format* format_of(CUarray_format format) {
  for (const Format& each : kFormats)
    if (each.driver == format) return &each;
  return nullptr;
}

const Format* format_of(const cudaChannelFormatDesc& channels) {
  for (const Format& each : kFormats)
    if (each.kind == channels.f && each.bits == channels.x) return &each;
  return nullptr;
}

unsigned count_of(const cudaChannelFormatDesc& channels) {
  return channels.w != 0 ? 4 : channels.z != 0 ? 3 : channels.y != 0 ? 2 : 1;
}

cudaError_t describe(const cudaChannelFormatDesc* channels, const cudaExtent& extent, unsigned flags,
                     CUDA_ARRAY3D_DESCRIPTOR* out) {
  if (channels == nullptr) return cudaErrorInvalidValue;
  const Format* format = format_of(*channels);
  if (format == nullptr || count_of(*channels) == 3) return cudaErrorInvalidChannelDescriptor;
  *out = {extent.width, extent.height, extent.depth, format->driver, count_of(*channels), flags};
  return cudaSuccess;
}

cudaError_t describe(cudaArray_const_t array, CUDA_ARRAY3D_DESCRIPTOR* out) {
  cudaError_t result = call(&Driver::cuArray3DGetDescriptor, out, array);
  if (result == cudaSuccess && format_of(out->Format) == nullptr) return cudaErrorNotSupported;
  return result;
}

cudaChannelFormatDesc channels_of(const CUDA_ARRAY3D_DESCRIPTOR& array) {
  const Format* format = format_of(array.Format);
  int bits[4] = {};
  for (unsigned i = 0; i < array.NumChannels && i < 4; ++i) bits[i] = format->bits;
  return {bits[0], bits[1], bits[2], bits[3], format->kind};
}

}  // namespace

cudaError_t element_bytes(cudaArray_const_t array, size_t* out) {
  CUDA_ARRAY3D_DESCRIPTOR is;
  cudaError_t result = describe(array, &is);
  if (result == cudaSuccess) *out = static_cast<size_t>(format_of(is.Format)->bits) / 8 * is.NumChannels;
  return result;
}

}  // namespace standin_runtime

using namespace standin_runtime;

cudaChannelFormatDesc cudaCreateChannelDesc(int x, int y, int z, int w, cudaChannelFormatKind kind) {
  return {x, y, z, w, kind};
}

cudaError_t cudaMalloc3DArray(cudaArray_t* array, const cudaChannelFormatDesc* channels, cudaExtent extent,
                              unsigned flags) {
  CUDA_ARRAY3D_DESCRIPTOR wanted;
  cudaError_t result = describe(channels, extent, flags, &wanted);
  return result != cudaSuccess ? keep(result) : call(&Driver::cuArray3DCreate, array, &wanted);
}

cudaError_t cudaMallocArray(cudaArray_t* array, const cudaChannelFormatDesc* channels, size_t width,
                            size_t height, unsigned flags) {
  return cudaMalloc3DArray(array, channels, {width, height, 0}, flags);
}

cudaError_t cudaMallocMipmappedArray(cudaMipmappedArray_t* array, const cudaChannelFormatDesc* channels,
                                     cudaExtent extent, unsigned levels, unsigned flags) {
  CUDA_ARRAY3D_DESCRIPTOR wanted;
  cudaError_t result = describe(channels, extent, flags, &wanted);
  return result != cudaSuccess ? keep(result) : call(&Driver::cuMipmappedArrayCreate, array, &wanted, levels);
}

cudaError_t cudaGetMipmappedArrayLevel(cudaArray_t* level, cudaMipmappedArray_const_t array,
                                       unsigned number) {
  return call(&Driver::cuMipmappedArrayGetLevel, level, array, number);
}

cudaError_t cudaFreeArray(cudaArray_t array) {
  return array != nullptr ? call(&Driver::cuArrayDestroy, array) : keep(prepare());
}

cudaError_t cudaFreeMipmappedArray(cudaMipmappedArray_t array) {
  return array != nullptr ? call(&Driver::cuMipmappedArrayDestroy, array) : keep(prepare());
}

cudaError_t cudaArrayGetInfo(cudaChannelFormatDesc* channels, cudaExtent* extent, unsigned* flags,
                             cudaArray_t array) {
  CUDA_ARRAY3D_DESCRIPTOR is;
  cudaError_t result = describe(array, &is);
  if (result != cudaSuccess) return keep(result);
  if (channels != nullptr) *channels = channels_of(is);
  if (extent != nullptr) *extent = {is.Width, is.Height, is.Depth};
  if (flags != nullptr) *flags = is.Flags;
  return cudaSuccess;
}

cudaError_t cudaGetChannelDesc(cudaChannelFormatDesc* channels, cudaArray_const_t array) {
  return cudaArrayGetInfo(channels, nullptr, nullptr, const_cast<cudaArray_t>(array));
}

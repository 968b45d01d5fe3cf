// Arrays: rows one after the other, without the tiling of a GPU; of mipmapped ones, level after level.
#include <algorithm>

#include "captures.h"
#include "copies.h"
#include "handles.h"
#include "implementations.h"
#include "memory.h"

namespace standin::driver {
namespace {

size_t channel_bytes(CUarray_format format) {
  switch (format) {
    case CU_AD_FORMAT_UNSIGNED_INT8:
    case CU_AD_FORMAT_SIGNED_INT8:
    case CU_AD_FORMAT_UNORM_INT8X1:
    case CU_AD_FORMAT_SNORM_INT8X1:
      return 1;
    case CU_AD_FORMAT_UNSIGNED_INT16:
    case CU_AD_FORMAT_SIGNED_INT16:
    case CU_AD_FORMAT_HALF:
    case CU_AD_FORMAT_UNORM_INT16X1:
    case CU_AD_FORMAT_SNORM_INT16X1:
      return 2;
    case CU_AD_FORMAT_UNSIGNED_INT32:
    case CU_AD_FORMAT_SIGNED_INT32:
    case CU_AD_FORMAT_FLOAT:
      return 4;
    default:
      return 0;  // packed formats: not modelled
  }
}

size_t element_bytes(const CUDA_ARRAY3D_DESCRIPTOR& d) { return channel_bytes(d.Format) * d.NumChannels; }

size_t at_least_one(size_t side) { return std::max<size_t>(side, 1); }

uint64_t bytes_of(const CUDA_ARRAY3D_DESCRIPTOR& d) {
  return d.Width * at_least_one(d.Height) * at_least_one(d.Depth) * element_bytes(d);
}

constexpr unsigned int kDeferred = CUDA_ARRAY3D_DEFERRED_MAPPING | CUDA_ARRAY3D_SPARSE;

CUresult check_descriptor(const CUDA_ARRAY3D_DESCRIPTOR& d) {
  if (d.Width == 0 || (d.NumChannels != 1 && d.NumChannels != 2 && d.NumChannels != 4))
    return CUDA_ERROR_INVALID_VALUE;
  if (d.Width > 131072 || d.Height > 65536 || d.Depth > 16384) return CUDA_ERROR_INVALID_VALUE;
  return element_bytes(d) == 0 || (d.Flags & kDeferred) != 0 ? CUDA_ERROR_NOT_SUPPORTED : CUDA_SUCCESS;
}

CUresult take_array(uint64_t bytes, uint64_t* base) {
  CUcontext context;
  Range* range;
  TRY(current(&context));
  TRY(unsafe());
  TRY(take(bytes, Origin::kDevice, context, &range));
  *base = range->base;
  return CUDA_SUCCESS;
}

void give_array(uint64_t base) {
  wait_for_all();
  if (Range* range = find_base(base)) give(range);
}

CUarray make_array(const CUDA_ARRAY3D_DESCRIPTOR& d, uint64_t base) {
  CUarray array = enlist(new CUarray_st);
  array->descriptor = d;
  array->base = base;
  array->element_bytes = element_bytes(d);
  return array;
}

CUresult create(CUarray* out, const CUDA_ARRAY3D_DESCRIPTOR& d) {
  uint64_t base;
  TRY(check_descriptor(d));
  TRY(take_array(bytes_of(d), &base));
  *out = make_array(d, base);
  return CUDA_SUCCESS;
}

CUDA_ARRAY3D_DESCRIPTOR level_of(CUDA_ARRAY3D_DESCRIPTOR d, unsigned int level) {
  d.Width = at_least_one(d.Width >> level);
  if (d.Height > 0) d.Height = at_least_one(d.Height >> level);
  if (d.Depth > 0 && (d.Flags & CUDA_ARRAY3D_LAYERED) == 0) d.Depth = at_least_one(d.Depth >> level);
  return d;
}

unsigned int levels_of(const CUDA_ARRAY3D_DESCRIPTOR& d, unsigned int wanted) {
  size_t side = std::max({d.Width, d.Height, d.Depth});
  return std::clamp(wanted, 1u, static_cast<unsigned int>(64 - __builtin_clzl(side)));
}

CUDA_ARRAY3D_DESCRIPTOR solid(const CUDA_ARRAY_DESCRIPTOR& d) {
  return {d.Width, d.Height, 0, d.Format, d.NumChannels, 0};
}

CUresult requirements(uint64_t bytes, CUdevice device, CUDA_ARRAY_MEMORY_REQUIREMENTS* out) {
  if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
  if (out == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *out = {};
  out->size = round_up(bytes, kUnit);
  out->alignment = kUnit;
  return CUDA_SUCCESS;
}

}  // namespace

size_t height_of(const CUarray_st* array) { return at_least_one(array->descriptor.Height); }
size_t pitch_of(const CUarray_st* array) { return array->descriptor.Width * array->element_bytes; }

CUresult array_create(CUarray* pHandle, const CUDA_ARRAY_DESCRIPTOR* pAllocateArray) {
  if (pHandle == nullptr || pAllocateArray == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return create(pHandle, solid(*pAllocateArray));
}

CUresult array_create_v1(CUarray* pHandle, const CUDA_ARRAY_DESCRIPTOR_v1* pAllocateArray) {
  if (pHandle == nullptr || pAllocateArray == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const CUDA_ARRAY_DESCRIPTOR_v1& d = *pAllocateArray;
  return create(pHandle, {d.Width, d.Height, 0, d.Format, d.NumChannels, 0});
}

CUresult array3d_create(CUarray* pHandle, const CUDA_ARRAY3D_DESCRIPTOR* pAllocateArray) {
  if (pHandle == nullptr || pAllocateArray == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return create(pHandle, *pAllocateArray);
}

CUresult array3d_create_v1(CUarray* pHandle, const CUDA_ARRAY3D_DESCRIPTOR_v1* pAllocateArray) {
  if (pHandle == nullptr || pAllocateArray == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const CUDA_ARRAY3D_DESCRIPTOR_v1& d = *pAllocateArray;
  return create(pHandle, {d.Width, d.Height, d.Depth, d.Format, d.NumChannels, d.Flags});
}

CUresult array_get_descriptor(CUDA_ARRAY_DESCRIPTOR* pArrayDescriptor, CUarray hArray) {
  if (!alive(hArray)) return CUDA_ERROR_INVALID_HANDLE;
  const CUDA_ARRAY3D_DESCRIPTOR& d = hArray->descriptor;
  return set(pArrayDescriptor, CUDA_ARRAY_DESCRIPTOR{d.Width, d.Height, d.Format, d.NumChannels});
}

CUresult array_get_descriptor_v1(CUDA_ARRAY_DESCRIPTOR_v1* pArrayDescriptor, CUarray hArray) {
  if (!alive(hArray)) return CUDA_ERROR_INVALID_HANDLE;
  const CUDA_ARRAY3D_DESCRIPTOR& d = hArray->descriptor;
  auto narrow = [](size_t side) { return static_cast<unsigned int>(side); };
  return set(pArrayDescriptor,
             CUDA_ARRAY_DESCRIPTOR_v1{narrow(d.Width), narrow(d.Height), d.Format, d.NumChannels});
}

CUresult array3d_get_descriptor(CUDA_ARRAY3D_DESCRIPTOR* pArrayDescriptor, CUarray hArray) {
  return alive(hArray) ? set(pArrayDescriptor, hArray->descriptor) : CUDA_ERROR_INVALID_HANDLE;
}

CUresult array3d_get_descriptor_v1(CUDA_ARRAY3D_DESCRIPTOR_v1* pArrayDescriptor, CUarray hArray) {
  if (!alive(hArray)) return CUDA_ERROR_INVALID_HANDLE;
  const CUDA_ARRAY3D_DESCRIPTOR& d = hArray->descriptor;
  auto narrow = [](size_t side) { return static_cast<unsigned int>(side); };
  return set(pArrayDescriptor, CUDA_ARRAY3D_DESCRIPTOR_v1{narrow(d.Width), narrow(d.Height), narrow(d.Depth),
                                                          d.Format, d.NumChannels, d.Flags});
}

CUresult array_destroy(CUarray hArray) {
  if (!alive(hArray)) return CUDA_ERROR_INVALID_HANDLE;
  if (hArray->owner != nullptr) return CUDA_ERROR_INVALID_HANDLE;
  give_array(hArray->base);
  strike(hArray);
  return CUDA_SUCCESS;
}

CUresult array_get_memory_requirements(CUDA_ARRAY_MEMORY_REQUIREMENTS* memoryRequirements, CUarray array,
                                       CUdevice device) {
  if (!alive(array)) return CUDA_ERROR_INVALID_HANDLE;
  return requirements(bytes_of(array->descriptor), device, memoryRequirements);
}

CUresult mipmapped_array_create(CUmipmappedArray* pHandle, const CUDA_ARRAY3D_DESCRIPTOR* pMipmappedArrayDesc,
                                unsigned int numMipmapLevels) {
  if (pHandle == nullptr || pMipmappedArrayDesc == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const CUDA_ARRAY3D_DESCRIPTOR& d = *pMipmappedArrayDesc;
  TRY(check_descriptor(d));
  unsigned int levels = levels_of(d, numMipmapLevels);
  uint64_t bytes = 0, base;
  for (unsigned int i = 0; i < levels; ++i) bytes += bytes_of(level_of(d, i));
  TRY(take_array(bytes, &base));
  CUmipmappedArray made = enlist(new CUmipmappedArray_st);
  made->descriptor = d;
  made->base = base;
  for (unsigned int i = 0; i < levels; base += bytes_of(level_of(d, i++))) {
    made->levels.push_back(make_array(level_of(d, i), base));
    made->levels.back()->owner = made;
  }
  *pHandle = made;
  return CUDA_SUCCESS;
}

CUresult mipmapped_array_get_level(CUarray* pLevelArray, CUmipmappedArray hMipmappedArray,
                                   unsigned int level) {
  if (!alive(hMipmappedArray)) return CUDA_ERROR_INVALID_HANDLE;
  if (level >= hMipmappedArray->levels.size()) return CUDA_ERROR_INVALID_VALUE;
  return set(pLevelArray, hMipmappedArray->levels[level]);
}

CUresult mipmapped_array_destroy(CUmipmappedArray hMipmappedArray) {
  if (!alive(hMipmappedArray)) return CUDA_ERROR_INVALID_HANDLE;
  for (CUarray level : hMipmappedArray->levels) strike(level);
  give_array(hMipmappedArray->base);
  strike(hMipmappedArray);
  return CUDA_SUCCESS;
}

CUresult mipmapped_array_get_memory_requirements(CUDA_ARRAY_MEMORY_REQUIREMENTS* memoryRequirements,
                                                 CUmipmappedArray mipmap, CUdevice device) {
  if (!alive(mipmap)) return CUDA_ERROR_INVALID_HANDLE;
  uint64_t bytes = 0;
  for (CUarray level : mipmap->levels) bytes += bytes_of(level->descriptor);
  return requirements(bytes, device, memoryRequirements);
}

CUresult array_get_plane(CUarray* pPlaneArray, CUarray hArray, unsigned int) {
  if (pPlaneArray == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return alive(hArray) ? CUDA_ERROR_INVALID_VALUE
                       : CUDA_ERROR_INVALID_HANDLE;  // no format with planes is modelled
}

}  // namespace standin::driver

// Arrays and mipmapped arrays.
#include "allocations.h"

using namespace fasthook;

namespace {

// --- their sizes -------------------------------------------------------------------------------------------

// Bits of one channel of one element. Of formats that share bits between channels or elements, not less.
uint64_t bits_of(CUarray_format format) {
  switch (format) {
    case CU_AD_FORMAT_UNSIGNED_INT8:
    case CU_AD_FORMAT_SIGNED_INT8:
      return 8;
    case CU_AD_FORMAT_UNSIGNED_INT16:
    case CU_AD_FORMAT_SIGNED_INT16:
    case CU_AD_FORMAT_HALF:
      return 16;
    default:
      return 32;
  }
}

uint64_t at_least_one(uint64_t count) { return count > 0 ? count : 1; }

// All levels, each half as wide, high and deep as the one before; layers keep their number.
uint64_t bytes_of(const CUDA_ARRAY3D_DESCRIPTOR& array, unsigned levels) {
  uint64_t width = at_least_one(array.Width), height = at_least_one(array.Height),
           depth = at_least_one(array.Depth), bits = 0;
  for (unsigned level = 0; level < levels; ++level) {
    uint64_t area, volume, more;
    if (__builtin_mul_overflow(width, height, &area) || __builtin_mul_overflow(area, depth, &volume) ||
        __builtin_mul_overflow(volume, bits_of(array.Format) * array.NumChannels, &more) ||
        __builtin_add_overflow(bits, more, &bits))
      return ~0ULL;
    width = at_least_one(width / 2);
    height = at_least_one(height / 2);
    if (!(array.Flags & CUDA_ARRAY3D_LAYERED)) depth = at_least_one(depth / 2);
  }
  return (bits + 7) / 8;
}

// Their memory is mapped into them later, and counted where it is created.
bool is_mapped_later(const CUDA_ARRAY3D_DESCRIPTOR& array) {
  return array.Flags & (CUDA_ARRAY3D_SPARSE | CUDA_ARRAY3D_DEFERRED_MAPPING);
}

// The driver says how much an array takes only of one that has no memory yet: so one is made for the
// question. 0 if it does not say.
template <auto Ask, auto Destroy, typename Handle, typename Create>
uint64_t asked_bytes(CUDA_ARRAY3D_DESCRIPTOR array, Handle handle, Create&& create) {
  CUDA_ARRAY_MEMORY_REQUIREMENTS needs = {};
  CUdevice device;
  array.Flags |= CUDA_ARRAY3D_DEFERRED_MAPPING;
  if (real.*Ask == nullptr || real.cuCtxGetDevice(&device) != CUDA_SUCCESS) return 0;
  if (create(&handle, &array) != CUDA_SUCCESS) return 0;
  if ((real.*Ask)(&needs, handle, device) != CUDA_SUCCESS) needs.size = 0;
  (real.*Destroy)(handle);
  return needs.size;
}

uint64_t asked_bytes(const CUDA_ARRAY3D_DESCRIPTOR& array) {
  auto create = [](auto* handle, auto* probe) { return real.cuArray3DCreate_v2(handle, probe); };
  return asked_bytes<&Real::cuArrayGetMemoryRequirements, &Real::cuArrayDestroy>(array, CUarray{}, create);
}

uint64_t asked_bytes(const CUDA_ARRAY3D_DESCRIPTOR& array, unsigned levels) {
  auto create = [=](auto* handle, auto* probe) { return real.cuMipmappedArrayCreate(handle, probe, levels); };
  return asked_bytes<&Real::cuMipmappedArrayGetMemoryRequirements, &Real::cuMipmappedArrayDestroy>(
      array, CUmipmappedArray{}, create);
}

// --- counting them -----------------------------------------------------------------------------------------

CUDA_ARRAY3D_DESCRIPTOR widened(const CUDA_ARRAY_DESCRIPTOR& a) {
  return {a.Width, a.Height, 0, a.Format, a.NumChannels, 0};
}
CUDA_ARRAY3D_DESCRIPTOR widened(const CUDA_ARRAY_DESCRIPTOR_v1& a) {
  return {a.Width, a.Height, 0, a.Format, a.NumChannels, 0};
}
CUDA_ARRAY3D_DESCRIPTOR widened(const CUDA_ARRAY3D_DESCRIPTOR_v1& a) {
  return {a.Width, a.Height, a.Depth, a.Format, a.NumChannels, a.Flags};
}
const CUDA_ARRAY3D_DESCRIPTOR& widened(const CUDA_ARRAY3D_DESCRIPTOR& a) { return a; }

// `size` is asked only if it counts.
template <auto Destroy, typename Handle, typename Size, typename Create>
CUresult take(Handle* out, Size&& size, Create&& create) {
  Inside inside;
  Treatment how = treatment(inside);
  if (how == Treatment::kRefuse) return CUDA_ERROR_NOT_PERMITTED;
  if (how == Treatment::kPass) return create();
  uint64_t bytes = whole(size());
  auto remember = [&] { return arrays.put(key_of(*out), linear(bytes)); };
  return count(0, bytes, create, remember, [&] { (real.*Destroy)(*out); });
}

template <auto Create, typename Descriptor>
CUresult take_array(CUarray* out, const Descriptor* descriptor) {
  auto size = [=]() -> uint64_t {
    if (descriptor == nullptr) return 0;
    const CUDA_ARRAY3D_DESCRIPTOR& array = widened(*descriptor);
    if (is_mapped_later(array)) return 0;
    uint64_t asked = asked_bytes(array);
    return asked > 0 ? asked : bytes_of(array, 1);
  };
  return take<&Real::cuArrayDestroy>(out, size, [=] { return (real.*Create)(out, descriptor); });
}

template <auto Destroy, typename Handle>
CUresult release_array(Handle array) {
  return release(&arrays, key_of(array), [=] {
    CUresult result = (real.*Destroy)(array);
    if (result == CUDA_SUCCESS) forget_array(key_of(array));
    return result;
  });
}

}  // namespace

HOOKED CUresult cuArrayCreate(CUarray* out, const CUDA_ARRAY_DESCRIPTOR_v1* array) {
  return take_array<&Real::cuArrayCreate>(out, array);
}

HOOKED CUresult cuArrayCreate_v2(CUarray* out, const CUDA_ARRAY_DESCRIPTOR* array) {
  return take_array<&Real::cuArrayCreate_v2>(out, array);
}

HOOKED CUresult cuArray3DCreate(CUarray* out, const CUDA_ARRAY3D_DESCRIPTOR_v1* array) {
  return take_array<&Real::cuArray3DCreate>(out, array);
}

HOOKED CUresult cuArray3DCreate_v2(CUarray* out, const CUDA_ARRAY3D_DESCRIPTOR* array) {
  return take_array<&Real::cuArray3DCreate_v2>(out, array);
}

HOOKED CUresult cuArrayDestroy(CUarray array) { return release_array<&Real::cuArrayDestroy>(array); }

HOOKED CUresult cuMipmappedArrayCreate(CUmipmappedArray* out, const CUDA_ARRAY3D_DESCRIPTOR* array,
                                       unsigned levels) {
  auto size = [=]() -> uint64_t {
    if (array == nullptr || is_mapped_later(*array)) return 0;
    uint64_t asked = asked_bytes(*array, levels);
    return asked > 0 ? asked : bytes_of(*array, levels);
  };
  auto create = [=] { return real.cuMipmappedArrayCreate(out, array, levels); };
  return take<&Real::cuMipmappedArrayDestroy>(out, size, create);
}

HOOKED CUresult cuMipmappedArrayDestroy(CUmipmappedArray array) {
  return release_array<&Real::cuMipmappedArrayDestroy>(array);
}

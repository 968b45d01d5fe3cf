// Device, managed and pinned memory.
#include "memory.h"

#include <sys/mman.h>

#include <algorithm>

#include "captures.h"
#include "implementations.h"
#include "virtual_memory.h"

namespace standin::driver {
namespace {

constexpr uint64_t kPitch = 512, kPage = 4096;

CUresult allocate(CUdeviceptr* out, uint64_t size, bool low = false) {
  if (out == nullptr || size == 0) return CUDA_ERROR_INVALID_VALUE;
  CUcontext context;
  Range* range;
  TRY(current(&context));
  TRY(unsafe());
  TRY(take(size, Origin::kDevice, context, &range, low));
  *out = range->base;
  return CUDA_SUCCESS;
}

CUresult allocate_rows(CUdeviceptr* out, size_t* pitch, size_t width, size_t height, unsigned int element,
                       bool low) {
  if (pitch == nullptr || width == 0 || height == 0) return CUDA_ERROR_INVALID_VALUE;
  if (element != 4 && element != 8 && element != 16) return CUDA_ERROR_INVALID_VALUE;
  uint64_t row = round_up(width, kPitch), size;
  if (row < width || __builtin_mul_overflow(row, height, &size)) return CUDA_ERROR_OUT_OF_MEMORY;
  TRY(allocate(out, size, low));
  *pitch = row;
  return CUDA_SUCCESS;
}

CUresult free_now(CUdeviceptr address) {
  if (address == 0) return CUDA_SUCCESS;
  CUcontext context;
  TRY(current(&context));
  TRY(unsafe());
  Range* range = find_base(address);
  if (range == nullptr) return CUDA_ERROR_INVALID_VALUE;
  bool pooled = range->origin == Origin::kPooled;
  if (!pooled && range->origin != Origin::kDevice && range->origin != Origin::kManaged)
    return CUDA_ERROR_INVALID_VALUE;
  // Work that uses it may be under way: the driver waits for it.
  wait_for_all();
  range = find_base(address);
  if (range == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (pooled) return release_pooled(range);
  give(range);
  return CUDA_SUCCESS;
}

CUresult allocate_host(void** out, size_t size, unsigned int flags) {
  if (out == nullptr || size == 0) return CUDA_ERROR_INVALID_VALUE;
  CUcontext context;
  TRY(current(&context));
  TRY(unsafe());
  void* memory =
      mmap(nullptr, round_up(size, kPage), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
  *out = memory;
  uint64_t base = reinterpret_cast<uint64_t>(memory);
  add_range({.origin = Origin::kHost, .base = base, .size = size, .context = context, .flags = flags});
  return CUDA_SUCCESS;
}

void free_host(Range* range) {
  munmap(reinterpret_cast<void*>(range->base), round_up(range->size, kPage));
  drop_range(range->base);
}

Range* host_range(const void* pointer) {
  Range* range = find_range(reinterpret_cast<uint64_t>(pointer));
  bool host = range != nullptr && (range->origin == Origin::kHost || range->origin == Origin::kRegistered);
  return host ? range : nullptr;
}

bool overlaps(uint64_t base, uint64_t size) {
  auto after = ranges().lower_bound(base);
  return find_range(base) != nullptr || (after != ranges().end() && after->first < base + size);
}

CUresult low_part(const unsigned long long& value, unsigned int* out) {
  if (value > UINT32_MAX) return CUDA_ERROR_INVALID_VALUE;
  if (out != nullptr) *out = static_cast<unsigned int>(value);
  return CUDA_SUCCESS;
}

constexpr unsigned int kHostFlags =
    CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_WRITECOMBINED;
constexpr unsigned int kRegisterFlags = CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP |
                                        CU_MEMHOSTREGISTER_IOMEMORY | CU_MEMHOSTREGISTER_READ_ONLY;

}  // namespace

void wait_for_all() {
  for (CUcontext context : std::set<CUcontext>(contexts()))
    if (is_context(context)) wait_for(context);
}

void free_all(CUcontext context) {
  std::vector<uint64_t> bases;
  for (auto& [base, range] : ranges())
    if (range.context == context) bases.push_back(base);
  for (uint64_t base : bases) {
    Range* range = find_base(base);
    if (range->origin == Origin::kHost)
      free_host(range);
    else if (range->origin == Origin::kDevice || range->origin == Origin::kManaged)
      give(range);
    else if (range->origin == Origin::kRegistered)
      drop_range(base);
  }
}

CUresult mem_get_info(size_t* free, size_t* total) {
  CUcontext context;
  TRY(current(&context));
  st_reap(device(), now_ns());  // what the dead had is free
  TRY(set(free, st_mem_free(device())));
  return set(total, settings().mem_bytes);
}

CUresult mem_get_info_v1(unsigned int* free, unsigned int* total) {
  size_t wide_free, wide_total;
  TRY(mem_get_info(&wide_free, &wide_total));
  TRY(set(free, std::min<size_t>(wide_free, UINT32_MAX)));
  return set(total, std::min<size_t>(wide_total, UINT32_MAX));
}

CUresult mem_alloc(CUdeviceptr* dptr, size_t bytesize) { return allocate(dptr, bytesize); }

CUresult mem_alloc_v1(CUdeviceptr_v1* dptr, unsigned int bytesize) {
  CUdeviceptr wide;
  TRY(allocate(&wide, bytesize, true));
  return low_part(wide, dptr);
}

CUresult mem_alloc_pitch(CUdeviceptr* dptr, size_t* pPitch, size_t WidthInBytes, size_t Height,
                         unsigned int ElementSizeBytes) {
  return allocate_rows(dptr, pPitch, WidthInBytes, Height, ElementSizeBytes, false);
}

CUresult mem_alloc_pitch_v1(CUdeviceptr_v1* dptr, unsigned int* pPitch, unsigned int WidthInBytes,
                            unsigned int Height, unsigned int ElementSizeBytes) {
  CUdeviceptr wide;
  size_t pitch;
  TRY(allocate_rows(&wide, &pitch, WidthInBytes, Height, ElementSizeBytes, true));
  TRY(set(pPitch, pitch));
  return low_part(wide, dptr);
}

CUresult mem_free(CUdeviceptr dptr) { return free_now(dptr); }

CUresult mem_get_address_range(CUdeviceptr* pbase, size_t* psize, CUdeviceptr dptr) {
  CUcontext context;
  TRY(current(&context));
  Range* range = find_range(dptr);
  if (range == nullptr || !on_device(dptr)) return CUDA_ERROR_NOT_FOUND;
  if (pbase != nullptr) *pbase = range->base;
  if (psize != nullptr) *psize = range->size;
  return CUDA_SUCCESS;
}

CUresult mem_get_address_range_v1(CUdeviceptr_v1* pbase, unsigned int* psize, CUdeviceptr_v1 dptr) {
  CUdeviceptr base;
  size_t size;
  TRY(mem_get_address_range(&base, &size, dptr));
  TRY(low_part(size, psize));
  return low_part(base, pbase);
}

// More of it than the device has lives on the host.
CUresult mem_alloc_managed(CUdeviceptr* dptr, size_t bytesize, unsigned int flags) {
  if (dptr == nullptr || bytesize == 0) return CUDA_ERROR_INVALID_VALUE;
  if (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST) return CUDA_ERROR_INVALID_VALUE;
  CUcontext context;
  Range* range;
  TRY(current(&context));
  TRY(unsafe());
  TRY(take_unpaid(bytesize, Origin::kManaged, context, &range));
  range->flags = flags;
  uint64_t cost = round_up(bytesize, kUnit);
  if (charge(cost)) range->charged = cost;
  *dptr = range->base;
  return CUDA_SUCCESS;
}

CUresult mem_alloc_host(void** pp, size_t bytesize) {
  return allocate_host(pp, bytesize, CU_MEMHOSTALLOC_DEVICEMAP);
}

CUresult mem_host_alloc(void** pp, size_t bytesize, unsigned int Flags) {
  if ((Flags & ~kHostFlags) != 0) return CUDA_ERROR_INVALID_VALUE;
  return allocate_host(pp, bytesize, Flags | CU_MEMHOSTALLOC_DEVICEMAP);
}

CUresult mem_free_host(void* p) {
  CUcontext context;
  TRY(current(&context));
  TRY(unsafe());
  if (p == nullptr) return CUDA_SUCCESS;
  Range* range = find_base(reinterpret_cast<uint64_t>(p));
  if (range == nullptr || range->origin != Origin::kHost) return CUDA_ERROR_INVALID_VALUE;
  wait_for_all();
  free_host(range);
  return CUDA_SUCCESS;
}

CUresult mem_host_register(void* p, size_t bytesize, unsigned int Flags) {
  if (p == nullptr || bytesize == 0 || (Flags & ~kRegisterFlags) != 0) return CUDA_ERROR_INVALID_VALUE;
  CUcontext context;
  TRY(current(&context));
  TRY(unsafe());
  uint64_t base = reinterpret_cast<uint64_t>(p);
  if (overlaps(base, bytesize)) return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
  add_range(
      {.origin = Origin::kRegistered, .base = base, .size = bytesize, .context = context, .flags = Flags});
  return CUDA_SUCCESS;
}

CUresult mem_host_unregister(void* p) {
  CUcontext context;
  TRY(current(&context));
  if (p == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Range* range = find_base(reinterpret_cast<uint64_t>(p));
  if (range == nullptr || range->origin != Origin::kRegistered) return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
  wait_for_all();
  drop_range(reinterpret_cast<uint64_t>(p));
  return CUDA_SUCCESS;
}

CUresult mem_host_get_device_pointer(CUdeviceptr* pdptr, void* p, unsigned int Flags) {
  if (pdptr == nullptr || Flags != 0) return CUDA_ERROR_INVALID_VALUE;
  CUcontext context;
  TRY(current(&context));
  if (host_range(p) == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *pdptr = reinterpret_cast<CUdeviceptr>(p);
  return CUDA_SUCCESS;
}

CUresult mem_host_get_device_pointer_v1(CUdeviceptr_v1* pdptr, void* p, unsigned int Flags) {
  CUdeviceptr wide;
  TRY(mem_host_get_device_pointer(&wide, p, Flags));
  return low_part(wide, pdptr);
}

CUresult mem_host_get_flags(unsigned int* pFlags, void* p) {
  Range* range = host_range(p);
  if (range == nullptr || range->origin != Origin::kHost) return CUDA_ERROR_INVALID_VALUE;
  return set(pFlags, range->flags);
}

CUresult module_get_global_v1(CUdeviceptr_v1* dptr, unsigned int* bytes, CUmodule hmod, const char* name) {
  CUdeviceptr wide;
  size_t size;
  TRY(module_get_global(&wide, &size, hmod, name));
  TRY(low_part(size, bytes));
  return low_part(wide, dptr);
}

}  // namespace standin::driver

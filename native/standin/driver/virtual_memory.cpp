// cuMemCreate and what goes with it. An exported handle is the file itself, so another process maps the same
// memory; it counts once, where it was made.
#include "virtual_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "implementations.h"

namespace standin::driver {
namespace {

constexpr char kFileName[] = "standin-physical-memory";

using Handle = CUmemGenericAllocationHandle;

std::map<Handle, std::shared_ptr<Physical>>& physicals() {
  static auto* all = new std::map<Handle, std::shared_ptr<Physical>>;
  return *all;
}

// Addresses that were reserved, and how many.
std::map<uint64_t, uint64_t>& reservations() {
  static auto* all = new std::map<uint64_t, uint64_t>;
  return *all;
}

std::shared_ptr<Physical> find(Handle handle) {
  auto found = physicals().find(handle);
  return found != physicals().end() ? found->second : nullptr;
}

Handle hand_out(const std::shared_ptr<Physical>& physical) {
  auto handle = reinterpret_cast<Handle>(physical.get());
  physicals()[handle] = physical;
  ++physical->handles;
  return handle;
}

bool whole(uint64_t size) { return size > 0 && size % kGranularity == 0; }

bool reserved(uint64_t address, uint64_t size) {
  auto after = reservations().upper_bound(address);
  if (after == reservations().begin()) return false;
  auto [base, length] = *std::prev(after);
  return address >= base && size <= length && address - base <= length - size;
}

bool free_to_map(uint64_t address, uint64_t size) {
  auto next = ranges().lower_bound(address);
  bool before = next != ranges().begin() && std::prev(next)->first + std::prev(next)->second.size > address;
  return !before && (next == ranges().end() || next->first >= address + size);
}

bool on_host(const CUmemLocation& location) {
  return location.type == CU_MEM_LOCATION_TYPE_HOST || location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA ||
         location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT;
}

CUresult check_prop(const CUmemAllocationProp* prop) {
  if (prop == nullptr || prop->type != CU_MEM_ALLOCATION_TYPE_PINNED) return CUDA_ERROR_INVALID_VALUE;
  if (on_host(prop->location)) return CUDA_SUCCESS;
  if (prop->location.type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_INVALID_VALUE;
  return prop->location.id == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

bool ours(int file, uint64_t* size) {
  char path[64], target[128];
  snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
  ssize_t length = readlink(path, target, sizeof(target) - 1);
  struct stat found;
  if (length <= 0 || fstat(file, &found) != 0) return false;
  target[length] = 0;
  *size = static_cast<uint64_t>(found.st_size);
  return strstr(target, kFileName) != nullptr;
}

bool map_file(uint64_t address, uint64_t size, int file, uint64_t offset) {
  void* place = reinterpret_cast<void*>(address);
  int flags = MAP_FIXED | MAP_NORESERVE | (file >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);
  return mmap(place, size, PROT_NONE, flags, file, static_cast<off_t>(offset)) != MAP_FAILED;
}

// Calls `use` for the mappings that make up exactly these addresses; an error if they do not.
template <typename Use>
CUresult for_mappings(uint64_t address, uint64_t size, Use use) {
  std::vector<Range*> parts;
  for (uint64_t at = address; at < address + size;) {
    Range* range = find_base(at);
    if (range == nullptr || range->origin != Origin::kMapped || range->size > address + size - at)
      return CUDA_ERROR_INVALID_VALUE;
    parts.push_back(range);
    at += range->size;
  }
  for (Range* range : parts) use(*range);
  return CUDA_SUCCESS;
}

int protection(unsigned int flags) {
  if (flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE) return PROT_READ | PROT_WRITE;
  return flags == CU_MEM_ACCESS_FLAGS_PROT_READ ? PROT_READ : PROT_NONE;
}

}  // namespace

Physical::~Physical() {
  discharge(charged);
  close(file);
}

bool accessible(const Range& range) { return range.origin != Origin::kMapped || range.flags != 0; }

CUresult mem_get_allocation_granularity(size_t* granularity, const CUmemAllocationProp* prop,
                                        CUmemAllocationGranularity_flags option) {
  TRY(check_prop(prop));
  if (option > CU_MEM_ALLOC_GRANULARITY_RECOMMENDED) return CUDA_ERROR_INVALID_VALUE;
  return set(granularity, kGranularity);
}

CUresult mem_create(CUmemGenericAllocationHandle* handle, size_t size, const CUmemAllocationProp* prop,
                    unsigned long long flags) {
  if (handle == nullptr || !whole(size) || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  TRY(check_prop(prop));
  auto physical = std::make_shared<Physical>();
  if (members().empty() && !on_host(prop->location)) TRY(join_shared());
  if (!on_host(prop->location)) {
    if (!charge(size)) return CUDA_ERROR_OUT_OF_MEMORY;
    physical->charged = size;
  }
  physical->file = memfd_create(kFileName, MFD_CLOEXEC);
  if (physical->file < 0 || ftruncate(physical->file, static_cast<off_t>(size)) != 0)
    return CUDA_ERROR_OUT_OF_MEMORY;
  physical->size = size;
  physical->prop = *prop;
  *handle = hand_out(physical);
  return CUDA_SUCCESS;
}

CUresult mem_release(CUmemGenericAllocationHandle handle) {
  std::shared_ptr<Physical> physical = find(handle);
  if (physical == nullptr) return CUDA_ERROR_INVALID_VALUE;
  // Its memory goes with its last mapping.
  if (--physical->handles == 0) physicals().erase(handle);
  return CUDA_SUCCESS;
}

CUresult mem_retain_allocation_handle(CUmemGenericAllocationHandle* handle, void* addr) {
  Range* range = find_range(reinterpret_cast<uint64_t>(addr));
  if (handle == nullptr || range == nullptr || range->origin != Origin::kMapped)
    return CUDA_ERROR_INVALID_VALUE;
  *handle = hand_out(range->physical);
  return CUDA_SUCCESS;
}

CUresult mem_get_allocation_properties_from_handle(CUmemAllocationProp* prop,
                                                   CUmemGenericAllocationHandle handle) {
  std::shared_ptr<Physical> physical = find(handle);
  return physical != nullptr ? set(prop, physical->prop) : CUDA_ERROR_INVALID_VALUE;
}

CUresult mem_address_reserve(CUdeviceptr* ptr, size_t size, size_t alignment, CUdeviceptr addr,
                             unsigned long long flags) {
  if (ptr == nullptr || !whole(size) || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  if ((alignment & (alignment - 1)) != 0) return CUDA_ERROR_INVALID_VALUE;
  uint64_t unit = std::max<uint64_t>(alignment, kGranularity);
  int mode = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* memory = mmap(reinterpret_cast<void*>(addr), size + unit, PROT_NONE, mode, -1, 0);
  if (memory == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
  auto first = reinterpret_cast<uint64_t>(memory);
  uint64_t base = round_up(first, unit);
  if (base > first) munmap(memory, base - first);
  uint64_t rest = first + unit - base;
  if (rest > 0) munmap(reinterpret_cast<void*>(base + size), rest);
  reservations()[base] = size;
  *ptr = base;
  return CUDA_SUCCESS;
}

CUresult mem_address_free(CUdeviceptr ptr, size_t size) {
  auto found = reservations().find(ptr);
  if (found == reservations().end() || found->second != size || !free_to_map(ptr, size))
    return CUDA_ERROR_INVALID_VALUE;
  munmap(reinterpret_cast<void*>(ptr), size);
  reservations().erase(found);
  return CUDA_SUCCESS;
}

CUresult mem_map(CUdeviceptr ptr, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
                 unsigned long long flags) {
  std::shared_ptr<Physical> physical = find(handle);
  if (physical == nullptr || !whole(size) || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  if (offset % kGranularity != 0 || offset > physical->size || size > physical->size - offset)
    return CUDA_ERROR_INVALID_VALUE;
  if (ptr % kGranularity != 0 || !reserved(ptr, size) || !free_to_map(ptr, size))
    return CUDA_ERROR_INVALID_VALUE;
  if (!map_file(ptr, size, physical->file, offset)) return CUDA_ERROR_OUT_OF_MEMORY;
  add_range({.origin = Origin::kMapped, .base = ptr, .size = size, .flags = 0, .physical = physical});
  return CUDA_SUCCESS;
}

CUresult mem_unmap(CUdeviceptr ptr, size_t size) {
  std::vector<uint64_t> bases;
  TRY(for_mappings(ptr, size, [&](Range& range) { bases.push_back(range.base); }));
  wait_for_all();
  map_file(ptr, size, -1, 0);
  for (uint64_t base : bases) drop_range(base);
  return CUDA_SUCCESS;
}

CUresult mem_set_access(CUdeviceptr ptr, size_t size, const CUmemAccessDesc* desc, size_t count) {
  if (desc == nullptr || count == 0) return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < count; ++i) {
    bool device = desc[i].location.type == CU_MEM_LOCATION_TYPE_DEVICE;
    if (device && desc[i].location.id != 0) return CUDA_ERROR_INVALID_DEVICE;
    if (!device && !on_host(desc[i].location)) return CUDA_ERROR_INVALID_VALUE;
    TRY(for_mappings(ptr, size, [&](Range& range) { range.flags = desc[i].flags; }));
    mprotect(reinterpret_cast<void*>(ptr), size, protection(desc[i].flags));
  }
  return CUDA_SUCCESS;
}

CUresult mem_get_access(unsigned long long* flags, const CUmemLocation* location, CUdeviceptr ptr) {
  Range* range = find_range(ptr);
  if (location == nullptr || range == nullptr || range->origin != Origin::kMapped)
    return CUDA_ERROR_INVALID_VALUE;
  return set(flags, range->flags);
}

CUresult mem_export_to_shareable_handle(void* shareableHandle, CUmemGenericAllocationHandle handle,
                                        CUmemAllocationHandleType handleType, unsigned long long flags) {
  std::shared_ptr<Physical> physical = find(handle);
  if (shareableHandle == nullptr || physical == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  if (handleType != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) return CUDA_ERROR_NOT_SUPPORTED;
  if ((physical->prop.requestedHandleTypes & handleType) == 0) return CUDA_ERROR_INVALID_VALUE;
  int file = fcntl(physical->file, F_DUPFD_CLOEXEC, 0);
  if (file < 0) return CUDA_ERROR_OPERATING_SYSTEM;
  return set(static_cast<int*>(shareableHandle), file);
}

CUresult mem_import_from_shareable_handle(CUmemGenericAllocationHandle* handle, void* osHandle,
                                          CUmemAllocationHandleType shHandleType) {
  if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (shHandleType != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) return CUDA_ERROR_NOT_SUPPORTED;
  int theirs = static_cast<int>(reinterpret_cast<intptr_t>(osHandle));
  uint64_t size;
  if (!ours(theirs, &size)) return CUDA_ERROR_INVALID_VALUE;
  auto physical = std::make_shared<Physical>();
  physical->file = fcntl(theirs, F_DUPFD_CLOEXEC, 0);
  physical->size = size;
  physical->prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  physical->prop.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
  physical->prop.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
  *handle = hand_out(physical);
  return CUDA_SUCCESS;
}

CUresult mem_get_handle_for_address_range(void* handle, CUdeviceptr dptr, size_t size,
                                          CUmemRangeHandleType handleType, unsigned long long flags) {
  if (handle == nullptr || handleType != CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD || flags > 1 || size == 0)
    return CUDA_ERROR_INVALID_VALUE;
  return find_range(dptr) != nullptr ? CUDA_ERROR_NOT_SUPPORTED : CUDA_ERROR_INVALID_VALUE;
}

}  // namespace standin::driver

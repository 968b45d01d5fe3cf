// Virtual memory: handles, what they are mapped to, and what was exported.
#include "physical.h"

namespace fasthook {
namespace {

// Addresses, and places in arrays, to a Mapping.
constinit Table mappings = {};

Mapping* as_mapping(uint64_t word) { return reinterpret_cast<Mapping*>(word); }

void end_mapping(Mapping* mapping) {
  end_use(mapping->physical);
  leave_room(mapping);
}

// A new mapping of something that is in use for it already.
bool remember_mapping(uint64_t key, const Mapping& mapping) {
  Room* room = take_room();
  if (room == nullptr) return false;
  room->mapping = mapping;
  uint64_t before = mappings.take(key);
  if (before != 0) end_mapping(as_mapping(before));
  if (mappings.put(key, reinterpret_cast<uint64_t>(room))) return true;
  leave_room(room);
  return false;
}

bool counts(const Inside& inside) { return treatment(inside) == Treatment::kCount; }

// --- addresses ---------------------------------------------------------------------------------------------

// All mappings that begin there. Where they follow each other they are found at once; after a gap all have to
// be looked through.
Mapping* take_mappings(uint64_t start, uint64_t end) {
  Mapping* taken = nullptr;
  auto chain = [&taken](Mapping* mapping) {
    mapping->next = taken;
    taken = mapping;
  };
  while (start < end) {
    Mapping* mapping = as_mapping(mappings.take(start));
    if (mapping == nullptr) break;
    start += mapping->bytes;
    chain(mapping);
  }
  if (start >= end) return taken;
  mappings.remove_if([&](uint64_t key, uint64_t word) {
    bool within = key >= start && key < end && as_mapping(word)->array == 0;
    if (within) chain(as_mapping(word));
    return within;
  });
  return taken;
}

Physical* use_of_address(uint64_t address) {
  Physical* physical = nullptr;
  mappings.remove_if([&](uint64_t key, uint64_t word) {
    Mapping* mapping = as_mapping(word);
    bool covers = mapping->array == 0 && address >= key && address - key < mapping->bytes;
    if (covers && physical == nullptr) use(physical = mapping->physical);
    return false;
  });
  return physical;
}

// --- arrays ------------------------------------------------------------------------------------------------

uint64_t array_of(const CUarrayMapInfo& info) {
  return info.resourceType == CU_RESOURCE_TYPE_MIPMAPPED_ARRAY ? key_of(info.resource.mipmap)
                                                               : key_of(info.resource.array);
}

// A place in an array, as a key that is no address: addresses are even.
uint64_t place_of(const CUarrayMapInfo& info) {
  uint64_t place = array_of(info);
  auto mix = [&](uint64_t part) { place = (place ^ part) * 0x9e3779b97f4a7c15ULL, place ^= place >> 29; };
  mix(info.subresourceType);
  if (info.subresourceType == CU_ARRAY_SPARSE_SUBRESOURCE_TYPE_MIPTAIL) {
    mix(info.subresource.miptail.layer), mix(info.subresource.miptail.offset);
  } else {
    const auto& level = info.subresource.sparseLevel;
    mix(level.level), mix(level.layer), mix(level.offsetX), mix(level.offsetY), mix(level.offsetZ);
  }
  return place | 1;
}

void note_array_mapping(const CUarrayMapInfo& info) {
  uint64_t place = place_of(info);
  if (info.memOperationType == CU_MEM_OPERATION_TYPE_UNMAP) {
    if (uint64_t word = mappings.take(place)) end_mapping(as_mapping(word));
    return;
  }
  Physical* physical = use_of_handle(info.memHandle.memHandle);
  // Without room to note it, it stays in use for good.
  if (physical != nullptr) remember_mapping(place, {physical, 0, 0, array_of(info), nullptr});
}

template <typename Call>
CUresult map_into_arrays(const CUarrayMapInfo* list, unsigned count, Call&& call) {
  Inside inside;
  bool counted = counts(inside);
  CUresult result = call();
  if (result != CUDA_SUCCESS || !counted || list == nullptr) return result;
  for (unsigned i = 0; i < count; ++i) note_array_mapping(list[i]);
  return result;
}

bool is_on_device(const CUmemAllocationProp* properties) {
  return properties != nullptr && properties->location.type == CU_MEM_LOCATION_TYPE_DEVICE;
}

// Counts what was just created under its handle.
bool remember_physical(uint64_t handle, uint64_t bytes) {
  Room* room = take_room();
  if (room == nullptr) return false;
  room->physical = {bytes, 1};
  if (handles.put(handle, reinterpret_cast<uint64_t>(room) | kOneReference)) return true;
  leave_room(room);
  return false;
}

}  // namespace

void forget_array(uint64_t array) {
  mappings.remove_if([=](uint64_t, uint64_t word) {
    bool within = as_mapping(word)->array == array;
    if (within) end_mapping(as_mapping(word));
    return within;
  });
}

void forget_virtual_memory() {
  handles.forget();
  mappings.forget();
  forget_rooms();
  forget_exports();
}

}  // namespace fasthook

using namespace fasthook;

HOOKED CUresult cuMemCreate(CUmemGenericAllocationHandle* out, size_t bytes,
                            const CUmemAllocationProp* properties, unsigned long long flags) {
  Inside inside;
  Treatment how = treatment(inside);
  if (how == Treatment::kRefuse) return CUDA_ERROR_NOT_PERMITTED;
  auto create = [=] { return real.cuMemCreate(out, bytes, properties, flags); };
  if (how == Treatment::kPass || !is_on_device(properties)) return create();
  return count(
      0, bytes, create, [=] { return remember_physical(*out, bytes); }, [=] { real.cuMemRelease(*out); });
}

// As all that ends: forgotten first, for the handle may be another's at once.
HOOKED CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  Inside inside;
  if (!counts(inside)) return real.cuMemRelease(handle);
  Physical* physical = nullptr;
  handles.change(handle, [&](uint64_t& word) {
    physical = physical_of(word);
    word -= kOneReference;
    if (word < kOneReference) word = 0;
  });
  CUresult result = real.cuMemRelease(handle);
  if (physical == nullptr) return result;
  if (result == CUDA_SUCCESS) {
    end_use(physical);
    settle_exports();
  } else if (!handles.change(handle, [](uint64_t& word) { word += kOneReference; })) {
    handles.put(handle, reinterpret_cast<uint64_t>(physical) | kOneReference);
  }
  return result;
}

HOOKED CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle* out, void* address) {
  Inside inside;
  bool counted = counts(inside);
  CUresult result = real.cuMemRetainAllocationHandle(out, address);
  if (result != CUDA_SUCCESS || !counted) return result;
  auto again = [](uint64_t& word) { use(physical_of(word)), word += kOneReference; };
  if (handles.change(*out, again)) return result;
  // All its handles had been released: it lives on in a mapping.
  Physical* physical = use_of_address(key_of(address));
  if (physical != nullptr) handles.put(*out, reinterpret_cast<uint64_t>(physical) | kOneReference);
  return result;
}

HOOKED CUresult cuMemMap(CUdeviceptr address, size_t bytes, size_t offset,
                         CUmemGenericAllocationHandle handle, unsigned long long flags) {
  Inside inside;
  Physical* physical = counts(inside) ? use_of_handle(handle) : nullptr;
  CUresult result = real.cuMemMap(address, bytes, offset, handle, flags);
  if (physical == nullptr) return result;
  if (result == CUDA_SUCCESS && remember_mapping(address, {physical, address, bytes, 0, nullptr}))
    return result;
  if (result == CUDA_SUCCESS) {
    real.cuMemUnmap(address, bytes);
    result = CUDA_ERROR_OUT_OF_MEMORY;
  }
  end_use(physical);
  return result;
}

HOOKED CUresult cuMemUnmap(CUdeviceptr address, size_t bytes) {
  Inside inside;
  if (!counts(inside)) return real.cuMemUnmap(address, bytes);
  Mapping* taken = take_mappings(address, address + bytes);
  CUresult result = real.cuMemUnmap(address, bytes);
  for (Mapping* next; taken != nullptr; taken = next) {
    next = taken->next;
    if (result == CUDA_SUCCESS)
      end_mapping(taken);
    else
      mappings.put(taken->start, reinterpret_cast<uint64_t>(taken));
  }
  return result;
}

HOOKED CUresult cuMemMapArrayAsync(CUarrayMapInfo* list, unsigned count, CUstream stream) {
  return map_into_arrays(list, count, [=] { return real.cuMemMapArrayAsync(list, count, stream); });
}

HOOKED CUresult cuMemMapArrayAsync_ptsz(CUarrayMapInfo* list, unsigned count, CUstream stream) {
  return map_into_arrays(list, count, [=] { return real.cuMemMapArrayAsync_ptsz(list, count, stream); });
}

HOOKED CUresult cuMemExportToShareableHandle(void* out, CUmemGenericAllocationHandle handle,
                                             CUmemAllocationHandleType type, unsigned long long flags) {
  Inside inside;
  bool counted = counts(inside) && type == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
  CUresult result = real.cuMemExportToShareableHandle(out, handle, type, flags);
  if (result != CUDA_SUCCESS || !counted) return result;
  if (Physical* physical = use_of_handle(handle)) watch_export(physical, *static_cast<const int*>(out));
  return result;
}

// A pool counts with the device what it has ever needed at once; what it keeps beyond that is given back when
// the program next waits for something, down to the release threshold. Memory is free for others as soon as
// its release is submitted: what was done to it was done by then.
#include "pools.h"

#include <sys/mman.h>

#include <algorithm>

#include "captures.h"
#include "handles.h"
#include "implementations.h"

namespace standin::driver {
namespace {

using Pool = CUmemPoolHandle_st;

struct Pools {
  CUmemoryPool standard = nullptr, current = nullptr, managed = nullptr, host = nullptr;
  std::set<CUmemoryPool> all;
  Pool graphs;  // what graphs allocate
};

Pools& pools() {
  static auto* one = new Pools;
  return *one;
}

CUmemPoolProps props(CUmemAllocationType type, CUmemLocationType location) {
  CUmemPoolProps p{};
  p.allocType = type;
  p.location = {location, 0};
  return p;
}

CUmemoryPool make(const CUmemPoolProps& p, bool built_in) {
  CUmemoryPool pool = enlist(new Pool{.props = p});
  pool->on_device = p.location.type == CU_MEM_LOCATION_TYPE_DEVICE;
  pool->built_in = built_in;
  pools().all.insert(pool);
  return pool;
}

CUmemoryPool built_in(CUmemoryPool* place, CUmemAllocationType type, CUmemLocationType location) {
  if (*place == nullptr) *place = make(props(type, location), true);
  return *place;
}

CUmemoryPool standard() {
  return built_in(&pools().standard, CU_MEM_ALLOCATION_TYPE_PINNED, CU_MEM_LOCATION_TYPE_DEVICE);
}

CUmemoryPool current_pool() { return pools().current != nullptr ? pools().current : standard(); }

bool grow(Pool* pool, uint64_t bytes) {
  uint64_t most = pool->props.maxSize;
  if (most != 0 && pool->used + bytes > most) return false;
  uint64_t kept = pool->reserved - pool->used;
  uint64_t more = bytes > kept ? bytes - kept : 0;
  if (more > 0 && pool->on_device && !charge(more)) {
    // Asking may have trimmed this pool itself.
    kept = pool->reserved - pool->used;
    more = bytes > kept ? bytes - kept : 0;
    if (!charge(more)) return false;
  }
  pool->reserved += more;
  pool->used += bytes;
  pool->used_high = std::max(pool->used_high, pool->used);
  pool->reserved_high = std::max(pool->reserved_high, pool->reserved);
  return true;
}

void shrink_to(Pool* pool, uint64_t keep) {
  uint64_t target = std::max(pool->used, std::min(pool->reserved, keep));
  if (pool->on_device) discharge(pool->reserved - target);
  pool->reserved = target;
}

CUresult allocate(CUmemoryPool pool, uint64_t size, CUcontext context, Range** out) {
  if (size == 0) return CUDA_ERROR_INVALID_VALUE;
  if (size > settings().mem_bytes) return CUDA_ERROR_OUT_OF_MEMORY;
  if (!grow(pool, round_up(size, kUnit))) return CUDA_ERROR_OUT_OF_MEMORY;
  CUresult result = take_unpaid(size, Origin::kPooled, context, out);
  if (result == CUDA_SUCCESS)
    (*out)->pool = pool;
  else
    pool->used -= round_up(size, kUnit);
  return result;
}

CUresult allocate_in(CUstream handle, CUmemoryPool pool, size_t size, CUdeviceptr* out) {
  CUstream stream;
  TRY(find_working_stream(handle, &stream));
  if (stream->capture == nullptr) {
    Range* range;
    TRY(allocate(pool, size, stream->context, &range));
    *out = range->base;
    return CUDA_SUCCESS;
  }
  Operation work = operation(CU_GRAPH_NODE_TYPE_MEM_ALLOC);
  work.params.alloc.poolProps = pool->props;
  work.params.alloc.bytesize = size;
  TRY(issue(stream, work));
  *out = work.params.alloc.dptr;
  return CUDA_SUCCESS;
}

uint64_t* figure(Pool* pool, CUmemPool_attribute attribute) {
  switch (attribute) {
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
      return &pool->threshold;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
      return &pool->reserved;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
      return &pool->reserved_high;
    case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
      return &pool->used;
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
      return &pool->used_high;
    default:
      return nullptr;
  }
}

bool is_reuse(CUmemPool_attribute attribute) { return attribute >= 1 && attribute <= 3; }

CUresult pool_for(const CUmemLocation* location, CUmemAllocationType type, CUmemoryPool* out) {
  if (out == nullptr || location == nullptr) return CUDA_ERROR_INVALID_VALUE;
  bool device = location->type == CU_MEM_LOCATION_TYPE_DEVICE;
  if (device && location->id != 0) return CUDA_ERROR_INVALID_DEVICE;
  if (type == CU_MEM_ALLOCATION_TYPE_MANAGED)
    *out = built_in(&pools().managed, type, CU_MEM_LOCATION_TYPE_DEVICE);
  else if (type != CU_MEM_ALLOCATION_TYPE_PINNED)
    return CUDA_ERROR_INVALID_VALUE;
  else
    *out = device ? standard() : built_in(&pools().host, type, CU_MEM_LOCATION_TYPE_HOST);
  return CUDA_SUCCESS;
}

uint64_t* graph_figure(CUgraphMem_attribute attribute) {
  constexpr CUmemPool_attribute same[] = {CU_MEMPOOL_ATTR_USED_MEM_CURRENT, CU_MEMPOOL_ATTR_USED_MEM_HIGH,
                                          CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT,
                                          CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH};
  return attribute < 4 ? figure(&pools().graphs, same[attribute]) : nullptr;
}

// A high-water mark may be set to nothing, that is: to what is in use now.
CUresult reset(uint64_t* high, uint64_t now, uint64_t value) {
  if (value != 0) return CUDA_ERROR_INVALID_VALUE;
  *high = now;
  return CUDA_SUCCESS;
}

}  // namespace

void trim_pools() {
  for (CUmemoryPool pool : pools().all) shrink_to(pool, pool->threshold);
}

uint64_t trim_pools_to_zero() {
  uint64_t before = st_mem_free(device());
  for (CUmemoryPool pool : pools().all) shrink_to(pool, 0);
  shrink_to(&pools().graphs, 0);
  return st_mem_free(device()) - before;
}

CUresult release_pooled(Range* range) {
  uint64_t bytes = round_up(range->size, kUnit);
  if (range->of_graph) {
    if (!range->in_use) return CUDA_ERROR_INVALID_VALUE;
    range->in_use = false;
    pools().graphs.used -= bytes;
    return CUDA_SUCCESS;
  }
  if (alive(range->pool)) range->pool->used -= bytes;
  give(range);
  return CUDA_SUCCESS;
}

GraphMemory::~GraphMemory() {
  Range* range = find_base(base);
  if (range == nullptr) return;
  if (range->in_use) release_pooled(range);
  give(range);
}

void free_left(const std::vector<CUgraphNode>& nodes) {
  for (CUgraphNode node : nodes)
    if (node->work.memory != nullptr)
      if (Range* range = find_base(node->work.memory->base); range->in_use) release_pooled(range);
}

CUresult reserve_for_graph(uint64_t size, std::shared_ptr<GraphMemory>* out) {
  if (size == 0) return CUDA_ERROR_INVALID_VALUE;
  Range* range;
  TRY(take_unpaid(size, Origin::kPooled, nullptr, &range));
  range->of_graph = true;
  range->in_use = false;
  *out = std::make_shared<GraphMemory>();
  (*out)->base = range->base;
  return CUDA_SUCCESS;
}

CUresult perform_alloc(CUstream, const CUDA_MEM_ALLOC_NODE_PARAMS_v2& alloc) {
  Range* range = find_base(alloc.dptr);
  if (range == nullptr || range->in_use) return CUDA_ERROR_INVALID_VALUE;
  if (!grow(&pools().graphs, round_up(range->size, kUnit))) return CUDA_ERROR_OUT_OF_MEMORY;
  range->in_use = true;
  return CUDA_SUCCESS;
}

CUresult perform_free(CUstream stream, CUdeviceptr address) {
  Range* range = find_base(address);
  if (range == nullptr || range->origin != Origin::kPooled || !range->in_use) return CUDA_ERROR_INVALID_VALUE;
  after(stream->hosts, [=] {
    if (Range* still = find_base(address)) release_pooled(still);
  });
  return CUDA_SUCCESS;
}

CUresult mem_alloc_async(CUdeviceptr* dptr, size_t bytesize, CUstream hStream) {
  if (dptr == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return allocate_in(hStream, current_pool(), bytesize, dptr);
}

CUresult mem_alloc_from_pool_async(CUdeviceptr* dptr, size_t bytesize, CUmemoryPool pool, CUstream hStream) {
  if (dptr == nullptr || !alive(pool)) return CUDA_ERROR_INVALID_VALUE;
  return allocate_in(hStream, pool, bytesize, dptr);
}

CUresult mem_free_async(CUdeviceptr dptr, CUstream hStream) {
  CUstream stream;
  TRY(find_working_stream(hStream, &stream));
  Range* range = find_base(dptr);
  if (range == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Operation work = operation(CU_GRAPH_NODE_TYPE_MEM_FREE);
  work.params.free.dptr = dptr;
  if (stream->capture != nullptr || range->origin == Origin::kPooled) return issue(stream, work);
  // What cuMemAlloc gave may be freed in a stream's order too.
  if (range->origin != Origin::kDevice) return CUDA_ERROR_INVALID_VALUE;
  after(stream->hosts, [=] {
    if (Range* still = find_base(dptr)) give(still);
  });
  return CUDA_SUCCESS;
}

CUresult mem_pool_create(CUmemoryPool* pool, const CUmemPoolProps* poolProps) {
  if (pool == nullptr || poolProps == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (poolProps->allocType != CU_MEM_ALLOCATION_TYPE_PINNED &&
      poolProps->allocType != CU_MEM_ALLOCATION_TYPE_MANAGED)
    return CUDA_ERROR_INVALID_VALUE;
  if (poolProps->location.type == CU_MEM_LOCATION_TYPE_INVALID) return CUDA_ERROR_INVALID_VALUE;
  if (poolProps->location.type == CU_MEM_LOCATION_TYPE_DEVICE && poolProps->location.id != 0)
    return CUDA_ERROR_INVALID_DEVICE;
  if (poolProps->handleTypes != CU_MEM_HANDLE_TYPE_NONE) return CUDA_ERROR_NOT_SUPPORTED;
  TRY(join_shared());
  *pool = make(*poolProps, false);
  return CUDA_SUCCESS;
}

CUresult mem_pool_destroy(CUmemoryPool pool) {
  if (!alive(pool) || pool->built_in) return CUDA_ERROR_INVALID_VALUE;
  if (pools().current == pool) pools().current = nullptr;
  std::vector<uint64_t> left;
  for (auto& [base, range] : ranges())
    if (range.pool == pool) left.push_back(base);
  for (uint64_t base : left) release_pooled(find_base(base));
  shrink_to(pool, 0);
  pools().all.erase(pool);
  strike(pool);
  return CUDA_SUCCESS;
}

CUresult mem_pool_trim_to(CUmemoryPool pool, size_t minBytesToKeep) {
  if (!alive(pool)) return CUDA_ERROR_INVALID_VALUE;
  TRY(unsafe());
  shrink_to(pool, minBytesToKeep);
  return CUDA_SUCCESS;
}

CUresult mem_pool_set_attribute(CUmemoryPool pool, CUmemPool_attribute attr, void* value) {
  if (!alive(pool) || value == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (is_reuse(attr)) return set(&pool->reuse[attr - 1], *static_cast<int*>(value));
  uint64_t number = *static_cast<cuuint64_t*>(value);
  if (attr == CU_MEMPOOL_ATTR_RELEASE_THRESHOLD) return set(&pool->threshold, number);
  if (attr == CU_MEMPOOL_ATTR_USED_MEM_HIGH) return reset(&pool->used_high, pool->used, number);
  if (attr == CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH) return reset(&pool->reserved_high, pool->reserved, number);
  return CUDA_ERROR_INVALID_VALUE;
}

CUresult mem_pool_get_attribute(CUmemoryPool pool, CUmemPool_attribute attr, void* value) {
  if (!alive(pool) || value == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (is_reuse(attr)) return set(static_cast<int*>(value), pool->reuse[attr - 1]);
  const uint64_t* found = figure(pool, attr);
  return found != nullptr ? set(static_cast<cuuint64_t*>(value), *found) : CUDA_ERROR_INVALID_VALUE;
}

CUresult mem_pool_set_access(CUmemoryPool pool, const CUmemAccessDesc* map, size_t count) {
  if (!alive(pool) || (count > 0 && map == nullptr)) return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < count; ++i) {
    bool device = map[i].location.type == CU_MEM_LOCATION_TYPE_DEVICE;
    if (device && map[i].location.id != 0) return CUDA_ERROR_INVALID_DEVICE;
    if (device && map[i].flags == CU_MEM_ACCESS_FLAGS_PROT_NONE) return CUDA_ERROR_INVALID_VALUE;
    pool->access = map[i].flags;
  }
  return CUDA_SUCCESS;
}

CUresult mem_pool_get_access(CUmemAccess_flags* flags, CUmemoryPool memPool, CUmemLocation* location) {
  if (!alive(memPool) || location == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return set(flags, memPool->access);
}

CUresult device_get_default_mem_pool(CUmemoryPool* pool_out, CUdevice dev) {
  return dev == 0 ? set(pool_out, standard()) : CUDA_ERROR_INVALID_DEVICE;
}

CUresult device_get_mem_pool(CUmemoryPool* pool, CUdevice dev) {
  return dev == 0 ? set(pool, current_pool()) : CUDA_ERROR_INVALID_DEVICE;
}

CUresult device_set_mem_pool(CUdevice dev, CUmemoryPool pool) {
  if (dev != 0) return CUDA_ERROR_INVALID_DEVICE;
  if (!alive(pool) || !pool->on_device) return CUDA_ERROR_INVALID_VALUE;
  pools().current = pool;
  return CUDA_SUCCESS;
}

CUresult mem_get_default_mem_pool(CUmemoryPool* pool_out, CUmemLocation* location, CUmemAllocationType type) {
  return pool_for(location, type, pool_out);
}

CUresult mem_get_mem_pool(CUmemoryPool* pool, CUmemLocation* location, CUmemAllocationType type) {
  TRY(pool_for(location, type, pool));
  if (*pool == pools().standard) *pool = current_pool();
  return CUDA_SUCCESS;
}

CUresult mem_set_mem_pool(CUmemLocation* location, CUmemAllocationType type, CUmemoryPool pool) {
  CUmemoryPool standard_one;
  TRY(pool_for(location, type, &standard_one));
  if (!alive(pool) || pool->props.allocType != type) return CUDA_ERROR_INVALID_VALUE;
  if (standard_one != pools().standard) return CUDA_ERROR_NOT_SUPPORTED;
  return device_set_mem_pool(0, pool);
}

CUresult device_graph_mem_trim(CUdevice device) {
  if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
  shrink_to(&pools().graphs, 0);
  return CUDA_SUCCESS;
}

CUresult device_get_graph_mem_attribute(CUdevice device, CUgraphMem_attribute attr, void* value) {
  if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
  const uint64_t* found = graph_figure(attr);
  return found != nullptr ? set(static_cast<cuuint64_t*>(value), *found) : CUDA_ERROR_INVALID_VALUE;
}

CUresult device_set_graph_mem_attribute(CUdevice device, CUgraphMem_attribute attr, void* value) {
  if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
  if (value == nullptr) return CUDA_ERROR_INVALID_VALUE;
  uint64_t number = *static_cast<cuuint64_t*>(value);
  Pool& graphs = pools().graphs;
  if (attr == CU_GRAPH_MEM_ATTR_USED_MEM_HIGH) return reset(&graphs.used_high, graphs.used, number);
  if (attr == CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH)
    return reset(&graphs.reserved_high, graphs.reserved, number);
  return CUDA_ERROR_INVALID_VALUE;
}

}  // namespace standin::driver

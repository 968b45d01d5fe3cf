#include "allocations.h"

namespace fasthook {
namespace {

enum class Source : uint8_t { kNone, kPool, kGraphs, kDestroyed };

struct Pool {
  Source source = Source::kNone;
  bool on_host = false;
  CUmemoryPool handle = nullptr;
  CUdevice device = 0;  // of graphs
  uint64_t live = 0;    // allocated and not freed
  uint64_t kept = 0;    // freed, but still counted
};

Pool pools[kPools];
int known = 1;
uint32_t lock_word = 0;

template <typename Same>
uint8_t number_of(Same same, const Pool& fresh) {
  int unused = 0;
  for (int i = 1; i < known; ++i) {
    if (same(pools[i])) return static_cast<uint8_t>(i);
    if (unused == 0 && pools[i].source == Source::kNone) unused = i;
  }
  bool is_new = unused == 0 && known < kPools;
  if (is_new) unused = known;
  if (unused != 0) pools[unused] = fresh;
  if (is_new) __atomic_store_n(&known, known + 1, __ATOMIC_RELEASE);
  return static_cast<uint8_t>(unused);
}

uint8_t number_of_handle(CUmemoryPool handle, bool on_host) {
  auto same = [=](const Pool& pool) { return pool.source == Source::kPool && pool.handle == handle; };
  return number_of(same, {Source::kPool, on_host, handle, 0, 0, 0});
}

// What the driver holds for it; all that there could be, where it does not say.
uint64_t reserved(const Pool& pool) {
  cuuint64_t bytes = 0;
  CUresult result = CUDA_ERROR_NOT_SUPPORTED;
  if (pool.source == Source::kPool && real.cuMemPoolGetAttribute != nullptr)
    result = real.cuMemPoolGetAttribute(pool.handle, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &bytes);
  if (pool.source == Source::kGraphs && real.cuDeviceGetGraphMemAttribute != nullptr)
    result = real.cuDeviceGetGraphMemAttribute(pool.device, CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT, &bytes);
  return result == CUDA_SUCCESS ? bytes : 0;
}

void trim(const Pool& pool) {
  if (pool.source == Source::kPool) real.cuMemPoolTrimTo(pool.handle, 0);
  if (pool.source == Source::kGraphs) real.cuDeviceGraphMemTrim(pool.device);
}

// Meanwhile it may have been used: what was freed since then is not looked at.
void settle(Pool* pool, bool trims) {
  Pool before;
  {
    SpinLock lock(&lock_word);
    before = *pool;
  }
  if (before.kept == 0) return;
  if (trims) trim(before);
  uint64_t holds = reserved(before);
  uint64_t keeps = holds > before.live ? holds - before.live : 0;
  if (keeps >= before.kept) return;
  uint64_t back = before.kept - keeps;
  {
    SpinLock lock(&lock_word);
    if (back > pool->kept) back = pool->kept;
    pool->kept -= back;
  }
  give_back(back);
}

}  // namespace

uint8_t pool_number(CUmemoryPool handle) {
  if (handle == nullptr) return 0;
  SpinLock lock(&lock_word);
  return number_of_handle(handle, false);
}

uint8_t current_pool_number() {
  CUdevice device;
  CUmemoryPool handle = nullptr;
  bool known_to_driver = real.cuCtxGetDevice != nullptr && real.cuDeviceGetMemPool != nullptr &&
                         real.cuCtxGetDevice(&device) == CUDA_SUCCESS &&
                         real.cuDeviceGetMemPool(&handle, device) == CUDA_SUCCESS;
  return known_to_driver ? pool_number(handle) : 0;
}

uint8_t graph_pool_number(CUdevice device) {
  SpinLock lock(&lock_word);
  auto same = [=](const Pool& pool) { return pool.source == Source::kGraphs && pool.device == device; };
  return number_of(same, {Source::kGraphs, false, nullptr, device, 0, 0});
}

bool is_on_host(uint8_t pool) {
  SpinLock lock(&lock_word);
  return pools[pool].on_host;
}

bool charge_to_pool(uint8_t number, uint64_t bytes) {
  if (number == 0) return charge(bytes);
  Pool* pool = &pools[number];
  uint64_t reused;
  {
    SpinLock lock(&lock_word);
    reused = pool->kept < bytes ? pool->kept : bytes;
    pool->kept -= reused;
    pool->live += bytes;
  }
  if (reused == bytes || charge(bytes - reused)) return true;
  SpinLock lock(&lock_word);
  pool->kept += reused;
  pool->live -= bytes;
  return false;
}

void give_back_to_pool(uint8_t number, uint64_t bytes) {
  if (number == 0) return give_back(bytes);
  Pool* pool = &pools[number];
  {
    SpinLock lock(&lock_word);
    pool->live -= bytes;
    if (pool->source != Source::kDestroyed) {
      pool->kept += bytes;
      return;
    }
    if (pool->live == 0) *pool = Pool();
  }
  give_back(bytes);
}

void settle_pools(bool trims) {
  int count = __atomic_load_n(&known, __ATOMIC_ACQUIRE);
  for (int i = 1; i < count; ++i) settle(&pools[i], trims);
}

void forget_pools() {
  for (Pool& pool : pools) pool = Pool();
  known = 1;
  lock_word = 0;
}

namespace {

// It goes when what is allocated from it is freed, and keeps nothing more.
void note_destroyed(CUmemoryPool handle) {
  uint64_t kept = 0;
  {
    SpinLock lock(&lock_word);
    for (int i = 1; i < known; ++i) {
      Pool* pool = &pools[i];
      if (pool->source != Source::kPool || pool->handle != handle) continue;
      kept = pool->kept;
      *pool = pool->live == 0 ? Pool() : Pool{Source::kDestroyed, pool->on_host, nullptr, 0, pool->live, 0};
    }
  }
  if (kept > 0) give_back(kept);
}

// Managed memory moves to the device, wherever it is said to be.
void note_host_pool(const CUmemoryPool* handle, const CUmemLocation* location, CUmemAllocationType type) {
  if (handle == nullptr || location == nullptr || type != CU_MEM_ALLOCATION_TYPE_PINNED) return;
  if (location->type == CU_MEM_LOCATION_TYPE_DEVICE) return;
  SpinLock lock(&lock_word);
  number_of_handle(*handle, true);
}

constexpr CUmemPoolProps kNoProperties = {};

template <typename Call>
CUresult finds_pool(const CUmemoryPool* handle, const CUmemLocation* location, CUmemAllocationType type,
                    Call&& call) {
  Inside inside;
  bool counts = treatment(inside) == Treatment::kCount;
  CUresult result = call();
  if (result == CUDA_SUCCESS && counts) note_host_pool(handle, location, type);
  return result;
}

template <typename Call>
CUresult then_settle(Call&& call) {
  Inside inside;
  bool counts = treatment(inside) == Treatment::kCount;
  CUresult result = call();
  if (counts) settle_pools(false);
  return result;
}

}  // namespace
}  // namespace fasthook

using namespace fasthook;

HOOKED CUresult cuMemPoolCreate(CUmemoryPool* pool, const CUmemPoolProps* properties) {
  const CUmemPoolProps& p = properties != nullptr ? *properties : kNoProperties;
  return finds_pool(pool, &p.location, p.allocType, [=] { return real.cuMemPoolCreate(pool, properties); });
}

#if CUDA_VERSION >= 13000
HOOKED CUresult cuMemGetDefaultMemPool(CUmemoryPool* pool, CUmemLocation* location,
                                       CUmemAllocationType type) {
  return finds_pool(pool, location, type, [=] { return real.cuMemGetDefaultMemPool(pool, location, type); });
}

HOOKED CUresult cuMemGetMemPool(CUmemoryPool* pool, CUmemLocation* location, CUmemAllocationType type) {
  return finds_pool(pool, location, type, [=] { return real.cuMemGetMemPool(pool, location, type); });
}
#endif

HOOKED CUresult cuMemPoolDestroy(CUmemoryPool pool) {
  Inside inside;
  bool counts = treatment(inside) == Treatment::kCount;
  CUresult result = real.cuMemPoolDestroy(pool);
  if (result == CUDA_SUCCESS && counts) note_destroyed(pool);
  return result;
}

HOOKED CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t bytes) {
  return then_settle([=] { return real.cuMemPoolTrimTo(pool, bytes); });
}

HOOKED CUresult cuDeviceGraphMemTrim(CUdevice device) {
  return then_settle([=] { return real.cuDeviceGraphMemTrim(device); });
}

#include "allocations.h"

#include <sys/mman.h>

namespace fasthook {

constinit Table pointers = {}, arrays = {};

namespace {

constexpr int kContexts = 256;

// Numbers of contexts. A context that ends leaves its number to the next.
CUcontext contexts[kContexts];
uint32_t numbering = 0;
uint32_t latest = 0;

uint8_t number_of(CUcontext context) {
  SpinLock lock(&numbering);
  uint32_t unused = 0;
  for (uint32_t i = 1; i < kContexts; ++i) {
    CUcontext there = __atomic_load_n(&contexts[i], __ATOMIC_RELAXED);
    if (there == context) return static_cast<uint8_t>(i);
    if (there == nullptr && unused == 0) unused = i;
  }
  if (unused != 0) __atomic_store_n(&contexts[unused], context, __ATOMIC_RELAXED);
  return static_cast<uint8_t>(unused);
}

// Memory of pools belongs to the device: a context takes it along only if it was the device's last.
bool went_with(uint8_t context, uint64_t address, Allocation allocation) {
  if (allocation.kind != Kind::kPooled) return allocation.owner == context;
  unsigned type;
  return real.cuPointerGetAttribute != nullptr &&
         real.cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address) ==
             CUDA_ERROR_INVALID_VALUE;
}

}  // namespace

Table::Entry* Table::Shard::find(uint64_t key) {
  uint32_t mask = size() - 1;
  Entry* all = entries();
  uint32_t at = static_cast<uint32_t>(scatter(key) >> 26) & mask;
  while (all[at].key != key && all[at].key != 0) at = (at + 1) & mask;
  return all + at;
}

// Who stands behind, and not where it belongs, moves up: so that no search ends too early.
void Table::Shard::remove(Entry* entry) {
  uint32_t mask = size() - 1;
  Entry* all = entries();
  uint32_t hole = static_cast<uint32_t>(entry - all);
  for (uint32_t at = (hole + 1) & mask; all[at].key != 0; at = (at + 1) & mask) {
    uint32_t home = static_cast<uint32_t>(scatter(all[at].key) >> 26) & mask;
    if (((at - home) & mask) < ((at - hole) & mask)) continue;
    all[hole] = all[at];
    hole = at;
  }
  all[hole] = {0, 0};
  --count;
}

bool Table::Shard::grow() {
  size_t bytes = size_t{2} * size() * sizeof(Entry);
  void* room = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED) return false;
  Entry *before = entries(), *old = grown;
  uint32_t old_size = size();
  grown = static_cast<Entry*>(room);
  ++doublings;
  for (uint32_t i = 0; i < old_size; ++i)
    if (before[i].key != 0) *find(before[i].key) = before[i];
  if (old != nullptr) munmap(old, old_size * sizeof(Entry));
  return true;
}

bool Table::put(uint64_t key, uint64_t value) {
  Shard* shard = shard_of(key);
  SpinLock lock(&shard->lock);
  if (shard->count >= shard->size() / 4 * 3 && !shard->grow()) return false;
  Entry* entry = shard->find(key);
  if (entry->key == 0) ++shard->count;
  *entry = {key, value};
  return true;
}

uint64_t Table::find(uint64_t key) {
  Shard* shard = shard_of(key);
  SpinLock lock(&shard->lock);
  return shard->find(key)->value;
}

uint64_t Table::take(uint64_t key) {
  Shard* shard = shard_of(key);
  SpinLock lock(&shard->lock);
  Entry* entry = shard->find(key);
  uint64_t value = entry->value;
  if (value != 0) shard->remove(entry);
  return value;
}

bool Table::empty() const {
  for (const Shard& shard : shards_)
    if (__atomic_load_n(&shard.count, __ATOMIC_RELAXED) != 0) return false;
  return true;
}

void Table::forget() {
  for (Shard& shard : shards_) {
    if (shard.grown != nullptr) munmap(shard.grown, shard.size() * sizeof(Entry));
    shard = Shard();
  }
}

uint8_t current_context() {
  CUcontext context = nullptr;
  if (real.cuCtxGetCurrent == nullptr || real.cuCtxGetCurrent(&context) != CUDA_SUCCESS || context == nullptr)
    return 0;
  uint32_t number = __atomic_load_n(&latest, __ATOMIC_RELAXED);
  if (__atomic_load_n(&contexts[number], __ATOMIC_RELAXED) == context) [[likely]]
    return static_cast<uint8_t>(number);
  uint8_t found = number_of(context);
  __atomic_store_n(&latest, found, __ATOMIC_RELAXED);
  return found;
}

bool charge(uint64_t bytes) {
  if (bytes > kMostBytes) return false;
  if (fg_charge_memory(gate(), static_cast<int64_t>(bytes)) == FG_OK) [[likely]]
    return true;
  settle_memory(true);
  return fg_charge_memory(gate(), static_cast<int64_t>(bytes)) == FG_OK;
}

void give_back(uint64_t bytes) { fg_charge_memory(gate(), -static_cast<int64_t>(bytes)); }

void give_back(Allocation allocation) {
  if (allocation.kind == Kind::kPooled) [[unlikely]]
    return give_back_to_pool(allocation.owner, allocation.bytes);
  give_back(allocation.bytes);
}

void settle_memory(bool trim) {
  settle_virtual_memory();
  settle_pools(trim);
}

void forget_memory_of(CUcontext context) {
  if (enforcement() != Enforcement::kEnforced || context == nullptr) return;
  uint8_t number = number_of(context);
  pointers.remove_if([=](uint64_t key, uint64_t word) {
    Allocation allocation = Allocation::of(word);
    bool went = went_with(number, key, allocation);
    if (went) give_back(allocation);
    return went;
  });
  arrays.remove_if([=](uint64_t key, uint64_t word) {
    Allocation allocation = Allocation::of(word);
    bool went = went_with(number, key, allocation);
    if (went) forget_array(key), give_back(allocation);
    return went;
  });
  settle_pools(false);
  if (number != 0) __atomic_store_n(&contexts[number], nullptr, __ATOMIC_RELAXED);
}

void forget_allocations() {
  pointers.forget();
  arrays.forget();
  for (CUcontext& context : contexts) context = nullptr;
  numbering = latest = 0;
  forget_pools();
  forget_virtual_memory();
  forget_graph_memory();
}

}  // namespace fasthook

#include "allocations.h"

#include "queues.h"

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
  settle_exports();
  // To free memory may spoil what is being captured.
  settle_pools(trim && __atomic_load_n(&capturing, __ATOMIC_RELAXED) == 0);
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
  forget_limits_of(context);
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
  forget_limits();
  forget_graph_memory();
}

}  // namespace fasthook

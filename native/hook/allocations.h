// What this process has allocated on the device: tables from handles to sizes, and the account that they are
// for.
#pragma once

#include <sched.h>

#include <cstddef>
#include <cstdint>

#include "atoms.h"
#include "functions.h"
#include "pools.h"

namespace fasthook {

// Held for a few instructions, and now and then while a table grows.
class SpinLock {
 public:
  explicit SpinLock(uint32_t* word) : word_(word) {
    for (int spins = 0; __atomic_exchange_n(word, 1U, __ATOMIC_ACQUIRE); ++spins)
      spins < 100 ? fastgate::relax() : static_cast<void>(sched_yield());
  }
  ~SpinLock() { __atomic_store_n(word_, 0U, __ATOMIC_RELEASE); }
  SpinLock(const SpinLock&) = delete;

 private:
  uint32_t* word_;
};

// From keys to values, neither of them 0, for many threads. Everything takes the same time however many there
// are; a part that is full moves to twice the room. All zeros is an empty table: nothing has to be built at
// the start.
class Table {
 public:
  // Adds, or replaces. False if there is no memory for it.
  bool put(uint64_t key, uint64_t value);
  // 0 if it is not there.
  uint64_t find(uint64_t key);
  uint64_t take(uint64_t key);

  // `change` sees the value and may alter it; 0 removes it. False if it is not there.
  template <typename Change>
  bool change(uint64_t key, Change&& change) {
    Shard* shard = shard_of(key);
    SpinLock lock(&shard->lock);
    Entry* entry = shard->find(key);
    if (entry->key == 0) return false;
    change(entry->value);
    if (entry->value == 0) shard->remove(entry);
    return true;
  }

  // `decide` sees every key and value, some of them twice, and says which to remove.
  template <typename Decide>
  void remove_if(Decide&& decide) {
    for (Shard& shard : shards_) {
      SpinLock lock(&shard.lock);
      for (uint32_t i = 0; i < shard.size() && shard.count > 0;) {
        Entry* entry = shard.entries() + i;
        if (entry->key != 0 && decide(entry->key, entry->value))
          shard.remove(entry);
        else
          ++i;
      }
    }
  }

  bool empty() const;
  void forget();  // in the child of a fork: whoever held a lock is not there

 private:
  static constexpr int kShards = 64;
  static constexpr uint32_t kFirstSize = 16;

  struct Entry {
    uint64_t key, value;
  };

  struct alignas(64) Shard {
    uint32_t lock, count, doublings;
    Entry* grown;
    Entry first[kFirstSize];

    Entry* entries() { return grown != nullptr ? grown : first; }
    uint32_t size() const { return kFirstSize << doublings; }
    // Where it is, or where there is room for it.
    Entry* find(uint64_t key);
    void remove(Entry* entry);
    bool grow();
  };

  static uint64_t scatter(uint64_t key) { return key * 0x9e3779b97f4a7c15ULL; }
  Shard* shard_of(uint64_t key) { return &shards_[scatter(key) >> 58]; }

  Shard shards_[kShards];
};

// --- the account -------------------------------------------------------------------------------------------

enum class Kind : uint8_t { kLinear = 1, kPooled };  // what it belongs to: a context, or a pool

constexpr uint64_t kMostBytes = 0xffff'ffff'ffff;

// One allocation; in a table it is one word.
struct Allocation {
  uint64_t bytes;  // kMostBytes at most
  Kind kind;
  uint8_t owner;  // current_context(), or a pool's number

  uint64_t word() const {
    return bytes | static_cast<uint64_t>(kind) << 48 | static_cast<uint64_t>(owner) << 56;
  }
  static Allocation of(uint64_t word) {
    return {word & kMostBytes, static_cast<Kind>(word >> 48 & 0xff), static_cast<uint8_t>(word >> 56)};
  }
};

extern Table pointers;  // device addresses
extern Table arrays;    // CUarray and CUmipmappedArray

// A number for the calling thread's context, from 1; 0 if there is none, or there are very many.
uint8_t current_context();

// The word of an allocation in the calling thread's context.
inline uint64_t linear(uint64_t bytes) { return Allocation{bytes, Kind::kLinear, current_context()}.word(); }

enum class Treatment { kPass, kCount, kRefuse };
// How a call of the program is to be treated that allocates.
inline Treatment treatment(const Inside& inside) {
  if (inside.nested()) return Treatment::kPass;
  switch (enforcement()) {
    case Enforcement::kEnforced:
      return Treatment::kCount;
    case Enforcement::kRefused:
      return Treatment::kRefuse;
    default:
      return Treatment::kPass;
  }
}

// Counts against the cap, or changes nothing and returns false.
bool charge(uint64_t bytes);
void give_back(uint64_t bytes);
void give_back(Allocation allocation);
// Gives back what has ended without a call that said so. `trim`: and has the driver let go of what is not in
// use.
void settle_memory(bool trim);

// Every way to allocate: counted first and given back if the driver fails, so that at no moment more is in
// use than is counted. `remember` says under what it is to be found; if that is not possible `undo` frees it.
// `pool`: its number, or 0.
template <typename Call, typename Remember, typename Undo>
CUresult count(uint8_t pool, uint64_t bytes, Call&& call, Remember&& remember, Undo&& undo) {
  if (!charge_to_pool(pool, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
  CUresult result = call();
  if (result == CUDA_SUCCESS && remember()) [[likely]]
    return result;
  if (result == CUDA_SUCCESS) {
    undo();
    result = CUDA_ERROR_OUT_OF_MEMORY;
  }
  give_back_to_pool(pool, bytes);
  if (pool != 0) settle_pools(false);
  return result;
}

// Forgotten first and remembered again if the driver fails: once it is free, its address may be another's.
template <typename Free>
CUresult release(Table* table, uint64_t key, Free&& free) {
  Inside inside;
  if (inside.nested() || enforcement() != Enforcement::kEnforced) return free();
  uint64_t word = table->take(key);
  CUresult result = free();
  if (word == 0) return result;
  if (result == CUDA_SUCCESS)
    give_back(Allocation::of(word));
  else
    table->put(key, word);
  return result;
}

inline uint64_t key_of(const void* handle) { return reinterpret_cast<uint64_t>(handle); }

// --- what is counted elsewhere -----------------------------------------------------------------------------

void settle_virtual_memory();  // what was exported
// An array is gone, and with it what was mapped into it.
void forget_array(uint64_t array);

void forget_allocations();
void forget_virtual_memory();
void forget_graph_memory();

}  // namespace fasthook

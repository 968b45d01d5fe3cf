// Tables from handles to what is known of them.
#pragma once

#include <sched.h>

#include <cstddef>
#include <cstdint>

#include "atoms.h"

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

}  // namespace fasthook

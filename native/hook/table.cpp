#include "table.h"

#include <sys/mman.h>

namespace fasthook {

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
  if (shard->count >= shard->size() / 2 && !shard->grow()) return false;
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

void Table::forget() {
  for (Shard& shard : shards_) {
    if (shard.grown != nullptr) munmap(shard.grown, shard.size() * sizeof(Entry));
    shard = Shard();
  }
}

}  // namespace fasthook

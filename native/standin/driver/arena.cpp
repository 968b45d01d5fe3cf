// Best fit in an ordered map of gaps, which grow together again when they meet.
#include "arena.h"

#include <sys/mman.h>
#include <unistd.h>

namespace standin::driver {
namespace {

// Pages are given back from this size on: below it the system call costs more than the memory.
constexpr uint64_t kReturnBytes = 1 << 20;

}  // namespace

bool Arena::open(uint64_t size, bool low) {
  file_ = memfd_create("standin-device-memory", MFD_CLOEXEC);
  if (file_ < 0 || ftruncate(file_, static_cast<off_t>(size)) != 0) return false;
  int flags = MAP_SHARED | MAP_NORESERVE | (low ? MAP_32BIT : 0);
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, file_, 0);
  if (memory == MAP_FAILED) return false;
  base_ = reinterpret_cast<uint64_t>(memory);
  size_ = size;
  add_gap(base_, size);
  return true;
}

uint64_t Arena::take(uint64_t size) {
  auto fit = by_size_.lower_bound({size, 0});
  if (fit == by_size_.end()) return 0;
  auto [gap_size, address] = *fit;
  drop_gap(gaps_.find(address));
  if (gap_size > size) add_gap(address + size, gap_size - size);
  return address;
}

void Arena::give(uint64_t address, uint64_t size) {
  if (size >= kReturnBytes) madvise(reinterpret_cast<void*>(address), size, MADV_REMOVE);
  auto next = gaps_.lower_bound(address);
  if (next != gaps_.end() && next->first == address + size) {
    size += next->second;
    drop_gap(next);
  }
  if (next = gaps_.lower_bound(address); next != gaps_.begin()) {
    auto before = std::prev(next);
    if (before->first + before->second == address) {
      address = before->first;
      size += before->second;
      drop_gap(before);
    }
  }
  add_gap(address, size);
}

void Arena::add_gap(uint64_t address, uint64_t size) {
  gaps_.emplace(address, size);
  by_size_.emplace(size, address);
}

void Arena::drop_gap(std::map<uint64_t, uint64_t>::iterator gap) {
  by_size_.erase({gap->second, gap->first});
  gaps_.erase(gap);
}

}  // namespace standin::driver

// Virtual memory management: physical memory, addresses, and mappings of one to the other.
#pragma once

#include <memory>

#include "memory.h"

namespace standin::driver {

// Memory without an address: a file.
struct Physical {
  int file = -1;
  uint64_t size = 0, charged = 0;
  CUmemAllocationProp prop{};
  int handles = 0;  // that the program has of it
  ~Physical();
};

// Mapped memory cannot be touched before cuMemSetAccess has said so.
bool accessible(const Range& range);

}  // namespace standin::driver

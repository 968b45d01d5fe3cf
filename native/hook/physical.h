// Physical memory that cuMemCreate made: in use while a handle, a mapping or an open descriptor of it is
// left.
#pragma once

#include <cstdint>

#include "allocations.h"

namespace fasthook {

struct Physical {
  uint64_t bytes;
  uint32_t uses;  // references of handles, mappings, and open descriptors
};

struct Mapping {
  Physical* physical;
  uint64_t start, bytes;  // addresses
  uint64_t array;         // or instead of them: what it is mapped into
  Mapping* next;          // of those that are being unmapped
};

// Room for either. It is taken by the page and used again, never returned; null if there is no memory.
union Room {
  Physical physical;
  Mapping mapping;
  Room* next;
};
Room* take_room();
void leave_room(void* what);
void forget_rooms();  // in the child of a fork

// Handles: to a Physical, and in the upper 16 bits how often cuMemRelease may be called. What others made and
// this process imported is not there: it is counted over there.
extern Table handles;
constexpr uint64_t kOneReference = 1ULL << 48;
inline Physical* physical_of(uint64_t word) {
  return reinterpret_cast<Physical*>(word & (kOneReference - 1));
}

inline void use(Physical* physical) { __atomic_fetch_add(&physical->uses, 1U, __ATOMIC_RELAXED); }
void end_use(Physical* physical);
// Once more in use; null if it is none of ours.
Physical* use_of_handle(uint64_t handle);

// A descriptor of what is in use for it already: until it is closed. Once it cannot be watched, for good.
void watch_export(Physical* physical, int fd);
void settle_exports();
void forget_exports();

}  // namespace fasthook

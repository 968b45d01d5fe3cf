// What each kernel and graph takes on the device, as measured while the program runs.
#pragma once

#include <cstdint>

namespace fasthook {

constexpr uint64_t kUnmeasuredNs = 100'000;  // what a launch is taken to need before it was measured once

constexpr int kTrusted = 8;  // measured so often it is known; before that every launch is measured

// A kernel with its grid, or a graph. Costs stay where they are for good; only their times change.
struct Cost {
  const void* what = nullptr;
  uint64_t shape = 0;
  uint64_t ns = 0;          // even
  uint32_t soonest_ns = 0;  // as short as it has lately been: what a kernel takes may depend on its arguments
  uint32_t measured = 0;    // how often; 0: not yet
  uint32_t being_measured = 0;
};

constexpr uint32_t kCosts = 8192;
extern Cost costs[kCosts + 1];  // the last place has one after it, never used

inline uint32_t place_of(const void* what, uint64_t shape) {
  uint64_t key = reinterpret_cast<uintptr_t>(what) ^ shape << 3;
  return static_cast<uint32_t>((key * 0x9e3779b97f4a7c15ULL) >> 51);
}
static_assert(kCosts == 1U << (64 - 51));

inline bool is_of(const Cost* cost, const void* what, uint64_t shape) {
  return __atomic_load_n(&cost->what, __ATOMIC_ACQUIRE) == what && cost->shape == shape;
}

// For the fast path: null if it is not in one of its first two places; the slow path's find then decides.
inline const Cost* find_quickly(const void* what, uint64_t shape) {
  const Cost* cost = &costs[place_of(what, shape)];
  if (is_of(cost, what, shape)) [[likely]]
    return cost;
  return is_of(cost + 1, what, shape) ? cost + 1 : nullptr;
}

// Finds or begins. Where the table is full all newcomers share one. Under the pacer's lock.
Cost* find_or_begin(const void* what, uint64_t shape);
void measured(Cost* cost, uint64_t ns);
uint64_t longest_measured_ns();
void forget_costs();  // what a handle means may have changed
void forget_cost_of(const void* what);

}  // namespace fasthook

// What each kernel and graph takes on the device, as measured while the program runs.
#pragma once

#include <cstdint>

namespace fasthook {

constexpr uint64_t kUnmeasuredNs = 100'000;  // what a launch is taken to need before it was measured once

// A kernel with so many blocks, or a graph. Costs stay where they are for good; only their times change.
struct Cost {
  const void* what = nullptr;
  uint64_t blocks = 0;
  uint64_t ns = kUnmeasuredNs;
  uint32_t measured = 0;  // how often; 0: not yet
  uint32_t being_measured = 0;
};

constexpr uint32_t kCosts = 8192;
extern Cost costs[kCosts];

inline uint32_t place_of(const void* what, uint64_t blocks) {
  uint64_t key = (reinterpret_cast<uintptr_t>(what) >> 3) + blocks * 0x9e3779b97f4a7c15ULL;
  return static_cast<uint32_t>((key * 0xd6e8feb86659fd93ULL) >> 51);
}
static_assert(kCosts == 1U << (64 - 51));

// For the fast path: null if it is not known or far from its place; the slow path's find then decides.
inline const Cost* find_quickly(const void* what, uint64_t blocks) {
  uint32_t place = place_of(what, blocks);
  for (uint32_t i = 0; i < 4; ++i) {
    const Cost* cost = &costs[(place + i) % kCosts];
    if (__atomic_load_n(&cost->what, __ATOMIC_ACQUIRE) == what && cost->blocks == blocks) return cost;
  }
  return nullptr;
}

// Finds or begins. Where the table is full all newcomers share one. Under the pacer's lock.
Cost* find_or_begin(const void* what, uint64_t blocks);
void measured(Cost* cost, uint64_t ns);
uint64_t longest_measured_ns();
void forget_costs();  // what a handle means may have changed
void forget_cost_of(const void* what);

}  // namespace fasthook

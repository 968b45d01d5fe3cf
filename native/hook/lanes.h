// Lanes: one per thread that launches. Its owner passes without a lock while it has credit; the pacer gives
// and takes the credit.
#pragma once

#include <cstdint>

#include "hook.h"
#include "queues.h"

namespace fasthook {

constexpr int kLanes = 256;

// Times are estimates of time on the device, summed up since the process began.
struct alignas(64) Lane {
  // Written by its owner alone.
  uint64_t launched_ns = 0;  // even; odd: it is busy, between the look at its ceiling and the driver's return
  // Written under the pacer's lock.
  uint32_t taken = 0;
  uint64_t ceiling_ns = 0;  // launched_ns may grow up to here
  uint64_t booked_ns = 0;   // part of launched_ns that has been booked on queues
  CUstream stream = nullptr;
  Queue* queue = nullptr;  // of `stream`: what is not booked yet was launched there
  uint64_t wanted_ns = 0;  // it waits to launch this; 0: it does not wait
  uint64_t seen_ns = 0;    // launched_ns when the pacer looked last
  bool trusts = false;     // that this is what it takes
  bool measures = false;   // its next launch shall be measured
  // Of the launch that takes the slow path now: what it takes, what it is, and the events around it.
  uint64_t passing_ns = 0;
  Cost* cost = nullptr;
  Mark mark;
};

extern Lane lanes[kLanes];
extern int lane_count;  // lanes below have been in use

inline constinit thread_local Lane* own_lane = nullptr;

// Gives this thread a lane; null if there are too many threads. Under the pacer's lock.
Lane* take_lane();
void forget_lanes();

constexpr uint64_t kBusy = 1;

inline uint64_t peek(const uint64_t* at) { return __atomic_load_n(at, __ATOMIC_RELAXED); }
inline void poke(uint64_t* at, uint64_t value) { __atomic_store_n(at, value, __ATOMIC_RELAXED); }

}  // namespace fasthook

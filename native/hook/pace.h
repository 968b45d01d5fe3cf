// Pace: when a launch may pass.
//
// A token is the right to use the device until it expires. Launches return at once, so each is let through
// only if what was launched before, on the same stream, and itself are expected to end within the token; a
// token goes back when all of it has ended. A thread of its own (the pacer) asks for tokens, looks at events
// and gives credit; a launch that has credit takes no lock and no system call.
#pragma once

#include "costs.h"
#include "hook.h"
#include "lanes.h"

namespace fasthook {

using Call = CUresult (*)(void* arguments);

// Launches as soon as it may: with the lock, waiting if need be. Every launch that measures, marks, changes
// its stream or has no credit left.
CUresult launch_slowly(const void* what, uint64_t blocks, CUstream stream, Call call, void* arguments);

// The one gate for launches: `what` is the kernel or graph, `call` launches it in the driver.
template <typename Launch>
inline CUresult launch(const void* what, uint64_t blocks, CUstream stream, const Launch& call) {
  Lane* lane = own_lane;
  const Cost* cost = find_quickly(what, blocks);
  if (__builtin_expect(lane != nullptr && cost != nullptr && lane->stream == stream, 1)) {
    if (lane->busy) return call();  // the driver calls itself
    // Who takes the credit away first takes it and then waits for those that are busy; see close_lanes.
    __atomic_store_n(&lane->busy, 1U, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    uint64_t launched = lane->launched_ns, ns = peek(&cost->ns);
    if (__builtin_expect(launched + ns <= peek(&lane->ceiling_ns), 1)) {
      CUresult result = call();
      if (result == CUDA_SUCCESS) poke(&lane->launched_ns, launched + ns);
      __atomic_store_n(&lane->busy, 0U, __ATOMIC_RELEASE);
      return result;
    }
    __atomic_store_n(&lane->busy, 0U, __ATOMIC_RELEASE);
  }
  auto thunk = [](void* launch) { return (*static_cast<const Launch*>(launch))(); };
  return launch_slowly(what, blocks, stream, thunk, const_cast<Launch*>(&call));
}

// While it lives nothing is let through or returned that concerns streams and contexts.
struct PaceLock {
  PaceLock();
  ~PaceLock();
};

uint64_t time_ns();  // CLOCK_MONOTONIC

// Under PaceLock:
void settle_lanes(const Queue* queue);  // books what their lanes launched and has them look anew; null: all
void several_contexts();                // a thread's default stream is no longer one and the same

}  // namespace fasthook

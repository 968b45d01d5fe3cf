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

// One launch. `what` is the kernel or graph, `shape` what else tells how long it takes.
//
//   Pass pass;
//   if (!pass.let_through(what, shape, stream)) return CUDA_ERROR_NOT_PERMITTED;
//   return pass.done(real.cuLaunchKernel(...));
//
// While it is under way the pacer does not close.
class Pass {
 public:
  bool let_through(const void* what, uint64_t shape, CUstream stream) {
    return takes_credit(what, shape, stream) || let_through_slowly(what, shape, stream);
  }

  CUresult done(CUresult result) {
    if (((launched_ns_ & kSlow) | static_cast<uint64_t>(result)) != 0) [[unlikely]]
      return done_slowly(result);
    __atomic_store_n(&lane_->launched_ns, launched_ns_, __ATOMIC_RELEASE);
    return result;
  }

 private:
  static constexpr uint64_t kSlow = 1;

  [[gnu::always_inline]] bool takes_credit(const void* what, uint64_t shape, CUstream stream) {
    Lane* lane = own_lane;
    const Cost* cost = find_quickly(what, shape);
    if (lane == nullptr || cost == nullptr || __atomic_load_n(&lane->stream, __ATOMIC_RELAXED) != stream)
        [[unlikely]]
      return false;
    uint64_t before = lane->launched_ns;
    if (before & kBusy) [[unlikely]]  // the driver calls itself
      return false;
    // Who takes the credit away first takes it and then waits for those that are busy; see close_lanes.
    poke(&lane->launched_ns, before | kBusy);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    lane_ = lane;
    launched_ns_ = before + peek(&cost->ns);
    if (launched_ns_ <= peek(&lane->ceiling_ns)) [[likely]]
      return true;
    __atomic_store_n(&lane->launched_ns, before, __ATOMIC_RELEASE);
    return false;
  }

  // With the lock, waiting if need be: every launch that measures, marks, changes its stream or has no credit
  // left.
  [[gnu::cold, gnu::noinline]] bool let_through_slowly(const void* what, uint64_t shape, CUstream stream);
  [[gnu::cold, gnu::noinline]] CUresult done_slowly(CUresult result);

  Lane* lane_;  // null: none of ours, it just passes
  uint64_t launched_ns_;
};

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

// The clock that all processes of a node share, and how they wake each other.
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <x86intrin.h>
#endif

#include "gate_state.h"

namespace fastgate {

uint64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

void wake(const uint32_t* word) { syscall(SYS_futex, word, FUTEX_WAKE, 0x7fffffff, nullptr, nullptr, 0); }

#if defined(__x86_64__)
bool read_ticks(uint64_t* ticks) {
  *ticks = __rdtsc();
  return true;
}

// Whether the counter runs at one rate on all cores and in all power states.
bool ticks_are_steady() {
  unsigned a, b, c, d;
  constexpr unsigned kInvariantTsc = 1 << 8;
  return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & kInvariantTsc);
}
#else
bool read_ticks(uint64_t*) { return false; }
bool ticks_are_steady() { return false; }
#endif

}  // namespace fastgate

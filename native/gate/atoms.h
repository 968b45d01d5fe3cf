// Words that several processes share, and the arithmetic of times.
#pragma once

#include "layout.h"

namespace fastgate {

constexpr uint64_t kForever = ~0ULL;

template <typename T>
T load(const T* at) {
  return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}
template <typename T>
void store(T* at, T value) {
  __atomic_store_n(at, value, __ATOMIC_RELEASE);
}
// What a loop that waits for another core does meanwhile.
inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}
inline void full_fence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

inline int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }
inline uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }
inline int64_t clamp(int64_t value, int64_t low, int64_t high) {
  return value < low ? low : value > high ? high : value;
}

// While it lives, fg_read_page waits: what is written meanwhile is seen whole or not at all.
struct PageWrite {
  explicit PageWrite(Page* p) : page(p) {
    __atomic_fetch_add(&page->seq, 1, __ATOMIC_ACQ_REL);
    __atomic_thread_fence(__ATOMIC_RELEASE);
  }
  ~PageWrite() { __atomic_fetch_add(&page->seq, 1, __ATOMIC_ACQ_REL); }
  Page* page;
};

}  // namespace fastgate

// Looks at the timeline: what the device and its processes have had until a moment, to be compared with
// later.
#pragma once

#include <map>

#include "library.h"

namespace standin {

constexpr int kMostProcesses = 4096;

struct Look {
  st_device* device = nullptr;
  uint64_t at_ns = 0;
  uint64_t busy_ns = 0;
  std::map<uint32_t, st_usage> usage;  // by pid
};

Look look();
uint32_t sms_of_device();

inline uint64_t grown(uint64_t now, uint64_t before) { return now > before ? now - before : 0; }

// SM-nanoseconds by pid that processes used between two looks. Who left in between is not among them.
std::map<uint32_t, uint64_t> sm_ns_between(const Look& before, const Look& now);

}  // namespace standin

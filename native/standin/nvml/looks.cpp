// The stand-in's NVML: looks at the timeline.
#include "looks.h"

#include <vector>

namespace standin {

Look look() {
  std::vector<st_usage> found(kMostProcesses);
  Look seen;
  seen.device = device();
  seen.at_ns = now_ns();
  seen.busy_ns = st_busy_ns(seen.device, seen.at_ns);
  int count = st_processes(seen.device, found.data(), kMostProcesses, seen.at_ns);
  for (int i = 0; i < count; ++i)
    seen.usage[found[static_cast<size_t>(i)].pid] = found[static_cast<size_t>(i)];
  return seen;
}

uint32_t sms_of_device() {
  st_config config;
  st_describe(device(), &config);
  return config.sms;
}

std::map<uint32_t, uint64_t> sm_ns_between(const Look& before, const Look& now) {
  std::map<uint32_t, uint64_t> used;
  for (const auto& [pid, usage] : now.usage) {
    auto was = before.usage.find(pid);
    used[pid] = grown(usage.sm_ns, was != before.usage.end() ? was->second.sm_ns : 0);
  }
  return used;
}

}  // namespace standin

// The stand-in's NVML: how busy the device was over the last while, from what the timeline has counted.
#include <algorithm>
#include <vector>

#include "looks.h"

namespace standin {
namespace {

constexpr uint64_t kPeriodNs = 100'000'000;  // an answer is about the last one to two of these

struct Rate {
  uint32_t pid;
  unsigned int sm_percent;  // of the device's SMs
};

struct Rates {
  unsigned int busy_percent;  // of the time
  std::vector<Rate> processes;
};

pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
Look* older = nullptr;
Look* newer = nullptr;

unsigned int percent(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0
                    : static_cast<unsigned int>(std::min<uint64_t>(100, (part * 100 + whole / 2) / whole));
}

Rates rates_between(const Look& before, const Look& now) {
  uint64_t time = grown(now.at_ns, before.at_ns);
  Rates rates = {percent(grown(now.busy_ns, before.busy_ns), time), {}};
  for (const auto& [pid, sm_ns] : sm_ns_between(before, now))
    rates.processes.push_back({pid, percent(sm_ns, time * sms_of_device())});
  return rates;
}

// Over the last period.
Rates rates() {
  Locked locked(&mutex);
  Look now = look();
  // libcuda has come and brought the device that this process really uses.
  if (now.device != newer->device) *older = *newer = now;
  Rates found = rates_between(*older, now);
  if (now.at_ns - newer->at_ns >= kPeriodNs) {
    *older = *newer;
    *newer = now;
  }
  return found;
}

}  // namespace

void begin_watching() {
  Locked locked(&mutex);
  if (older == nullptr) {
    older = new Look;  // kept to the end of the process
    newer = new Look;
  }
  *older = look();
  *newer = *older;
}

}  // namespace standin

using namespace standin;

// `gpu`: time in which a kernel ran. `memory`: 0, the stand-in does not tell how busy its memory is.
NVML_API nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t handle, nvmlUtilization_t* out) {
  nvmlReturn_t result = check(handle, out);
  if (result != NVML_SUCCESS) return result;
  *out = {rates().busy_percent, 0};
  return NVML_SUCCESS;
}

// Of the processes that used SMs; `smUtil` in percent of the device's.
NVML_API nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t handle,
                                                      nvmlProcessUtilizationSample_t* out,
                                                      unsigned int* count, unsigned long long since_us) {
  nvmlReturn_t result = check(handle, count);
  if (result != NVML_SUCCESS) return result;
  uint64_t now_us = now_ns() / 1000;
  unsigned int room = out != nullptr ? *count : 0, there = 0;
  if (since_us < now_us)
    for (const Rate& rate : rates().processes)
      if (++there <= room) out[there - 1] = {rate.pid, now_us, rate.sm_percent, 0, 0, 0};
  *count = there;
  return there > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

// The stand-in's NVML: memory, and who has how much of it.
#include <vector>

#include "looks.h"

namespace standin {
namespace {

// Those that have not died.
std::vector<st_usage> processes() {
  std::vector<st_usage> found(kMostProcesses);
  uint64_t now = now_ns();
  st_reap(device(), now);
  int count = st_processes(device(), found.data(), kMostProcesses, now);
  found.resize(static_cast<size_t>(count > 0 ? count : 0));
  return found;
}

// As under MPS: with a part of the SMs.
std::vector<st_usage> partitioned() {
  std::vector<st_usage> some;
  for (const st_usage& process : processes())
    if (process.sms < sms_of_device()) some.push_back(process);
  return some;
}

void write(const st_usage& from, nvmlProcessInfo_v1_t* out) { *out = {from.pid, from.mem_bytes}; }

void write(const st_usage& from, nvmlProcessInfo_t* out) {
  *out = {from.pid, from.mem_bytes, ~0U, ~0U};  // in no part of a divided device
}

template <typename Info>
nvmlReturn_t list(nvmlDevice_t handle, const std::vector<st_usage>& found, unsigned int* count, Info* out) {
  nvmlReturn_t result = check(handle, count);
  if (result != NVML_SUCCESS) return result;
  unsigned int room = *count, there = static_cast<unsigned int>(found.size());
  *count = there;
  if (there > room || (there > 0 && out == nullptr)) return NVML_ERROR_INSUFFICIENT_SIZE;
  for (unsigned int i = 0; i < there; ++i) write(found[i], out + i);
  return NVML_SUCCESS;
}

std::vector<st_usage> if_ready(std::vector<st_usage> (*find)()) {
  return initialised() ? find() : std::vector<st_usage>();
}

std::vector<st_usage> none() { return {}; }

}  // namespace
}  // namespace standin

using namespace standin;

NVML_API nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t handle, nvmlMemory_t* out) {
  nvmlReturn_t result = check(handle, out);
  if (result != NVML_SUCCESS) return result;
  st_config config;
  st_describe(device(), &config);
  st_reap(device(), now_ns());
  uint64_t free = st_mem_free(device());
  *out = {config.mem_bytes, free, config.mem_bytes - free};
  return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t handle, nvmlMemory_v2_t* out) {
  nvmlMemory_t memory;
  nvmlReturn_t result = check(handle, out);
  if (result != NVML_SUCCESS) return result;
  if (out->version != nvml_version<nvmlMemory_v2_t>(2)) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
  result = nvmlDeviceGetMemoryInfo(handle, &memory);
  if (result == NVML_SUCCESS) *out = {out->version, memory.total, 0, memory.free, memory.used};
  return result;
}

#define NVML_LIST(name, info, find)                                                 \
  NVML_API nvmlReturn_t name(nvmlDevice_t handle, unsigned int* count, info* out) { \
    return list(handle, if_ready(find), count, out);                                \
  }
NVML_LIST(nvmlDeviceGetComputeRunningProcesses, nvmlProcessInfo_v1_t, processes)
NVML_LIST(nvmlDeviceGetComputeRunningProcesses_v2, nvmlProcessInfo_t, processes)
NVML_LIST(nvmlDeviceGetComputeRunningProcesses_v3, nvmlProcessInfo_t, processes)
NVML_LIST(nvmlDeviceGetMPSComputeRunningProcesses, nvmlProcessInfo_v1_t, partitioned)
NVML_LIST(nvmlDeviceGetMPSComputeRunningProcesses_v2, nvmlProcessInfo_t, partitioned)
NVML_LIST(nvmlDeviceGetMPSComputeRunningProcesses_v3, nvmlProcessInfo_t, partitioned)
NVML_LIST(nvmlDeviceGetGraphicsRunningProcesses, nvmlProcessInfo_v1_t, none)
NVML_LIST(nvmlDeviceGetGraphicsRunningProcesses_v2, nvmlProcessInfo_t, none)
NVML_LIST(nvmlDeviceGetGraphicsRunningProcesses_v3, nvmlProcessInfo_t, none)
#undef NVML_LIST

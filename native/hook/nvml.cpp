// What NVML says of memory: of this instance alone, on a device as large as its cap.
#include "nvml.h"

#include <unistd.h>

#include "allocations.h"

using namespace fasthook;

namespace {

// NVML's functions call each other, and may be asked before the driver.
class InsideNvml {
 public:
  InsideNvml() : nested_(depth++ > 0) {
    if (nested_) return;
    find_nvml(true);
    watch_forks();
    enforcement_ = enforcement();
  }
  ~InsideNvml() { --depth; }
  InsideNvml(const InsideNvml&) = delete;
  bool counts() const { return enforcement_ == Enforcement::kEnforced; }

 private:
  bool nested_;
  Enforcement enforcement_ = Enforcement::kNone;
};

struct Shown {
  uint64_t total, free, used;
};

// The parts of the device that are in sight. False where there is no cap, and the device is seen as it is.
bool show(uint64_t real_total, uint64_t real_free, Shown* shown) {
  uint64_t used, cap;
  settle_memory(false);
  fg_memory(gate(), &used, &cap);
  if (cap == 0) return false;
  uint64_t total = cap < real_total ? cap : real_total, left = used < total ? total - used : 0;
  uint64_t free = left < real_free ? left : real_free;
  *shown = {total, free, total - free};
  return true;
}

// This process among all, as if it were the whole instance; null if it is not there.
template <typename Info>
Info* find_own(Info* all, unsigned count) {
  unsigned own = static_cast<unsigned>(getpid());
  for (Info* info = all; info != all + count; ++info) {
    if (info->pid != own) continue;
    uint64_t cap, used;
    fg_memory(gate(), &used, &cap);
    info->usedGpuMemory = used;
    return info;
  }
  return nullptr;
}

constexpr unsigned kMostProcesses = 1024;

// Asked with room for all, whatever room the caller has: what it is told is about itself.
template <auto Ask, typename Info>
nvmlReturn_t list_own(nvmlDevice_t device, unsigned* count, Info* infos) {
  InsideNvml inside;
  auto* ask = real_nvml.*Ask;
  if (!inside.counts() || count == nullptr) return ask(device, count, infos);
  Info all[kMostProcesses];
  unsigned found = kMostProcesses;
  nvmlReturn_t result = ask(device, &found, all);
  if (result != NVML_SUCCESS) return result;
  const Info* own = find_own(all, found);
  unsigned room = *count;
  *count = own != nullptr ? 1 : 0;
  if (own == nullptr) return NVML_SUCCESS;
  if (room == 0 || infos == nullptr) return NVML_ERROR_INSUFFICIENT_SIZE;
  *infos = *own;
  return NVML_SUCCESS;
}

}  // namespace

HOOKED nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t* memory) {
  InsideNvml inside;
  nvmlReturn_t result = real_nvml.nvmlDeviceGetMemoryInfo(device, memory);
  Shown shown;
  if (result == NVML_SUCCESS && inside.counts() && show(memory->total, memory->free, &shown))
    *memory = {shown.total, shown.free, shown.used};
  return result;
}

HOOKED nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t* memory) {
  InsideNvml inside;
  nvmlReturn_t result = real_nvml.nvmlDeviceGetMemoryInfo_v2(device, memory);
  Shown shown;
  if (result == NVML_SUCCESS && inside.counts() && show(memory->total, memory->free, &shown))
    *memory = {memory->version, shown.total, 0, shown.free, shown.used};
  return result;
}

// The pointer is read within: before, it may be null.
#define LISTS_PROCESSES(name, info)                                             \
  HOOKED nvmlReturn_t name(nvmlDevice_t device, unsigned* count, info* infos) { \
    return list_own<&RealNvml::name>(device, count, infos);                     \
  }
LISTS_PROCESSES(nvmlDeviceGetComputeRunningProcesses, nvmlProcessInfo_v1_t)
LISTS_PROCESSES(nvmlDeviceGetComputeRunningProcesses_v2, nvmlProcessInfo_t)
LISTS_PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, nvmlProcessInfo_t)
LISTS_PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses, nvmlProcessInfo_v1_t)
LISTS_PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v2, nvmlProcessInfo_t)
LISTS_PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v3, nvmlProcessInfo_t)
LISTS_PROCESSES(nvmlDeviceGetGraphicsRunningProcesses, nvmlProcessInfo_v1_t)
LISTS_PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2, nvmlProcessInfo_t)
LISTS_PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, nvmlProcessInfo_t)

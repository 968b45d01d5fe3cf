// The stand-in's NVML: events, which are the XIDs that the timeline has logged.
#include <algorithm>

#include "library.h"

struct nvmlEventSet_st {
  st_device* device = nullptr;  // whose events come here; null: nobody's
  uint64_t from = 0;            // the first of its XIDs that was not told yet
};

namespace standin {
namespace {

constexpr uint64_t kNsPerMs = 1'000'000;
constexpr uint64_t kLookEveryNs = 20 * kNsPerMs;
constexpr int kSome = 16;

// What a kernel's end has to log is logged when somebody asks how far the timeline is.
void let_happen(st_device* one) { st_busy_ns(one, now_ns()); }

// As on a GPU, what was logged before is not told.
void begin(nvmlEventSet_st* set, st_device* one) {
  st_xid past[kSome];
  *set = {one, 0};
  let_happen(one);
  while (st_xids(one, past, kSome, &set->from) > 0) continue;
}

// A process that has a device to itself gets another one, without a past, when its libcuda comes.
void keep_up(nvmlEventSet_st* set) {
  if (set->device != nullptr && set->device != device()) *set = {device(), 0};
}

bool next(nvmlEventSet_st* set, st_xid* out) {
  keep_up(set);
  if (set->device == nullptr) return false;
  let_happen(set->device);
  return st_xids(set->device, out, 1, &set->from) == 1;
}

void sleep_ns(uint64_t time) {
  timespec rest = {static_cast<time_t>(time / 1'000'000'000), static_cast<long>(time % 1'000'000'000)};
  nanosleep(&rest, nullptr);
}

nvmlReturn_t wait(nvmlEventSet_st* set, nvmlEventData_t* out, unsigned int timeout_ms) {
  if (!initialised()) return NVML_ERROR_UNINITIALIZED;
  if (set == nullptr || out == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  uint64_t end = now_ns() + timeout_ms * kNsPerMs;
  for (;;) {
    st_xid found;
    if (next(set, &found)) {
      *out = {the_handle(), nvmlEventTypeXidCriticalError, found.xid, ~0U, ~0U};
      return NVML_SUCCESS;
    }
    if (set->device != nullptr && st_is_lost(set->device)) return NVML_ERROR_GPU_IS_LOST;
    uint64_t now = now_ns();
    if (now >= end) return NVML_ERROR_TIMEOUT;
    sleep_ns(std::min(kLookEveryNs, end - now));
  }
}

}  // namespace
}  // namespace standin

using namespace standin;

NVML_API nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t handle, unsigned long long* out) {
  return answer(handle, out, nvmlEventTypeXidCriticalError);
}

NVML_API nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t* out) {
  if (!initialised()) return NVML_ERROR_UNINITIALIZED;
  if (out == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  *out = new nvmlEventSet_st;
  return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set) {
  if (!initialised()) return NVML_ERROR_UNINITIALIZED;
  delete set;
  return set != nullptr ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
}

NVML_API nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t handle, unsigned long long types,
                                               nvmlEventSet_t set) {
  nvmlReturn_t result = check(handle, set);
  if (result != NVML_SUCCESS) return result;
  if (types & ~nvmlEventTypeXidCriticalError) return NVML_ERROR_NOT_SUPPORTED;
  if (types != 0 && set->device == nullptr) begin(set, device());
  return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t* out, unsigned int timeout_ms) {
  return wait(set, out, timeout_ms);
}

NVML_API nvmlReturn_t nvmlEventSetWait(nvmlEventSet_t set, nvmlEventData_v1_t* out, unsigned int timeout_ms) {
  nvmlEventData_t found;
  nvmlReturn_t result = wait(set, out != nullptr ? &found : nullptr, timeout_ms);
  if (result == NVML_SUCCESS) *out = {found.device, found.eventType, found.eventData};
  return result;
}

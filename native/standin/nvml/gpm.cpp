// The stand-in's NVML: performance monitors, as Hopper has them; pairs of looks at the timeline.
#include <algorithm>
#include <utility>

#include "looks.h"

struct nvmlGpmSample_st {
  standin::Look look;
};

namespace standin {
namespace {

constexpr unsigned int kVersion = 1;
constexpr unsigned int kMostMetrics = 1024;

double percent_of(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : std::min(100.0, 100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

double sm_percent(const Look& before, const Look& now) {
  uint64_t used = 0;
  for (const auto& [pid, sm_ns] : sm_ns_between(before, now)) used += sm_ns;
  return percent_of(used, grown(now.at_ns, before.at_ns) * sms_of_device());
}

void measure(const Look& before, const Look& now, nvmlGpmMetric_t* out) {
  out->metricInfo = {};
  out->nvmlReturn = NVML_SUCCESS;
  switch (out->metricId) {
    case NVML_GPM_METRIC_GRAPHICS_UTIL:
      out->value = percent_of(grown(now.busy_ns, before.busy_ns), grown(now.at_ns, before.at_ns));
      break;
    // The timeline knows which SMs are in use and not how many warps they hold: they count as full, which is
    // the most that it can be.
    case NVML_GPM_METRIC_SM_OCCUPANCY:
    case NVML_GPM_METRIC_SM_UTIL:
      out->value = sm_percent(before, now);
      break;
    default:
      out->nvmlReturn = NVML_ERROR_NOT_SUPPORTED;
  }
}

}  // namespace
}  // namespace standin

using namespace standin;

NVML_API nvmlReturn_t nvmlGpmQueryDeviceSupport(nvmlDevice_t handle, nvmlGpmSupport_t* out) {
  nvmlReturn_t result = check(handle, out);
  if (result != NVML_SUCCESS) return result;
  if (out->version != kVersion) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
  out->isSupportedDevice = 1;
  return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlGpmSampleAlloc(nvmlGpmSample_t* out) {
  if (out == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  *out = new nvmlGpmSample_st;
  return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlGpmSampleFree(nvmlGpmSample_t sample) {
  if (sample == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  delete sample;
  return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlGpmSampleGet(nvmlDevice_t handle, nvmlGpmSample_t sample) {
  nvmlReturn_t result = check(handle, sample);
  if (result == NVML_SUCCESS) sample->look = look();
  return result;
}

NVML_API nvmlReturn_t nvmlGpmMetricsGet(nvmlGpmMetricsGet_t* asked) {
  if (!initialised()) return NVML_ERROR_UNINITIALIZED;
  if (asked == nullptr || asked->sample1 == nullptr || asked->sample2 == nullptr)
    return NVML_ERROR_INVALID_ARGUMENT;
  if (asked->version != kVersion) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
  const Look *before = &asked->sample1->look, *now = &asked->sample2->look;
  if (asked->numMetrics == 0 || asked->numMetrics > kMostMetrics || before->device != now->device ||
      before->at_ns >= now->at_ns)
    return NVML_ERROR_INVALID_ARGUMENT;
  for (unsigned int i = 0; i < asked->numMetrics; ++i) measure(*before, *now, asked->metrics + i);
  return NVML_SUCCESS;
}

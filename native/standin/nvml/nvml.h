// The part of NVML's ABI that the stand-in answers; our own declarations, for toolkits come without NVML's.
#pragma once

#include <cstdint>

#define NVML_API extern "C" __attribute__((visibility("default")))

enum nvmlReturn_t : int {
  NVML_SUCCESS = 0,
  NVML_ERROR_UNINITIALIZED = 1,
  NVML_ERROR_INVALID_ARGUMENT = 2,
  NVML_ERROR_NOT_SUPPORTED = 3,
  NVML_ERROR_NO_PERMISSION = 4,
  NVML_ERROR_NOT_FOUND = 6,
  NVML_ERROR_INSUFFICIENT_SIZE = 7,
  NVML_ERROR_DRIVER_NOT_LOADED = 9,
  NVML_ERROR_TIMEOUT = 10,
  NVML_ERROR_GPU_IS_LOST = 15,
  NVML_ERROR_ARGUMENT_VERSION_MISMATCH = 25,
};

typedef struct nvmlDevice_st* nvmlDevice_t;

// A version field holds the structure's size and, above it, its number.
template <typename Structure>
constexpr uint32_t nvml_version(uint32_t number) {
  return static_cast<uint32_t>(sizeof(Structure)) | number << 24;
}

struct nvmlMemory_t {
  unsigned long long total, free, used;
};

struct nvmlMemory_v2_t {
  unsigned int version;
  unsigned long long total, reserved, free, used;
};

struct nvmlUtilization_t {
  unsigned int gpu, memory;
};

struct nvmlProcessInfo_v1_t {
  unsigned int pid;
  unsigned long long usedGpuMemory;
};

struct nvmlProcessInfo_t {  // of versions 2 and 3
  unsigned int pid;
  unsigned long long usedGpuMemory;
  unsigned int gpuInstanceId, computeInstanceId;
};

struct nvmlProcessUtilizationSample_t {
  unsigned int pid;
  unsigned long long timeStamp;  // microseconds
  unsigned int smUtil, memUtil, encUtil, decUtil;
};

struct nvmlPciInfo_v2_t {
  char busId[16];
  unsigned int domain, bus, device, pciDeviceId, pciSubSystemId, reserved[4];
};

struct nvmlPciInfo_t {
  char busIdLegacy[16];
  unsigned int domain, bus, device, pciDeviceId, pciSubSystemId;
  char busId[32];
};

struct nvmlPciInfoExt_v1_t {
  unsigned int version, domain, bus, device, pciDeviceId, pciSubSystemId, baseClass, subClass;
  char busId[32];
};

struct nvmlUUID_t {
  unsigned int version, type;  // 1: text, 2: bytes
  union {
    char str[41];
    unsigned char bytes[16];
  } value;
};

struct nvmlGpmSupport_t {
  unsigned int version, isSupportedDevice;
};

enum nvmlGpmMetricId_t : unsigned int {
  NVML_GPM_METRIC_GRAPHICS_UTIL = 1,
  NVML_GPM_METRIC_SM_UTIL = 2,
  NVML_GPM_METRIC_SM_OCCUPANCY = 3,
};

typedef struct nvmlGpmSample_st* nvmlGpmSample_t;

struct nvmlGpmMetric_t {
  unsigned int metricId;
  nvmlReturn_t nvmlReturn;
  double value;
  struct {
    char *shortName, *longName, *unit;
  } metricInfo;
};

struct nvmlGpmMetricsGet_t {
  unsigned int version, numMetrics;
  nvmlGpmSample_t sample1, sample2;
  nvmlGpmMetric_t metrics[1];  // as many as the caller has: that differs between versions of NVML's header
};

typedef struct nvmlEventSet_st* nvmlEventSet_t;

constexpr unsigned long long nvmlEventTypeXidCriticalError = 8;

struct nvmlEventData_v1_t {
  nvmlDevice_t device;
  unsigned long long eventType, eventData;
};

struct nvmlEventData_t {
  nvmlDevice_t device;
  unsigned long long eventType, eventData;
  unsigned int gpuInstanceId, computeInstanceId;
};

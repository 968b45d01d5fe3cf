// The stand-in's NVML: its one device, and what is fixed about it.
#include <strings.h>

#include <cstdio>
#include <cstring>

#include "library.h"

namespace standin {
namespace {

constexpr unsigned int kHopper = 9, kNoVendor = 0xffff, kDisplay = 3, kController3d = 2;
constexpr unsigned int kCoresPerSm = 128, kBusTypePci = 2;

char the_device;  // its address is the handle

void device_uuid(char (&text)[41]) { write_uuid(uuid_of(settings().state.c_str()), text); }

template <typename Info>
void write_pci_numbers(Info* out) {
  out->domain = kPciDomain;
  out->bus = kPciBus;
  out->device = kPciDevice;
  out->pciDeviceId = kNoVendor;
  out->pciSubSystemId = kNoVendor;
}

void write_long_bus(char (&text)[32]) {
  snprintf(text, sizeof(text), "%08X:%02X:%02X.0", kPciDomain, kPciBus, kPciDevice);
}

nvmlReturn_t handle_if(bool known, nvmlDevice_t* out) {
  if (!known) return NVML_ERROR_NOT_FOUND;
  if (st_is_lost(device())) return NVML_ERROR_GPU_IS_LOST;
  *out = the_handle();
  return NVML_SUCCESS;
}

nvmlReturn_t count(unsigned int* out) {
  if (!initialised()) return NVML_ERROR_UNINITIALIZED;
  if (out == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  *out = 1;
  return NVML_SUCCESS;
}

nvmlReturn_t by_index(unsigned int index, nvmlDevice_t* out) {
  if (!initialised()) return NVML_ERROR_UNINITIALIZED;
  if (out == nullptr || index != 0) return NVML_ERROR_INVALID_ARGUMENT;
  return handle_if(true, out);
}

nvmlReturn_t by_pci(const char* bus, nvmlDevice_t* out) {
  if (!initialised()) return NVML_ERROR_UNINITIALIZED;
  if (bus == nullptr || out == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  unsigned int domain = 0, number = 0, place = 0;
  // With and without the domain, and in either length.
  bool read = sscanf(bus, "%x:%x:%x", &domain, &number, &place) == 3 ||
              (domain = 0, sscanf(bus, "%x:%x", &number, &place) == 2);
  return handle_if(read && domain == kPciDomain && number == kPciBus && place == kPciDevice, out);
}

}  // namespace

nvmlDevice_t the_handle() { return reinterpret_cast<nvmlDevice_t>(&the_device); }

nvmlReturn_t check(nvmlDevice_t handle, const void* out) {
  if (!initialised()) return NVML_ERROR_UNINITIALIZED;
  if (handle != the_handle() || out == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  return st_is_lost(device()) ? NVML_ERROR_GPU_IS_LOST : NVML_SUCCESS;
}

}  // namespace standin

using namespace standin;

// --- handles
// ---------------------------------------------------------------------------------------------------------

NVML_API nvmlReturn_t nvmlDeviceGetCount(unsigned int* out) { return count(out); }
NVML_API nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int* out) { return count(out); }

NVML_API nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned int index, nvmlDevice_t* out) {
  return by_index(index, out);
}

NVML_API nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t* out) {
  return by_index(index, out);
}

NVML_API nvmlReturn_t nvmlDeviceGetHandleByUUID(const char* uuid, nvmlDevice_t* out) {
  if (!initialised()) return NVML_ERROR_UNINITIALIZED;
  if (uuid == nullptr || out == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  char ours[41];
  device_uuid(ours);
  return handle_if(strcasecmp(uuid, ours) == 0, out);
}

NVML_API nvmlReturn_t nvmlDeviceGetHandleByUUIDV(const nvmlUUID_t* uuid, nvmlDevice_t* out) {
  if (!initialised()) return NVML_ERROR_UNINITIALIZED;
  if (uuid == nullptr || out == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  if (uuid->version != nvml_version<nvmlUUID_t>(1)) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
  if (uuid->type == 1) return nvmlDeviceGetHandleByUUID(uuid->value.str, out);
  if (uuid->type != 2) return NVML_ERROR_INVALID_ARGUMENT;
  Uuid ours = uuid_of(settings().state.c_str());
  return handle_if(memcmp(ours.byte, uuid->value.bytes, sizeof(ours.byte)) == 0, out);
}

NVML_API nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char* bus, nvmlDevice_t* out) {
  return by_pci(bus, out);
}

NVML_API nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char* bus, nvmlDevice_t* out) {
  return by_pci(bus, out);
}

NVML_API nvmlReturn_t nvmlDeviceGetHandleBySerial(const char* serial, nvmlDevice_t* out) {
  if (!initialised()) return NVML_ERROR_UNINITIALIZED;
  return serial != nullptr && out != nullptr ? NVML_ERROR_NOT_FOUND : NVML_ERROR_INVALID_ARGUMENT;
}

// --- names
// -----------------------------------------------------------------------------------------------------------

NVML_API nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t handle, char* out, unsigned int length) {
  nvmlReturn_t result = check(handle, out);
  return result == NVML_SUCCESS ? answer(kName, out, length) : result;
}

NVML_API nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t handle, char* out, unsigned int length) {
  nvmlReturn_t result = check(handle, out);
  char uuid[41];
  device_uuid(uuid);
  return result == NVML_SUCCESS ? answer(uuid, out, length) : result;
}

NVML_API nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t handle, unsigned int* out) {
  return answer(handle, out, 0U);
}

NVML_API nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t handle, unsigned int* out) {
  return answer(handle, out, 0U);
}

NVML_API nvmlReturn_t nvmlDeviceGetBrand(nvmlDevice_t handle, unsigned int* out) {
  return answer(handle, out, 0U);  // unknown
}

NVML_API nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t handle, nvmlPciInfo_t* out) {
  nvmlReturn_t result = check(handle, out);
  if (result != NVML_SUCCESS) return result;
  *out = {};
  write_pci_numbers(out);
  write_pci(out->busIdLegacy, sizeof(out->busIdLegacy));
  write_long_bus(out->busId);
  return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t handle, nvmlPciInfo_v2_t* out) {
  nvmlReturn_t result = check(handle, out);
  if (result != NVML_SUCCESS) return result;
  *out = {};
  write_pci_numbers(out);
  write_pci(out->busId, sizeof(out->busId));
  return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetPciInfo(nvmlDevice_t handle, nvmlPciInfo_v2_t* out) {
  return nvmlDeviceGetPciInfo_v2(handle, out);
}

NVML_API nvmlReturn_t nvmlDeviceGetPciInfoExt(nvmlDevice_t handle, nvmlPciInfoExt_v1_t* out) {
  nvmlReturn_t result = check(handle, out);
  if (result != NVML_SUCCESS) return result;
  if (out->version != nvml_version<nvmlPciInfoExt_v1_t>(1)) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
  write_pci_numbers(out);
  out->baseClass = kDisplay;
  out->subClass = kController3d;
  write_long_bus(out->busId);
  return NVML_SUCCESS;
}

// --- what it is
// ------------------------------------------------------------------------------------------------------

NVML_API nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t handle, int* major, int* minor) {
  nvmlReturn_t result = minor != nullptr ? answer(handle, major, kMajor) : check(handle, nullptr);
  if (result == NVML_SUCCESS) *minor = kMinor;
  return result;
}

NVML_API nvmlReturn_t nvmlDeviceGetArchitecture(nvmlDevice_t handle, unsigned int* out) {
  return answer(handle, out, kHopper);
}

NVML_API nvmlReturn_t nvmlDeviceGetNumGpuCores(nvmlDevice_t handle, unsigned int* out) {
  nvmlReturn_t result = check(handle, out);
  if (result != NVML_SUCCESS) return result;
  st_config config;
  st_describe(device(), &config);
  *out = config.sms * kCoresPerSm;
  return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetMemoryBusWidth(nvmlDevice_t handle, unsigned int* out) {
  return answer(handle, out, static_cast<unsigned int>(kBusBits));
}

NVML_API nvmlReturn_t nvmlDeviceGetBusType(nvmlDevice_t handle, unsigned int* out) {
  return answer(handle, out, kBusTypePci);
}

// --- modes: none can be switched
// -------------------------------------------------------------------------------------

#define NVML_FIXED(name, value) \
  NVML_API nvmlReturn_t name(nvmlDevice_t handle, unsigned int* out) { return answer(handle, out, value); }
NVML_FIXED(nvmlDeviceGetComputeMode, 0U)         // any number of processes
NVML_FIXED(nvmlDeviceGetPersistenceMode, 0U)     // off
NVML_FIXED(nvmlDeviceGetDisplayMode, 0U)         // none
NVML_FIXED(nvmlDeviceGetDisplayActive, 0U)       // none
NVML_FIXED(nvmlDeviceGetVirtualizationMode, 0U)  // none
NVML_FIXED(nvmlDeviceGetMultiGpuBoard, 0U)       // it is alone
NVML_FIXED(nvmlDeviceIsMigDeviceHandle, 0U)      // it is not
NVML_FIXED(nvmlDeviceGetMaxMigDeviceCount, 0U)   // it cannot be divided
#undef NVML_FIXED

NVML_API nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t handle, unsigned int* current,
                                           unsigned int* pending) {
  nvmlReturn_t result = pending != nullptr ? answer(handle, current, 0U) : check(handle, nullptr);
  if (result == NVML_SUCCESS) *pending = 0;
  return result;
}

NVML_API nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t handle, unsigned int,
                                                          nvmlDevice_t* out) {
  nvmlReturn_t result = check(handle, out);
  return result == NVML_SUCCESS ? NVML_ERROR_NOT_FOUND : result;
}

NVML_API nvmlReturn_t nvmlDeviceOnSameBoard(nvmlDevice_t one, nvmlDevice_t other, int* out) {
  nvmlReturn_t result = check(one, out);
  if (result == NVML_SUCCESS) result = check(other, out);
  if (result == NVML_SUCCESS) *out = 1;
  return result;
}

NVML_API nvmlReturn_t nvmlUnitGetCount(unsigned int* out) {
  if (!initialised()) return NVML_ERROR_UNINITIALIZED;
  if (out == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  *out = 0;
  return NVML_SUCCESS;
}

#define NVML_FORBIDDEN(name)                           \
  NVML_API nvmlReturn_t name(nvmlDevice_t handle) {    \
    nvmlReturn_t result = check(handle, handle);       \
    return result ? result : NVML_ERROR_NO_PERMISSION; \
  }
NVML_FORBIDDEN(nvmlDeviceSetComputeMode)
NVML_FORBIDDEN(nvmlDeviceSetPersistenceMode)
NVML_FORBIDDEN(nvmlDeviceSetMigMode)
#undef NVML_FORBIDDEN

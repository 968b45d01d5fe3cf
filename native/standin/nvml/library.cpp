// The stand-in's NVML: beginning, end, errors, and what it says of the system.
#include "library.h"

#include <dlfcn.h>
#include <errno.h>
#include <time.h>

#include <cstdio>
#include <cstring>

#include "../place.h"

namespace standin {
namespace {

struct Library {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  int users = 0;  // nvmlInit less nvmlShutdown
  bool read = false;
  std::string problem;
  Settings settings;
  st_device* device = nullptr;
};

Library& library() {
  static Library* one = new Library;  // never destroyed: programs ask to the very end
  return *one;
}

// Called with the mutex held. Null if the settings are wrong or the device cannot be had.
st_device* open_once(Library& lib) {
  if (!lib.read) {
    lib.problem = read_settings(&lib.settings);
    lib.read = true;
    if (!lib.problem.empty()) fprintf(stderr, "stand-in NVML: FASTGSHARE_STANDIN: %s\n", lib.problem.c_str());
  }
  if (lib.device == nullptr && lib.problem.empty()) {
    lib.device = open_device(lib.settings);
    if (lib.device == nullptr)
      fprintf(stderr, "stand-in NVML: no device in %s: %s\n", lib.settings.state.c_str(), strerror(errno));
  }
  return lib.device;
}

// The device that the stand-in's libcuda made for this process, if it is loaded and initialised.
st_device* device_of_libcuda() {
  void* cuda = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  if (cuda == nullptr) return nullptr;
  auto find = reinterpret_cast<st_device* (*)()>(dlsym(cuda, "standin_device"));
  st_device* found = find != nullptr ? find() : nullptr;
  dlclose(cuda);
  return found;
}

nvmlReturn_t begin() {
  Library& lib = library();
  Locked locked(&lib.mutex);
  if (open_once(lib) == nullptr)
    return lib.problem.empty() ? NVML_ERROR_DRIVER_NOT_LOADED : NVML_ERROR_INVALID_ARGUMENT;
  if (__atomic_fetch_add(&lib.users, 1, __ATOMIC_SEQ_CST) == 0) begin_watching();
  return NVML_SUCCESS;
}

}  // namespace

const Settings& settings() { return library().settings; }

bool initialised() { return __atomic_load_n(&library().users, __ATOMIC_SEQ_CST) > 0; }

st_device* device() {
  st_device* theirs = settings().state.empty() ? device_of_libcuda() : nullptr;
  return theirs != nullptr ? theirs : library().device;
}

uint64_t now_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

nvmlReturn_t answer(const char* text, char* out, unsigned int length) {
  if (!initialised()) return NVML_ERROR_UNINITIALIZED;
  if (out == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  if (strlen(text) >= length) return NVML_ERROR_INSUFFICIENT_SIZE;
  strcpy(out, text);
  return NVML_SUCCESS;
}

}  // namespace standin

using namespace standin;

NVML_API nvmlReturn_t nvmlInit() { return begin(); }
NVML_API nvmlReturn_t nvmlInit_v2() { return begin(); }
NVML_API nvmlReturn_t nvmlInitWithFlags(unsigned int) { return begin(); }

NVML_API nvmlReturn_t nvmlShutdown() {
  Library& lib = library();
  Locked locked(&lib.mutex);
  if (lib.users == 0) return NVML_ERROR_UNINITIALIZED;
  __atomic_fetch_sub(&lib.users, 1, __ATOMIC_SEQ_CST);
  return NVML_SUCCESS;
}

NVML_API const char* nvmlErrorString(nvmlReturn_t result) {
  switch (result) {
    case NVML_SUCCESS:
      return "Success (stand-in)";
    case NVML_ERROR_UNINITIALIZED:
      return "nvmlInit has not been called (stand-in)";
    case NVML_ERROR_INVALID_ARGUMENT:
      return "An argument is not valid (stand-in)";
    case NVML_ERROR_NOT_SUPPORTED:
      return "The stand-in does not have this";
    case NVML_ERROR_NO_PERMISSION:
      return "Nobody may change this of the stand-in";
    case NVML_ERROR_NOT_FOUND:
      return "Not found (stand-in)";
    case NVML_ERROR_INSUFFICIENT_SIZE:
      return "The buffer is too small (stand-in)";
    case NVML_ERROR_DRIVER_NOT_LOADED:
      return "The stand-in's device cannot be had";
    case NVML_ERROR_TIMEOUT:
      return "Nothing happened in that time (stand-in)";
    case NVML_ERROR_GPU_IS_LOST:
      return "The stand-in's device is lost";
    case NVML_ERROR_ARGUMENT_VERSION_MISMATCH:
      return "A structure has a version that the stand-in does not know";
  }
  return "Unknown error (stand-in)";
}

NVML_API nvmlReturn_t nvmlSystemGetDriverVersion(char* out, unsigned int length) {
  return answer(kDriverVersion, out, length);
}

NVML_API nvmlReturn_t nvmlSystemGetNVMLVersion(char* out, unsigned int length) {
  char text[64];
  snprintf(text, sizeof(text), "%d.%s", kCudaVersion / 1000, kDriverVersion);
  return answer(text, out, length);
}

NVML_API nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int* out) {
  if (!initialised()) return NVML_ERROR_UNINITIALIZED;
  if (out == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  *out = kCudaVersion;
  return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlSystemGetCudaDriverVersion(int* out) {
  return nvmlSystemGetCudaDriverVersion_v2(out);
}

NVML_API nvmlReturn_t nvmlSystemGetProcessName(unsigned int pid, char* out, unsigned int length) {
  if (!initialised()) return NVML_ERROR_UNINITIALIZED;
  if (out == nullptr || length == 0) return NVML_ERROR_INVALID_ARGUMENT;
  char path[64];
  snprintf(path, sizeof(path), "/proc/%u/cmdline", pid);
  FILE* file = fopen(path, "re");
  if (file == nullptr) return NVML_ERROR_NOT_FOUND;
  size_t size = fread(out, 1, length - 1, file);
  fclose(file);
  out[size] = 0;  // cut, as NVML does it, at the first argument and at the buffer's end
  return NVML_SUCCESS;
}

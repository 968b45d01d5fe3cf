// What the parts of the stand-in's NVML need of each other.
#pragma once

#include <pthread.h>

#include "../identity.h"
#include "../settings.h"
#include "../timeline/timeline.h"
#include "nvml.h"

namespace standin {

// The settings that were read by the first nvmlInit.
const Settings& settings();
bool initialised();
// The device, where its processes can see it. Without a shared state: the one that libcuda has in this
// process, or one that nobody uses.
st_device* device();
uint64_t now_ns();

// What every query checks first.
nvmlReturn_t check(nvmlDevice_t handle, const void* out);
nvmlDevice_t the_handle();

// Text into a caller's buffer.
nvmlReturn_t answer(const char* text, char* out, unsigned int length);

template <typename T>
nvmlReturn_t answer(nvmlDevice_t handle, T* out, T value) {
  nvmlReturn_t result = check(handle, out);
  if (result == NVML_SUCCESS) *out = value;
  return result;
}

// utilisation.cpp: a first look, to which later ones are compared.
void begin_watching();

class Locked {
 public:
  explicit Locked(pthread_mutex_t* mutex) : mutex_(mutex) { pthread_mutex_lock(mutex); }
  ~Locked() { pthread_mutex_unlock(mutex_); }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;

 private:
  pthread_mutex_t* mutex_;
};

}  // namespace standin

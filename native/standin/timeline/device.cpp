// Making a device, or finding it.
#include <sched.h>
#include <unistd.h>

#include "changes.h"
#include "lives.h"

using namespace standin;

namespace {

constexpr uint64_t kMaking = 1;  // the low byte of the stage, below the pid of who makes the device

bool is_making(uint64_t stage) { return (stage & 0xff) == kMaking && stage >> 8 <= 0x7fffffff; }

void make(st_device* device, const st_config* config) {
  device->config = *config;
  if (device->config.sms == 0) device->config.sms = 1;
  if (device->config.turn_loss > 999) device->config.turn_loss = 999;
  device->next_ns = device->shown_ns = kForever;
  pthread_mutexattr_t how;
  pthread_mutexattr_init(&how);
  pthread_mutexattr_setpshared(&how, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&how, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&device->mutex, &how);
  pthread_mutexattr_destroy(&how);
}

}  // namespace

ST_API size_t st_size() { return sizeof(st_device); }

ST_API st_device* st_create(void* memory, const st_config* config) {
  auto* device = static_cast<st_device*>(memory);
  uint64_t mine = static_cast<uint64_t>(getpid()) << 8 | kMaking;
  for (;;) {
    uint64_t stage = load(&device->stage);
    if (stage == kReady) return device;
    if (stage != 0 && !is_making(stage)) return nullptr;
    // Who died while it made the device leaves that to the next.
    bool free = stage == 0 || has_ended(stage >> 8, 0);
    if (free &&
        __atomic_compare_exchange_n(&device->stage, &stage, mine, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
      break;
    sched_yield();
  }
  make(device, config);
  store(&device->stage, kReady);
  return device;
}

ST_API st_device* st_attach(void* memory) {
  auto* device = static_cast<st_device*>(memory);
  return load(&device->stage) == kReady ? device : nullptr;
}

ST_API void st_describe(st_device* device, st_config* out) { *out = device->config; }

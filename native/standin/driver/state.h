// What a process has of the driver: one lock, the settings, the device and how to wait for it.
//
// The driver is a monitor: a call holds the lock from its beginning to its end and lets go of it only while
// it waits (Unlocked). So the files around this one need no locks of their own.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

#include "../settings.h"
#include "../timeline/timeline.h"
#include "api.h"

namespace standin::driver {

enum class Mode : uint8_t {
  kNew,      // cuInit has not succeeded yet
  kReady,    // calls work
  kNothing,  // and the quick ones do nothing (null=1)
  kChild,    // of a process that had initialised: a fork cannot use the device
  kEnded,    // the process is about to end
};

extern std::atomic<Mode> mode;
extern bool deadly;  // die= is set: calls are counted

// Whether calls work: before, after and in a child, what ends must not even take the lock.
inline bool running() {
  Mode now = mode;
  return now == Mode::kReady || now == Mode::kNothing;
}

std::mutex& lock();

// Lets go of the lock for a while.
class Unlocked {
 public:
  Unlocked() { lock().unlock(); }
  ~Unlocked() { lock().lock(); }
  Unlocked(const Unlocked&) = delete;
  Unlocked& operator=(const Unlocked&) = delete;
};

// One call, from its beginning to its end.
class Call {
 public:
  Call(const char* name, const char* symbol, bool per_thread, bool early);
  ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  CUresult refusal = CUDA_SUCCESS;
  // What the call returns in the end: what its work has failed by meanwhile, if it has.
  CUresult outcome(CUresult result);

 private:
  const char* name_;
  const char* symbol_;
  bool before_;  // what a null stream meant before
  bool locked_ = false, early_;
};

// Whether a null stream handle means the stream of the thread in this call.
bool null_is_per_thread();

const Settings& settings();
st_device* device();
// Sets up the device; CUDA_SUCCESS or why it cannot be had.
CUresult initialise();
bool visible();  // CUDA_VISIBLE_DEVICES lets it be seen

uint64_t now_ns();
// Sleeps without the lock: until `due_ns`, until something on the host has changed, or for a little while.
void sleep_until(uint64_t due_ns);
void tell_change();

// die=: counts this call, and ends the process if it is the one.
void count_call(const char* name, const char* symbol, bool before);

#define TRY(expression) \
  if (CUresult result_ = (expression); result_ != CUDA_SUCCESS) return result_

inline CUresult set(auto* out, auto value) {
  if (out == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *out = static_cast<std::remove_reference_t<decltype(*out)>>(value);
  return CUDA_SUCCESS;
}

}  // namespace standin::driver

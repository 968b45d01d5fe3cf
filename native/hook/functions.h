// The driver's own functions, and which wrapper stands for which.
#pragma once

#include "atoms.h"
#include "hook.h"

// What a wrapper is defined with.
#define HOOKED extern "C" __attribute__((visibility("default")))

namespace fasthook {

// Each row of hooked.def. Once find_real() has returned, those that are wrapped are never null: what the
// driver lacks answers CUDA_ERROR_NOT_SUPPORTED. Those that are only used may be null.
struct Real {
#define HOOK(name, base, since, streams) decltype(&::name) name;
#define USED(name) decltype(&::name) name;
#include "hooked.def"
};

enum Streams : bool { LEGACY = false, PER_THREAD = true };

// One wrapped function.
struct Hook {
  const char* name;
  const char* base;
  int since;
  Streams streams;
  void** real;
  void* wrapper;
};

// The wrapper of the driver's or NVML's function at this address, or null. Looks only for libraries that are
// loaded.
void* wrapper_of(void* function);
// The form that cuGetProcAddress should hand out for this; null if it is not one of ours.
const Hook* form_of(const char* base, int version, Streams streams);
// From now on `function` is what this form's wrapper calls.
void take_as_real(const Hook* hook, void* function);

// libc's own dlsym and dlvsym, past ours.
using Dlsym = void* (*)(void*, const char*);
using Dlvsym = void* (*)(void*, const char*, const char*);
Dlsym libc_dlsym();
Dlvsym libc_dlvsym();

// Has the child of a fork begin anew. Any number of times.
void watch_forks();

extern constinit thread_local int depth;

// Lives while a wrapper runs. What the driver calls within is its own affair and passes.
class Inside {
 public:
  Inside() : nested_(depth++ > 0) {
    if (!nested_) find_real();
  }
  ~Inside() { --depth; }
  Inside(const Inside&) = delete;
  bool nested() const { return nested_; }

 private:
  bool nested_;
};

// Does something once, whoever comes first. Nobody waits while it is done, for it may need the dynamic
// linker, and who waits may hold the linker's lock: several may do it, and one keeps what it found.
class Once {
 public:
  bool done() const { return __atomic_load_n(&state_, __ATOMIC_ACQUIRE) == 2; }
  // True for one caller, who keeps what it found and then says finish(). For others it is done when this
  // returns.
  bool first() {
    uint32_t none = 0;
    if (__atomic_compare_exchange_n(&state_, &none, 1U, false, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE))
      return true;
    while (!done()) fastgate::relax();
    return false;
  }
  void finish() { __atomic_store_n(&state_, 2U, __ATOMIC_RELEASE); }

 private:
  uint32_t state_ = 0;
};

}  // namespace fasthook

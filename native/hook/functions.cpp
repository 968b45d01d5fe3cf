#include "functions.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#include "allocations.h"
#include "nvml.h"

namespace fasthook {

Real real;
RealNvml real_nvml;
constinit thread_local int depth = 0;

namespace {

constexpr int kHooks = 0
#define HOOK(...) +1
#include "hooked.def"
    ;
constexpr int kUsed = 0
#define USED(...) +1
#include "hooked.def"
    ;
constexpr int kNvml = 0
#define NVML(...) +1
#include "hooked.def"
    ;
constexpr uint32_t kPairs = 1024;  // a power of two, with room for forms that only cuGetProcAddress knows
constexpr uint32_t kMostPairs = kPairs / 4 * 3;
static_assert(2 * (kHooks + kNvml) < kPairs / 2);

struct Slot {
  const char* name;
  void** real;
};

struct Pair {
  void* function;
  void* wrapper;
};

Once driver, nvml, forks;
Hook hooks[kHooks];
Pair pairs[kPairs];
uint32_t pair_count = 0;
uint32_t adding = 0;

CUresult absent() { return CUDA_ERROR_NOT_SUPPORTED; }
nvmlReturn_t absent_from_nvml() { return NVML_ERROR_FUNCTION_NOT_FOUND; }

uint32_t place_of(const void* function) {
  return static_cast<uint32_t>((reinterpret_cast<uintptr_t>(function) * 0x9e3779b97f4a7c15ULL) >> 55) %
         kPairs;
}

Pair* find_pair(const void* function) {
  Pair* pair = &pairs[place_of(function)];
  for (void* there;
       (there = __atomic_load_n(&pair->function, __ATOMIC_ACQUIRE)) != function && there != nullptr;)
    pair = pair + 1 == pairs + kPairs ? pairs : pair + 1;
  return pair;
}

// Readers take no lock: the function's address is written last.
void add_pair(void* function, void* wrapper) {
  while (__atomic_exchange_n(&adding, 1U, __ATOMIC_ACQUIRE)) fastgate::relax();
  Pair* pair = find_pair(function);
  if (pair->function == nullptr && pair_count < kMostPairs) {
    pair->wrapper = wrapper;
    ++pair_count;
    __atomic_store_n(&pair->function, function, __ATOMIC_RELEASE);
  }
  __atomic_store_n(&adding, 0U, __ATOMIC_RELEASE);
}

// Filled by code, not by a table of pointers: those would have to be relocated in every process.
void list_hooks(Hook* out) {
#define HOOK(name, base, since, streams) \
  *out++ = {                             \
      #name, #base, since, streams, reinterpret_cast<void**>(&real.name), reinterpret_cast<void*>(&::name)};
#include "hooked.def"
}

void list_used(Slot* out) {
#define USED(name) *out++ = {#name, reinterpret_cast<void**>(&real.name)};
#include "hooked.def"
}

void list_nvml(Hook* out) {
#define NVML(name) \
  *out++ = {       \
      #name, "", 0, LEGACY, reinterpret_cast<void**>(&real_nvml.name), reinterpret_cast<void*>(&::name)};
#include "hooked.def"
}

void set(void** at, void* function) { __atomic_store_n(at, function, __ATOMIC_RELAXED); }

// Wrappers may be found although there is no driver: by a look-up over all libraries.
void make_absent(const Hook* list, int count, void* stub) {
  for (const Hook* hook = list; hook != list + count; ++hook) set(hook->real, stub);
}

// `found` has an entry for each row of `list`.
void take(const Hook* list, int count, void* const* found, void* stub) {
  for (int i = 0; i < count; ++i) {
    set(list[i].real, found[i] != nullptr ? found[i] : stub);
    if (found[i] != nullptr) add_pair(found[i], list[i].wrapper);
    add_pair(list[i].wrapper, list[i].wrapper);  // a driver that looks itself up may find us
  }
}

// The hook's own look-ups are not what the program's dlerror is about.
void* open_library(const char* name, bool load) {
  void* handle = dlopen(name, RTLD_LAZY | RTLD_NOLOAD);
  if (handle == nullptr && load) handle = dlopen(name, RTLD_LAZY);
  dlerror();
  return handle;
}

bool find_driver(bool load) {
  if (driver.done()) return true;
  Hook listed[kHooks];
  Slot used[kUsed];
  list_hooks(listed);
  list_used(used);
  void* stub = reinterpret_cast<void*>(&absent);
  void* handle = open_library("libcuda.so.1", load);
  if (handle == nullptr) {
    if (load) make_absent(listed, kHooks, stub);
    return false;
  }
  void *found[kHooks], *found_used[kUsed];
  for (int i = 0; i < kHooks; ++i) found[i] = libc_dlsym()(handle, listed[i].name);
  for (int i = 0; i < kUsed; ++i) found_used[i] = libc_dlsym()(handle, used[i].name);
  dlerror();
  if (!driver.first()) return true;
  memcpy(hooks, listed, sizeof(hooks));
  for (int i = 0; i < kUsed; ++i) set(used[i].real, found_used[i]);
  take(listed, kHooks, found, stub);
  driver.finish();
  watch_forks();
  return true;
}

void begin_anew() {
  depth = 0;
  adding = 0;
  forget_allocations();
  forget_after_fork();
}

}  // namespace

bool find_real() { return find_driver(true); }

bool find_nvml(bool load) {
  if (nvml.done()) return true;
  Hook listed[kNvml];
  list_nvml(listed);
  void* stub = reinterpret_cast<void*>(&absent_from_nvml);
  void* handle = open_library("libnvidia-ml.so.1", load);
  if (handle == nullptr) {
    if (load) make_absent(listed, kNvml, stub);
    return false;
  }
  void* found[kNvml];
  for (int i = 0; i < kNvml; ++i) found[i] = libc_dlsym()(handle, listed[i].name);
  dlerror();
  if (!nvml.first()) return true;
  take(listed, kNvml, found, stub);
  nvml.finish();
  return true;
}

void* wrapper_of(void* function) {
  find_driver(false);
  find_nvml(false);
  Pair* pair = find_pair(function);
  return pair->function == nullptr ? nullptr : pair->wrapper;
}

const Hook* form_of(const char* base, int version, Streams streams) {
  const Hook* best = nullptr;
  if (!driver.done()) return nullptr;
  for (const Hook& hook : hooks) {
    bool fits = hook.since <= version && (hook.streams == streams || hook.streams == LEGACY);
    if (!fits || strcmp(hook.base, base) != 0) continue;
    bool better = best == nullptr || (hook.streams == streams && best->streams != streams) ||
                  (hook.streams == best->streams && hook.since > best->since);
    if (better) best = &hook;
  }
  return best;
}

void take_as_real(const Hook* hook, void* function) {
  set(hook->real, function);
  add_pair(function, hook->wrapper);
}

void watch_forks() {
  if (forks.done() || !forks.first()) return;
  pthread_atfork(nullptr, nullptr, begin_anew);
  forks.finish();
}

}  // namespace fasthook

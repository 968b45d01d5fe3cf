// Beginning, lock, time and waiting.
#include "state.h"

#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "../place.h"
#include "../standin.h"
#include "faults.h"
#include "mps.h"

namespace standin::driver {

std::atomic<Mode> mode = Mode::kNew;
bool deadly = false;

namespace {

// How long before the end a waiter stops sleeping: a core burns no longer than this for it.
constexpr uint64_t kSpinNs = 20'000;
// Other processes may let work end earlier than it looked, and nobody tells. What waits for the host is told.
constexpr uint64_t kNapNs = 5'000'000, kLongNapNs = 20'000'000;

thread_local bool per_thread_ __attribute__((tls_model("initial-exec"))) = false;
thread_local bool exact_ __attribute__((tls_model("initial-exec"))) = false;

struct State {
  std::mutex mutex;
  std::condition_variable changed;
  uint64_t changes = 0;
  Settings settings;
  bool visible = true;
  st_device* device = nullptr;
};

// Never destroyed: threads may call until the very end.
State& state() {
  static State* one = new State;
  return *one;
}

void in_child() {
  if (mode != Mode::kNew) mode = Mode::kChild;
}

bool hidden() {
  const char* list = getenv("CUDA_VISIBLE_DEVICES");
  return list != nullptr && (*list == 0 || strncmp(list, "-1", 2) == 0);
}

void spin_until(uint64_t due_ns) {
  while (now_ns() < due_ns) __builtin_ia32_pause();
}

// The kernel would add 50 us to what a thread asks for.
void be_exact() {
  if (!exact_) prctl(PR_SET_TIMERSLACK, 1UL);
  exact_ = true;
}

bool same_function(const char* wanted, const char* name, const char* symbol) {
  return strcmp(wanted, name) == 0 || strcmp(wanted, symbol) == 0;
}

}  // namespace

std::mutex& lock() { return state().mutex; }
const Settings& settings() { return state().settings; }
st_device* device() { return state().device; }
bool visible() { return state().visible; }
bool null_is_per_thread() { return per_thread_; }

CUresult initialise() {
  State& s = state();
  if (mode == Mode::kChild) return CUDA_ERROR_NOT_INITIALIZED;
  if (mode != Mode::kNew) return CUDA_SUCCESS;
  std::string problem = read_settings(&s.settings);
  if (!problem.empty()) {
    fprintf(stderr, "stand-in libcuda: FASTGSHARE_STANDIN: %s\n", problem.c_str());
    return CUDA_ERROR_INVALID_VALUE;
  }
  s.visible = !hidden();
  if (!s.visible) return CUDA_ERROR_NO_DEVICE;
  if (s.device == nullptr) s.device = open_device(s.settings);  // it may be open: MPS was not ready
  if (s.device != nullptr && st_is_lost(s.device)) return CUDA_ERROR_NO_DEVICE;
  if (s.device == nullptr) {
    fprintf(stderr, "stand-in libcuda: no device in %s: %s\n", s.settings.state.c_str(), strerror(errno));
    return CUDA_ERROR_SYSTEM_NOT_READY;
  }
  // Whoever came first made the device, perhaps with other figures.
  st_config made;
  st_describe(s.device, &made);
  s.settings.sms = made.sms;
  s.settings.mem_bytes = made.mem_bytes;
  if (CUresult refused = enter_mps(s.settings.mps_is_real); refused != CUDA_SUCCESS) return refused;
  pthread_atfork(nullptr, nullptr, in_child);
  deadly = !s.settings.die_function.empty();
  mode = s.settings.null ? Mode::kNothing : Mode::kReady;
  return CUDA_SUCCESS;
}

uint64_t now_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

void tell_change() {
  ++state().changes;
  state().changed.notify_all();
}

void sleep_until(uint64_t due_ns) {
  State& s = state();
  be_exact();
  uint64_t now = now_ns(), seen = s.changes;
  uint64_t nap = due_ns == UINT64_MAX ? kLongNapNs : kNapNs;
  bool near = due_ns < now + nap;
  uint64_t wake = near ? (due_ns > now + kSpinNs ? due_ns - kSpinNs : now) : now + nap;
  std::unique_lock<std::mutex> held(s.mutex, std::adopt_lock);
  if (wake > now) {
    using Clock = std::chrono::steady_clock;
    Clock::time_point until{std::chrono::nanoseconds(wake)};
    s.changed.wait_until(held, until, [&] { return s.changes != seen; });
  }
  if (near && s.changes == seen) {
    held.unlock();
    spin_until(due_ns);
    held.lock();
  }
  held.release();
}

void count_call(const char* name, const char* symbol, bool before) {
  static std::atomic<uint64_t> begun{0}, ended{0};
  const Settings& s = settings();
  if (!same_function(s.die_function.c_str(), name, symbol)) return;
  uint64_t count = 1 + (before ? begun : ended).fetch_add(1);
  if (count == s.die_at && before == s.die_before) kill(getpid(), SIGKILL);
}

Call::Call(const char* name, const char* symbol, bool per_thread, bool early)
    : name_(name), symbol_(symbol), before_(per_thread_), early_(early) {
  if (!running() && !early)
    refusal = mode == Mode::kEnded ? CUDA_ERROR_DEINITIALIZED : CUDA_ERROR_NOT_INITIALIZED;
  // In a child the lock may be held by a thread that is no more; what may be called early needs none.
  if (refusal != CUDA_SUCCESS || mode == Mode::kChild) return;
  if (deadly) count_call(name_, symbol_, true);
  per_thread_ = per_thread;
  lock().lock();
  locked_ = true;
  if (!early) refusal = broken_for(name_);
}

CUresult Call::outcome(CUresult result) {
  return result == CUDA_SUCCESS && locked_ && !early_ ? broken_for(name_) : result;
}

Call::~Call() {
  if (!locked_) return;
  lock().unlock();
  per_thread_ = before_;
  if (deadly) count_call(name_, symbol_, false);
}

}  // namespace standin::driver

STANDIN_EXPORT st_device* standin_device() { return standin::driver::device(); }

// Launches that ask whether they may pass, and whether anything is enforced at all.
#include "pace.h"

#include <linux/futex.h>
#include <linux/membarrier.h>
#include <signal.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <new>

#include "faults.h"
#include "functions.h"
#include "pacing.h"

namespace fasthook {

Pace pace;
int decided = -1;

uint64_t time_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

bool is_enforced() {
  return __atomic_load_n(&decided, __ATOMIC_ACQUIRE) == static_cast<int>(Enforcement::kEnforced);
}

void futex_wait(const uint32_t* word, uint32_t value, uint64_t until_ns) {
  timespec at = {static_cast<time_t>(until_ns / 1'000'000'000), static_cast<long>(until_ns % 1'000'000'000)};
  syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, value, until_ns == kForever ? nullptr : &at, nullptr,
          FUTEX_BITSET_MATCH_ANY);
}

static void futex_wake(const uint32_t* word) {
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 0x7fffffff, nullptr, nullptr, 0);
}

void ring() {
  __atomic_fetch_add(&pace.bell, 1U, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&pace.sleeping, __ATOMIC_SEQ_CST)) futex_wake(&pace.bell);
}

void wake_lanes() {
  __atomic_fetch_add(&pace.opened, 1U, __ATOMIC_SEQ_CST);
  futex_wake(&pace.opened);
}

namespace {

CUstream const kNoStream = reinterpret_cast<CUstream>(~0ULL);

// --- lanes that ask

// In its own slot a process needs nobody's help.
void open_at_once(uint64_t ns, uint64_t now) {
  fg_wait wait;
  if (fg_try_acquire(pace.gate, ns, now, &wait) != FG_OK) return;
  opened();
  ring();
}

// Whether a launch on the lane's queue may pass now, and with how much credit for those after it.
bool admit(Lane* lane, uint64_t ns, bool trusted, uint64_t now) {
  if (pace.state == State::kReleased) open_at_once(ns, now);
  if (pace.state != State::kHeld) return false;
  Queue* queue = lane->queue;
  for_each_lane([&](Lane* other) {
    if (other->queue == queue) stop(other, now);
  });
  if (has_room(queue, ns, trusted, now)) {
    uint64_t work = ahead(queue), most = pace.expiry_ns - free_from(queue, now);
    uint64_t credit = work + kSliceNs < kDepthNs ? kSliceNs : work < kDepthNs ? kDepthNs - work : 0;
    if (credit > most) credit = most;
    bool free = trusted && capturing == 0 && pace.has_barrier && credit > ns;
    poke(&lane->ceiling_ns, free ? lane->launched_ns + credit : 0);
    return true;
  }
  if (pace.single_ns < ns) return false;
  pace.single_ns = 0;
  return true;
}

void attach(Lane* lane, CUstream stream, uint64_t now) {
  bool same_always = !pace.many_contexts ||
                     (stream != nullptr && stream != CU_STREAM_LEGACY && stream != CU_STREAM_PER_THREAD);
  if (lane->stream == stream && lane->queue != nullptr && same_always) return;
  stop(lane, now);
  lane->queue = queue_of(stream, lane);
  CUstream known = same_always && lane->queue != nullptr ? stream : kNoStream;
  __atomic_store_n(&lane->stream, known, __ATOMIC_RELAXED);
}

// Waits, with the lock, until the launch may pass; false if it shall not.
bool wait_for_turn(Lane* lane, uint64_t ns, bool trusted) {
  while (is_enforced() && lane->queue != nullptr) {
    if (admit(lane, ns, trusted, time_ns())) {
      lane->wanted_ns = 0;
      return true;
    }
    if (lane->wanted_ns != ns) ring();  // once: the pacer knows then
    lane->wanted_ns = ns;
    lane->trusts = trusted;
    uint32_t seen = __atomic_load_n(&pace.opened, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&pace.lock);
    futex_wait(&pace.opened, seen, kForever);
    pthread_mutex_lock(&pace.lock);
  }
  lane->wanted_ns = 0;
  return false;
}

CUstream handle_of(const Queue* queue) {
  return queue->kind == QueueKind::kPerThread ? CU_STREAM_PER_THREAD : queue->stream;
}

// A launch was let through: should it be measured, and is its queue due for a mark? Makes the lane busy.
void begin(Lane* lane, Cost* cost, uint64_t ns) {
  Queue* queue = lane->queue;
  uint64_t now = time_ns();
  bool quiet = capturing == 0 && queue->count < kMarks;
  bool due = lane->measures && !cost->being_measured;
  bool measures = quiet && (cost->measured < kTrusted || due);
  bool marks = quiet && (measures || queue->launched_ns + ns - queue->marked_ns >= kSliceNs / 2 ||
                         now - queue->marked_at_ns >= kTickNs);
  lane->passing_ns = ns;
  lane->cost = cost;
  lane->mark = Mark();
  if (marks) lane->mark.event = take_event(queue->context);
  if (measures && lane->mark.event != nullptr) lane->mark.before = take_event(queue->context);
  if (lane->mark.before != nullptr) {
    lane->mark.cost = cost;
    cost->being_measured = true;
    lane->measures = false;
  }
  poke(&lane->launched_ns, lane->launched_ns | kBusy);
}

// How soon work may be done, going by how much its last launch may differ from what it takes.
uint64_t soonest(const Cost* cost, uint64_t work) {
  return static_cast<uint64_t>(static_cast<double>(work) * static_cast<double>(cost->soonest_ns) /
                               static_cast<double>(cost->ns));
}

// The launch has been handed to the driver, or not.
void end(Lane* lane, bool launched, bool recorded) {
  Queue* queue = lane->queue;
  Mark mark = lane->mark;
  uint64_t before = lane->launched_ns & ~kBusy, now = time_ns();
  __atomic_store_n(&lane->launched_ns, launched ? before + lane->passing_ns : before, __ATOMIC_RELEASE);
  book(lane, now);
  mark.launched_ns = queue->launched_ns;
  mark.soonest_ns = soonest(lane->cost, queue->launched_ns - queue->marked_ns);
  if (recorded && launched && push_mark(queue, mark, now)) return;
  if (mark.cost != nullptr) mark.cost->being_measured = false;
  give_event(queue->context, mark.before);
  give_event(queue->context, mark.event);
}

// --- enforcement

bool ask_for_barrier() {
  return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
}

void* wait_for_barrier(void*) {
  bool granted = ask_for_barrier();
  PaceLock lock;
  pace.has_barrier = granted;
  return nullptr;
}

bool start_detached(void* (*run)(void*)) {
  pthread_t thread;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  bool started = pthread_create(&thread, nullptr, run, nullptr) == 0;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (started) pthread_detach(thread);
  return started;
}

Enforcement cannot(const char* reason, const char* detail) {
  static bool said = false;
  say_once(&said, reason, detail);
  return settings().refuses ? Enforcement::kRefused : Enforcement::kPassed;
}

Enforcement decide(bool has_driver) {
  const Settings& s = settings();
  if (!s.configured) return Enforcement::kNone;
  watch_forks();
  const char* what = s.refuses ? "work on the device is refused: " : "NOT ENFORCED, everything passes: ";
  if (s.problem != nullptr) return cannot(what, s.problem);
  if (!has_driver) return Enforcement::kNone;  // no driver, no device
  pace.has_barrier = __libc_single_threaded && ask_for_barrier();
  char error[256] = {};
  pace.gate = fg_open(s.socket, s.instance, kOpenTimeoutNs, error, sizeof(error));
  if (pace.gate == nullptr) return cannot(what, error);
  if (start_detached(keep_pace)) {
    // The kernel takes up to 20 ms for it where there are several threads; launches take the slow path
    // meanwhile.
    if (!pace.has_barrier) start_detached(wait_for_barrier);
    return Enforcement::kEnforced;
  }
  fg_close(pace.gate);
  pace.gate = nullptr;
  return cannot(what, "no thread could be started");
}

}  // namespace

Enforcement enforcement() {
  int known = __atomic_load_n(&decided, __ATOMIC_ACQUIRE);
  if (known >= 0) return static_cast<Enforcement>(known);
  bool has_driver = find_real();  // takes the linker's lock: before ours
  pthread_mutex_lock(&pace.deciding);
  if (decided < 0) __atomic_store_n(&decided, static_cast<int>(decide(has_driver)), __ATOMIC_RELEASE);
  known = decided;
  pthread_mutex_unlock(&pace.deciding);
  return static_cast<Enforcement>(known);
}

fg_gate* gate() { return pace.gate; }

void forget_launch(const void* what) {
  if (!is_enforced()) return;
  PaceLock lock;
  what != nullptr ? forget_cost_of(what) : forget_costs();
}

bool Pass::let_through_slowly(const void* what, uint64_t shape, CUstream stream) {
  lane_ = nullptr;
  launched_ns_ = kSlow;
  Enforcement now = enforcement();
  if (now != Enforcement::kEnforced) return now != Enforcement::kRefused;
  Inside inside;
  bool busy = own_lane != nullptr && (own_lane->launched_ns & kBusy);
  if (busy || inside.nested()) return true;  // the driver calls itself
  PaceLock lock;
  if (is_captured(stream)) return true;
  Lane* lane = take_lane();
  static bool said = false;
  if (lane == nullptr) return say_once(&said, "more than 256 threads launch: the others are refused"), false;
  attach(lane, stream, time_ns());
  Cost* cost = find_or_begin(what, shape);
  uint64_t ns = peek(&cost->ns);
  if (!wait_for_turn(lane, ns, cost->measured == kTrusted)) return enforcement() == Enforcement::kPassed;
  begin(lane, cost, ns);
  lane_ = lane;
  if (lane->mark.before != nullptr) real.cuEventRecord(lane->mark.before, handle_of(lane->queue));
  return true;
}

CUresult Pass::done_slowly(CUresult result) {
  bool slow = launched_ns_ & kSlow;
  note_fault(result);
  if (lane_ == nullptr) return result;
  if (!slow) {  // it failed: nothing was launched
    __atomic_store_n(&lane_->launched_ns, lane_->launched_ns & ~kBusy, __ATOMIC_RELEASE);
    return result;
  }
  Inside inside;
  CUevent event = lane_->mark.event;
  bool recorded = event != nullptr && real.cuEventRecord(event, handle_of(lane_->queue)) == CUDA_SUCCESS;
  PaceLock lock;
  end(lane_, result == CUDA_SUCCESS, recorded);
  return result;
}

PaceLock::PaceLock() { pthread_mutex_lock(&pace.lock); }
PaceLock::~PaceLock() { pthread_mutex_unlock(&pace.lock); }

void settle_lanes(const Queue* queue) {
  uint64_t now = time_ns();
  for_each_lane([&](Lane* lane) {
    if (queue != nullptr && lane->queue != queue) return;
    stop(lane, now);
    __atomic_store_n(&lane->stream, kNoStream, __ATOMIC_RELAXED);
    if (queue != nullptr) lane->queue = nullptr;
  });
}

void several_contexts() {
  pace.many_contexts = true;
  settle_lanes(nullptr);
}

void forget_after_fork() {
  fg_gate* gate = pace.gate;
  new (&pace) Pace();
  decided = -1;
  forget_lanes();
  forget_queues();
  forget_costs();
  forget_fault();
  if (gate != nullptr) fg_forget(gate);
}

}  // namespace fasthook

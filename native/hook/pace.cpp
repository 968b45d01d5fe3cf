#include "pace.h"

#include <linux/futex.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <new>

#include "allocations.h"
#include "functions.h"
#include "queues.h"

namespace fasthook {
namespace {

constexpr uint64_t kForever = ~0ULL;
constexpr uint64_t kSliceNs = 1'000'000;        // a lane looks anew after so much work
constexpr uint64_t kDepthNs = 3'000'000;        // so much may be waiting on a stream
constexpr uint64_t kTickNs = 1'000'000;         // at most so often a lane is stopped to measure a launch
constexpr uint64_t kIdleNs = 500'000;           // a token goes back when there was no work for so long
constexpr uint64_t kGlanceNs = 30'000;          // looking more often costs more than it brings
constexpr uint64_t kMostExcusedNs = 1'000'000;  // of one hold
constexpr uint64_t kPatienceNs = 100'000'000;
constexpr uint64_t kOpenTimeoutNs = 5'000'000'000;
CUstream const kNoStream = reinterpret_cast<CUstream>(~0ULL);

enum class State { kReleased, kAcquiring, kHeld, kClosing };

// All of it under `lock`, but for the words that threads sleep on.
struct Pace {
  pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_t deciding = PTHREAD_MUTEX_INITIALIZER;
  fg_gate* gate = nullptr;
  State state = State::kReleased;
  uint64_t expiry_ns = 0;
  uint64_t single_ns = 0;      // one launch of that length may pass although it ends later
  uint64_t active_ns = 0;      // when there was work last
  uint64_t idle_since_ns = 0;  // the device has idled since then although a lane waits; 0: it does not
  uint64_t idle_ns = 0;        // how much of the present hold it did so
  uint64_t tick_ns = 0;
  uint64_t reported_ns = 0;  // longest launch that the daemon knows of
  uint32_t bell = 0;         // the pacer sleeps on it
  uint32_t sleeping = 0;
  uint32_t opened = 0;  // lanes sleep on it
  bool many_contexts = false;
  bool has_barrier = false;  // the kernel can stop lanes from outside; until then none gets credit
  bool connected = true;
};
Pace pace;
int decided = -1;  // an Enforcement

bool is_enforced() {
  return __atomic_load_n(&decided, __ATOMIC_ACQUIRE) == static_cast<int>(Enforcement::kEnforced);
}

uint64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

void futex_wait(const uint32_t* word, uint32_t value, uint64_t until_ns) {
  timespec at = {static_cast<time_t>(until_ns / 1'000'000'000), static_cast<long>(until_ns % 1'000'000'000)};
  syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, value, until_ns == kForever ? nullptr : &at, nullptr,
          FUTEX_BITSET_MATCH_ANY);
}

void futex_wake(const uint32_t* word) {
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

// --- what lies ahead
// ---------------------------------------------------------------------------------------------------

void end_idling(uint64_t now) {
  if (pace.idle_since_ns != 0 && now > pace.idle_since_ns) pace.idle_ns += now - pace.idle_since_ns;
  pace.idle_since_ns = 0;
}

void book(Lane* lane, uint64_t now) {
  uint64_t launched = __atomic_load_n(&lane->launched_ns, __ATOMIC_ACQUIRE) & ~kBusy;
  if (launched == lane->booked_ns) return;
  if (lane->queue != nullptr) book_launch(lane->queue, launched - lane->booked_ns, now);
  lane->booked_ns = launched;
  pace.active_ns = now;
  end_idling(now);
}

// Takes what credit a lane has left. One launch may be passing this moment.
void stop(Lane* lane, uint64_t now) {
  poke(&lane->ceiling_ns, 0);
  book(lane, now);
}

template <typename Visit>
void for_each_lane(Visit visit) {
  for (int i = 0; i < lane_count; ++i) visit(&lanes[i]);
}

template <typename Visit>
void for_each_queue(Visit visit) {
  for (int i = 0; i < queue_count; ++i)
    if (queues[i].in_use) visit(&queues[i]);
}

uint64_t ahead(const Queue* queue) { return queue->launched_ns - queue->finished_ns; }

// When what was launched on a queue will have finished, going by what it takes and by when it moved last.
uint64_t end_of(const Queue* queue, uint64_t now) {
  uint64_t work = ahead(queue), passed = now - queue->progress_at_ns;
  uint64_t left = work > passed ? work - passed : 0;
  return now + (left > work / 4 ? left : work / 4);
}

// The same by what is likely: half-way between that and as soon as it has lately been, where what a kernel
// takes depends on its arguments.
uint64_t likely_end_of(const Queue* queue, uint64_t now) {
  uint64_t slack = 0, before = queue->finished_ns;
  for (uint32_t i = 0; i < queue->count; ++i) {
    const Mark& mark = queue->marks[(queue->first + i) % kMarks];
    uint64_t work = mark.launched_ns - before;
    if (mark.soonest_ns != 0 && mark.soonest_ns < work) slack += (work - mark.soonest_ns) / 2;
    before = mark.launched_ns;
  }
  uint64_t end = end_of(queue, now);
  return end - now > slack ? end - slack : now;
}

uint64_t free_from(const Queue* queue, uint64_t now) { return queue->idle() ? now : end_of(queue, now); }

// Two launches may always stand behind the one at work, or the device would idle between long ones.
bool has_room(const Queue* queue, uint64_t ns, bool trusted, uint64_t now) {
  bool shallow = queue->count < 3 || (trusted && ahead(queue) < kDepthNs);
  return shallow && free_from(queue, now) + ns <= pace.expiry_ns;
}

uint64_t least_wanted() {
  uint64_t least = kForever;
  for_each_lane([&](Lane* lane) {
    if (lane->wanted_ns != 0 && lane->wanted_ns < least) least = lane->wanted_ns;
  });
  return least == kForever ? 0 : least;
}

bool all_idle() {
  bool idle = true;
  for_each_queue([&](Queue* queue) { idle = idle && queue->idle(); });
  return idle;
}

// When the last of all that was launched finished, by estimate.
uint64_t finished_at(uint64_t now) {
  uint64_t latest = 0;
  for_each_queue([&](Queue* queue) {
    if (queue->progress_at_ns > latest) latest = queue->progress_at_ns;
  });
  return latest != 0 && latest < now ? latest : now;
}

void look_at_all(uint64_t now) {
  for_each_queue([&](Queue* queue) {
    if (queue->count > 0 && look_at(queue, now)) pace.active_ns = now;
  });
  if (pace.idle_since_ns == 0 && least_wanted() != 0 && all_idle()) pace.idle_since_ns = finished_at(now);
  if (longest_measured_ns() <= pace.reported_ns) return;
  pace.reported_ns = longest_measured_ns();
  fg_report_burst(pace.gate, pace.reported_ns);
}

// --- tokens
// ------------------------------------------------------------------------------------------------------------

void opened() {
  pace.state = State::kHeld;
  pace.expiry_ns = fg_expiry_ns(pace.gate);
  pace.single_ns = 0;
  pace.active_ns = now_ns();
  pace.idle_ns = 0;
  pace.idle_since_ns = least_wanted() != 0 ? pace.active_ns : 0;
}

void give_up(const char* reason) {
  static bool said = false;
  bool refuses = settings().refuses;
  say_once(&said,
           refuses ? "work on the device is refused from now on: " : "NOT ENFORCED from now on: ", reason);
  __atomic_store_n(&decided, static_cast<int>(refuses ? Enforcement::kRefused : Enforcement::kPassed),
                   __ATOMIC_RELEASE);
  pace.state = State::kReleased;
}

// No lane passes after this: those with credit have lost it, those that had looked already have launched. The
// lock is open meanwhile, for they may need it.
void close_lanes() {
  for_each_lane([](Lane* lane) { poke(&lane->ceiling_ns, 0); });
  if (pace.has_barrier) syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
  for (int i = 0; i < lane_count; ++i) {
    while (__atomic_load_n(&lanes[i].launched_ns, __ATOMIC_ACQUIRE) & kBusy) {
      pthread_mutex_unlock(&pace.lock);
      futex_wait(&pace.opened, pace.opened, now_ns() + kGlanceNs);
      pthread_mutex_lock(&pace.lock);
    }
  }
  uint64_t now = now_ns();
  for_each_lane([now](Lane* lane) { book(lane, now); });
}

// When it is worth looking at a queue again: when its next mark is due, and if that is late, after a part of
// the delay.
uint64_t next_look(const Queue* queue, uint64_t now) {
  uint64_t end = end_of(queue, now);
  if (queue->count > 0) {
    const Mark& mark = queue->marks[queue->first];
    uint64_t work = mark.launched_ns - queue->finished_ns;
    if (mark.soonest_ns != 0 && mark.soonest_ns < work) work = mark.soonest_ns;
    if (queue->progress_at_ns + work < end) end = queue->progress_at_ns + work;
  }
  uint64_t late = now > end ? (now - end) / 16 : 0;
  uint64_t soonest = now + (late > kGlanceNs ? late : kGlanceNs);
  return end > soonest ? end : soonest;
}

uint64_t next_end(uint64_t now) {
  uint64_t next = now + kTickNs;
  for_each_queue([&](Queue* queue) {
    if (!queue->idle() && next_look(queue, now) < next) next = next_look(queue, now);
  });
  return next;
}

// Waits until all that was launched has ended. The lock is open while it sleeps.
void drain() {
  for (;;) {
    uint64_t now = now_ns();
    for_each_queue([now](Queue* queue) {
      if (queue->launched_ns != queue->marked_ns) mark_all(queue, now);
    });
    look_at_all(now);
    if (all_idle()) return;
    uint64_t until = next_end(now);
    pthread_mutex_unlock(&pace.lock);
    futex_wait(&pace.opened, pace.opened, until);
    pthread_mutex_lock(&pace.lock);
  }
}

void close_and_release() {
  pace.state = State::kClosing;
  close_lanes();
  drain();
  settle_memory(false);  // what was freed behind that work is free now
  uint64_t wanted = least_wanted();
  end_idling(now_ns());
  fg_excuse(pace.gate, pace.idle_ns < kMostExcusedNs ? pace.idle_ns : kMostExcusedNs);
  if (wanted != 0 && fg_continue(pace.gate, wanted) == FG_OK) {
    opened();
  } else {
    fg_release(pace.gate, wanted != 0);
    pace.state = State::kReleased;
  }
  wake_lanes();
}

void acquire(uint64_t burst) {
  pace.state = State::kAcquiring;
  pthread_mutex_unlock(&pace.lock);
  int result = fg_acquire(pace.gate, burst, kPatienceNs);
  pthread_mutex_lock(&pace.lock);
  pace.state = State::kReleased;
  if (result == FG_OK) opened();
  if (result == FG_EVICTED) give_up("the node daemon has taken this process off the device");
  if (result == FG_OK || result == FG_EVICTED) wake_lanes();
}

// --- the pacer
// ---------------------------------------------------------------------------------------------------------

void tell_connection() {
  bool connected = fg_connected(pace.gate) != 0;
  if (connected == pace.connected) return;
  pace.connected = connected;
  bool said = false;
  say_once(&said, connected ? "the node daemon is back"
                            : "the node daemon is gone; this process follows its own slots");
}

// Books what lanes have done, has the busy ones look anew (and measure), and takes credit that lies idle.
void tick(uint64_t now) {
  if (now < pace.tick_ns + kTickNs) return;
  pace.tick_ns = now;
  for_each_lane([now](Lane* lane) {
    bool active = (peek(&lane->launched_ns) & ~kBusy) != lane->seen_ns;
    stop(lane, now);
    lane->seen_ns = lane->booked_ns;
    lane->measures = active;
  });
  for_each_queue([now](Queue* queue) {
    bool unmarked = queue->launched_ns != queue->marked_ns && now - queue->marked_at_ns >= kTickNs;
    // A per-thread stream is marked by its own thread: from here all streams would have to wait for each
    // other.
    if (unmarked && (queue->kind != QueueKind::kPerThread || now - pace.active_ns >= kIdleNs))
      mark_all(queue, now);
  });
}

// Nothing that waits fits any more by itself: may one more start, as the last?
bool ask_for_one_more(uint64_t now, uint64_t wanted) {
  uint64_t start = now;
  for_each_queue([&](Queue* queue) {
    if (!queue->idle() && likely_end_of(queue, now) > start) start = likely_end_of(queue, now);
  });
  if (start >= pace.expiry_ns || fg_continue_at(pace.gate, wanted, start) != FG_OK) return false;
  pace.expiry_ns = fg_expiry_ns(pace.gate);
  pace.single_ns = wanted;
  return true;
}

enum class Prospect { kNow, kLater, kNever };

// What lanes that wait may hope for from this token.
Prospect prospect(uint64_t now) {
  Prospect best = Prospect::kNever;
  for_each_lane([&](Lane* lane) {
    if (lane->wanted_ns == 0 || lane->queue == nullptr) return;
    bool fits = free_from(lane->queue, now) + lane->wanted_ns <= pace.expiry_ns;
    if (has_room(lane->queue, lane->wanted_ns, lane->trusts, now) || pace.single_ns >= lane->wanted_ns)
      best = Prospect::kNow;
    else if (fits && best == Prospect::kNever)
      best = Prospect::kLater;
  });
  return best;
}

// Lets in who waits, if possible; false if this token is of no more use to them.
bool serve(uint64_t now, uint64_t wanted, bool idle) {
  Prospect hope = prospect(now);
  if (hope == Prospect::kNever && ask_for_one_more(now, wanted)) hope = Prospect::kNow;
  if (hope == Prospect::kNow) wake_lanes();
  return hope != Prospect::kNever || !idle;
}

// What is due while a token is held; returns when to look again.
uint64_t hold(uint64_t now) {
  for_each_lane([now](Lane* lane) { book(lane, now); });
  look_at_all(now);
  tick(now);
  uint64_t wanted = least_wanted();
  if (now >= pace.expiry_ns || !fg_valid(pace.gate)) {
    if (fg_continue(pace.gate, wanted) != FG_OK) return close_and_release(), now;
    pace.expiry_ns = fg_expiry_ns(pace.gate);
    pace.single_ns = 0;
  }
  bool idle = all_idle();
  bool of_use = wanted != 0 ? serve(now, wanted, idle) : !idle || now - pace.active_ns < kIdleNs;
  if (!of_use) return close_and_release(), now;
  uint64_t next = idle ? now + kIdleNs : next_end(now);
  return next < pace.expiry_ns ? next : pace.expiry_ns;
}

uint64_t step(uint64_t now) {
  tell_connection();
  if (!is_enforced()) return now + kPatienceNs;
  if (pace.state == State::kHeld) return hold(now);
  uint64_t wanted = least_wanted();
  if (wanted == 0) return now + kPatienceNs;
  acquire(wanted);
  return now;
}

void* keep_pace(void*) {
  prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
  ++depth;  // whatever the driver calls for it is none of the program's
  pthread_mutex_lock(&pace.lock);
  for (;;) {
    uint32_t heard = __atomic_load_n(&pace.bell, __ATOMIC_SEQ_CST);
    uint64_t until = step(now_ns());
    pthread_mutex_unlock(&pace.lock);
    __atomic_store_n(&pace.sleeping, 1U, __ATOMIC_SEQ_CST);
    if (until > now_ns()) futex_wait(&pace.bell, heard, until);
    __atomic_store_n(&pace.sleeping, 0U, __ATOMIC_SEQ_CST);
    pthread_mutex_lock(&pace.lock);
  }
  return nullptr;
}

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

// --- lanes that ask
// ----------------------------------------------------------------------------------------------------

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
    if (admit(lane, ns, trusted, now_ns())) {
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
  uint64_t now = now_ns();
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
  uint64_t before = lane->launched_ns & ~kBusy, now = now_ns();
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
// -------------------------------------------------------------------------------------------------------

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
uint64_t time_ns() { return now_ns(); }

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
  attach(lane, stream, now_ns());
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
  uint64_t now = now_ns();
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
  if (gate != nullptr) fg_forget(gate);
}

}  // namespace fasthook

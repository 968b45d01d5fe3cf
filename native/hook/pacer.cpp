// The pacer: a thread that asks for tokens, looks at events, gives back what is no longer of use.
#include <linux/membarrier.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "allocations.h"
#include "faults.h"
#include "functions.h"
#include "pacing.h"

namespace fasthook {

void opened() {
  pace.state = State::kHeld;
  pace.expiry_ns = fg_expiry_ns(pace.gate);
  pace.single_ns = 0;
  pace.active_ns = time_ns();
  pace.idle_ns = 0;
  pace.idle_since_ns = least_wanted() != 0 ? pace.active_ns : 0;
}

namespace {

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
      futex_wait(&pace.opened, pace.opened, time_ns() + kGlanceNs);
      pthread_mutex_lock(&pace.lock);
    }
  }
  uint64_t now = time_ns();
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
    uint64_t now = time_ns();
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
  end_idling(time_ns());
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

// --- the thread

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
  fg_fault(pace.gate, fault());
  if (!is_enforced()) return now + kPatienceNs;
  if (pace.state == State::kHeld) return hold(now);
  uint64_t wanted = least_wanted();
  if (wanted == 0) return now + kPatienceNs;
  acquire(wanted);
  return now;
}

}  // namespace

void* keep_pace(void*) {
  prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
  ++depth;  // whatever the driver calls for it is none of the program's
  pthread_mutex_lock(&pace.lock);
  for (;;) {
    uint32_t heard = __atomic_load_n(&pace.bell, __ATOMIC_SEQ_CST);
    uint64_t until = step(time_ns());
    pthread_mutex_unlock(&pace.lock);
    __atomic_store_n(&pace.sleeping, 1U, __ATOMIC_SEQ_CST);
    if (until > time_ns()) futex_wait(&pace.bell, heard, until);
    __atomic_store_n(&pace.sleeping, 0U, __ATOMIC_SEQ_CST);
    pthread_mutex_lock(&pace.lock);
  }
  return nullptr;
}

}  // namespace fasthook

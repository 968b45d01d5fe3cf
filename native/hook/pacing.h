// What the pacer's thread and the lanes that ask it share. All of it under `pace.lock`, but for the words
// that threads sleep on.
#pragma once

#include <pthread.h>

#include "lanes.h"
#include "pace.h"
#include "queues.h"

namespace fasthook {

constexpr uint64_t kForever = ~0ULL;
constexpr uint64_t kSliceNs = 1'000'000;        // a lane looks anew after so much work
constexpr uint64_t kDepthNs = 3'000'000;        // so much may be waiting on a stream
constexpr uint64_t kTickNs = 1'000'000;         // at most so often a lane is stopped to measure a launch
constexpr uint64_t kIdleNs = 500'000;           // a token goes back when there was no work for so long
constexpr uint64_t kGlanceNs = 30'000;          // looking more often costs more than it brings
constexpr uint64_t kMostExcusedNs = 1'000'000;  // of one hold
constexpr uint64_t kPatienceNs = 100'000'000;
constexpr uint64_t kOpenTimeoutNs = 5'000'000'000;

enum class State { kReleased, kAcquiring, kHeld, kClosing };

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
extern Pace pace;
extern int decided;  // an Enforcement

bool is_enforced();
void futex_wait(const uint32_t* word, uint32_t value, uint64_t until_ns);
void ring();        // the pacer
void wake_lanes();  // all that wait

template <typename Visit>
void for_each_lane(Visit visit) {
  for (int i = 0; i < lane_count; ++i) visit(&lanes[i]);
}

template <typename Visit>
void for_each_queue(Visit visit) {
  for (int i = 0; i < queue_count; ++i)
    if (queues[i].in_use) visit(&queues[i]);
}

// --- prospects.cpp: what has been launched, and what lies ahead

void book(Lane* lane, uint64_t now);  // what it has launched since
void stop(Lane* lane, uint64_t now);  // takes what credit it has left; one launch may be passing this moment
void end_idling(uint64_t now);
uint64_t ahead(const Queue* queue);
// When what was launched on a queue will have finished, going by what it takes and by when it moved last.
uint64_t end_of(const Queue* queue, uint64_t now);
// The same by what is likely: half-way between that and as soon as it has lately been, where what a kernel
// takes depends on its arguments.
uint64_t likely_end_of(const Queue* queue, uint64_t now);
uint64_t free_from(const Queue* queue, uint64_t now);
bool has_room(const Queue* queue, uint64_t ns, bool trusted, uint64_t now);
uint64_t least_wanted();  // of the lanes that wait; 0: none does
bool all_idle();
uint64_t finished_at(uint64_t now);  // when the last of all that was launched did, by estimate

// --- pacer.cpp

void opened();           // a token is held from now on
void* keep_pace(void*);  // the pacer's thread

}  // namespace fasthook

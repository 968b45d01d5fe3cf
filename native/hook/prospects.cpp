// What lanes have launched, when it will have ended, and what else would fit.
#include "pacing.h"

namespace fasthook {

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

void stop(Lane* lane, uint64_t now) {
  poke(&lane->ceiling_ns, 0);
  book(lane, now);
}

uint64_t ahead(const Queue* queue) { return queue->launched_ns - queue->finished_ns; }

uint64_t end_of(const Queue* queue, uint64_t now) {
  uint64_t work = ahead(queue), passed = now - queue->progress_at_ns;
  uint64_t left = work > passed ? work - passed : 0;
  return now + (left > work / 4 ? left : work / 4);
}

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

uint64_t finished_at(uint64_t now) {
  uint64_t latest = 0;
  for_each_queue([&](Queue* queue) {
    if (queue->progress_at_ns > latest) latest = queue->progress_at_ns;
  });
  return latest != 0 && latest < now ? latest : now;
}

}  // namespace fasthook

#include "lanes.h"

#include <pthread.h>

namespace fasthook {

Lane lanes[kLanes];
int lane_count = 0;

namespace {

pthread_key_t ends;
bool ends_known = false;

// The thread has ended; its lane goes to another, which counts on from where it stands.
void leave_lane(void* lane) { __atomic_store_n(&static_cast<Lane*>(lane)->taken, 0U, __ATOMIC_RELEASE); }

}  // namespace

Lane* take_lane() {
  if (own_lane != nullptr) return own_lane;
  if (!ends_known) ends_known = pthread_key_create(&ends, leave_lane) == 0;
  for (int i = 0; i < kLanes && ends_known; ++i) {
    Lane* lane = &lanes[i];
    if (__atomic_load_n(&lane->taken, __ATOMIC_ACQUIRE)) continue;
    lane->taken = 1;
    lane->wanted_ns = 0;
    if (i >= lane_count) lane_count = i + 1;
    pthread_setspecific(ends, lane);
    own_lane = lane;
    return lane;
  }
  return nullptr;
}

void forget_lanes() {
  for (int i = 0; i < lane_count; ++i) lanes[i] = Lane();
  lane_count = 0;
  own_lane = nullptr;
  if (ends_known) pthread_setspecific(ends, nullptr);
}

}  // namespace fasthook

// The C ABI of queues: submitting work, and asking what has become of it.
#include "engine.h"

using namespace standin;

namespace {

constexpr int kForesight = 64;  // ends that st_due_ns looks ahead: it holds the lock meanwhile

// Without the lock: whether nothing has ended since somebody looked under it.
bool nothing_new(const st_device* device, uint64_t now) { return now < load(&device->shown_ns); }

void catch_up(st_device* device, uint64_t now) {
  if (nothing_new(device, now)) return;
  Lock lock(device);
  advance(device, now);
}

// Of a position that is shown as finished, if it still is remembered.
uint64_t recall(const st_device* device, int index, uint64_t position) {
  uint64_t end = load(&device->bodies[index].ends[position % kEnds]);
  uint64_t shown = load(&device->queues[index].shown);
  return position > 0 && shown - position < kRemembered ? end : kForever;
}

// Goes ahead to see when a position will be finished, and takes everything back.
uint64_t foresee(st_device* device, const Queue& queue, uint64_t position) {
  uint64_t due = kForever;
  for (int i = 0; i <= kForesight; ++i) {
    due = device->next_ns;
    if (due == kForever || i == kForesight) break;
    Change trial(device, due, true);
    end_next(&trial);
    if (queue.finished >= position || trial.crowded()) break;
  }
  undo(device);
  return due;
}

// The queue, if it takes more work.
Queue* open_queue(st_device* device, int index) {
  if (index < 0) return nullptr;
  Queue* queue = &device->queues[index];
  return queue->state == kFree || queue->closing ? nullptr : queue;
}

void reopen(Change* change, int index, int process) {
  Queue* queue = &change->device->queues[index];
  const uint64_t none = 0;
  change->set(&queue->generation, queue->generation + 1);
  store(&queue->shown, none);
  change->set(&queue->submitted, none);
  change->set(&queue->finished, none);
  change->set(&queue->waits, none);
  change->set(&queue->waits_over, none);
  change->set(&queue->closing, none);
  change->set(&queue->first_waiter, none);
  change->set(&queue->process, static_cast<uint64_t>(process));
  change->set(&queue->state, uint64_t{kIdle});
  change->set(&change->device->last_queue, static_cast<uint64_t>(index));
}

// A wait for the same queue by the same piece that is noted already, or null.
Wait* noted(st_device* device, int index, int other) {
  Queue* queue = &device->queues[index];
  for (uint64_t i = queue->waits; i > queue->waits_over; --i) {
    Wait* wait = &device->bodies[index].waits[(i - 1) % kWaits];
    if (wait->before <= queue->submitted) return nullptr;
    if (wait->other == static_cast<uint64_t>(other)) return wait;
  }
  return nullptr;
}

int note(st_device* device, int index, int other, uint64_t position) {
  Queue* queue = &device->queues[index];
  Wait* wait = noted(device, index, other);
  if (wait != nullptr) {
    if (position > wait->position) wait->position = position;
    return 0;
  }
  if (queue->waits - queue->waits_over >= kWaits) return -1;
  device->bodies[index].waits[queue->waits % kWaits] = {queue->submitted + 1, static_cast<uint64_t>(other),
                                                        position};
  store(&queue->waits, queue->waits + 1);
  return 0;
}

}  // namespace

ST_API int st_open_queue(st_device* device, int process) {
  Lock lock(device);
  int owner = process_index_of(device, process);
  if (owner < 0) return -1;
  // The one that was closed longest ago comes first: so what is asked of the others can still be answered.
  for (uint64_t i = 1; i <= kQueues; ++i) {
    int index = static_cast<int>((device->last_queue + i) % kQueues);
    if (device->queues[index].state != kFree) continue;
    Change change(device, device->time_ns);
    reopen(&change, index, owner);
    return handle_of(device, index);
  }
  return -1;
}

ST_API void st_close_queue(st_device* device, int queue, uint64_t now) {
  Lock lock(device);
  advance(device, now);
  int index = index_of(device, queue);
  if (open_queue(device, index) == nullptr) return;
  Change change(device, now);
  change.set(&device->queues[index].closing, uint64_t{1});
  if (device->queues[index].state == kIdle) change.to_do.add(index);
  go_on(&change);
}

ST_API uint64_t st_submit(st_device* device, int queue, const st_work* work, uint64_t now) {
  Lock lock(device);
  advance(device, now);
  int index = index_of(device, queue);
  Queue* to = open_queue(device, index);
  if (to == nullptr) return kForever;
  if (to->submitted - to->finished >= kPieces) return 0;
  uint64_t position = to->submitted + 1;
  *piece_of(device, index, position) = *work;
  if (to->state != kIdle) {
    store(&to->submitted, position);
    return position;
  }
  Change change(device, now);
  change.set(&to->submitted, position);
  change.to_do.add(index);
  go_on(&change);
  return position;
}

ST_API int st_follow(st_device* device, int queue, int other, uint64_t position, uint64_t now) {
  Lock lock(device);
  advance(device, now);
  int index = index_of(device, queue), before = index_of(device, other);
  if (open_queue(device, index) == nullptr || before < 0 || before == index) return 0;
  const Queue& first = device->queues[before];
  if (first.state == kFree || first.finished >= position) return 0;
  return note(device, index, other, position);
}

ST_API void st_finish_host(st_device* device, int queue, uint64_t position, uint64_t now) {
  Lock lock(device);
  advance(device, now);
  int index = index_of(device, queue);
  if (index < 0) return;
  Queue* of = &device->queues[index];
  if (position <= of->finished || position > of->submitted) return;
  st_work* work = piece_of(device, index, position);
  if (work->kind != ST_HOST) return;
  if (of->state != kHost || position > of->finished + 1) {
    work->kind = ST_MARK;
    return;
  }
  Change change(device, now);
  change.set(&of->state, uint64_t{kIdle});
  finish(&change, index);
  change.to_do.add(index);
  go_on(&change);
}

ST_API uint64_t st_finished(st_device* device, int queue, uint64_t now) {
  catch_up(device, now);
  int index = index_of(device, queue);
  return index < 0 ? kForever : load(&device->queues[index].shown);
}

ST_API uint64_t st_ended_ns(st_device* device, int queue, uint64_t position, uint64_t now) {
  int index = index_of(device, queue);
  if (index < 0) return kForever;
  if (position > load(&device->queues[index].shown)) {
    catch_up(device, now);
    if (position > load(&device->queues[index].shown)) return 0;
  }
  return recall(device, index, position);
}

ST_API uint64_t st_due_ns(st_device* device, int queue, uint64_t position, uint64_t now) {
  uint64_t end = st_ended_ns(device, queue, position, now);
  if (end != 0) return end;
  Lock lock(device);
  advance(device, now);
  int index = index_of(device, queue);
  if (index < 0 || position > device->queues[index].submitted) return kForever;
  if (position <= device->queues[index].finished) return recall(device, index, position);
  return foresee(device, device->queues[index], position);
}

ST_API uint64_t st_next_ns(st_device* device, uint64_t now) {
  catch_up(device, now);
  return load(&device->shown_ns);
}

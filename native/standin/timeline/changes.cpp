// The lock, and how a change is kept or undone.
#include "changes.h"

#include <errno.h>

#include "engine.h"

namespace standin {
namespace {

// Any word of a device, whatever it says.
using Word [[gnu::may_alias]] = uint64_t;

// Shows `finished` before `next_ns`: who sees that nothing ends before his time sees all that ended.
void show(st_device* device, QueueSet* finished) {
  while (!finished->empty()) {
    Queue* queue = &device->queues[finished->take()];
    store(&queue->shown, queue->finished);
  }
  store(&device->shown_ns, device->next_ns);
}

// What was begun and not kept is undone; what could go on, goes on; what was not shown is shown.
void recover(st_device* device) {
  undo(device);
  Change change(device, device->time_ns);
  change.rates_differ = true;
  for (int i = 0; i < kQueues; ++i)
    if (device->queues[i].state == kIdle) change.to_do.add(i);
  go_on(&change);
  for (Queue& queue : device->queues) store(&queue.shown, queue.finished);
}

}  // namespace

Lock::Lock(st_device* device) : device_(device) {
  if (pthread_mutex_lock(&device->mutex) != EOWNERDEAD) return;
  recover(device);
  pthread_mutex_consistent(&device->mutex);
}

Lock::~Lock() { pthread_mutex_unlock(&device_->mutex); }

void undo(st_device* device) {
  while (device->undos > 0) {
    const Undo& entry = device->undo[device->undos - 1];
    auto* word = reinterpret_cast<Word*>(reinterpret_cast<char*>(device) + entry.offset);
    __atomic_store_n(word, entry.old, __ATOMIC_RELAXED);
    // The count last: who dies here leaves an entry to be undone once more, which changes nothing.
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    device->undos -= 1;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
  }
}

Change::Change(st_device* d, uint64_t now, bool is_trial)
    : device(d), at(now > d->time_ns ? now : d->time_ns), trial(is_trial) {
  set(&device->time_ns, at);
}

Change::~Change() {
  if (trial) return;
  __atomic_signal_fence(__ATOMIC_SEQ_CST);
  device->undos = 0;
  show(device, &finished_);
}

void Change::relieve() {
  if (trial || !crowded()) return;
  __atomic_signal_fence(__ATOMIC_SEQ_CST);
  device->undos = 0;
}

}  // namespace standin

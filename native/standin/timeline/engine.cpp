// From the pieces of the queues to what runs.
#include "engine.h"

namespace standin {
namespace {

constexpr int kGenerations = (1 << 21) - 1;  // so that a handle is a positive int

uint64_t generation_of(int handle) { return static_cast<uint64_t>(handle) / kQueues; }

bool is_over(const st_device* device, const Wait& wait) {
  int index = index_of(device, static_cast<int>(wait.other));
  if (index < 0) return true;
  const Queue& other = device->queues[index];
  return other.state == kFree || other.finished >= wait.position;
}

void start(Change* change, int index, const st_work& work) {
  st_device* device = change->device;
  Queue* queue = &device->queues[index];
  bool kernel = work.kind == ST_KERNEL;
  double occupied = 0, speed = 1;
  if (kernel) measure(device->config, device->processes[queue->process].sms, work, &occupied, &speed);
  change->set(&queue->kernel, uint64_t{kernel});
  change->set(&queue->since_ns, change->at);
  change->set(&queue->left_ns, static_cast<double>(work.full_ns));
  change->set(&queue->slow, 0.0);
  change->set(&queue->sms, occupied);
  change->set(&queue->speed, speed);
  change->set(&queue->bandwidth, work.bandwidth / 1000.0);
  change->set(&queue->state, uint64_t{kRunning});
  change->set(&queue->slot, device->running);
  change->set(&device->runs[device->running], static_cast<uint64_t>(index));
  change->set(&device->running, device->running + 1);
  change->rates_differ = true;
}

void stop(Change* change, int index) {
  st_device* device = change->device;
  uint64_t slot = device->queues[index].slot;
  uint64_t last = device->runs[device->running - 1];
  change->set(&device->runs[slot], last);
  change->set(&device->queues[last].slot, slot);
  change->set(&device->running, device->running - 1);
  change->set(&device->queues[index].state, uint64_t{kIdle});
  change->rates_differ = true;
}

void block(Change* change, int index, const Wait& wait) {
  int other = index_of(change->device, static_cast<int>(wait.other));
  Queue* queue = &change->device->queues[index];
  Queue* waited = &change->device->queues[other];
  if (waited->first_waiter == 0 || wait.position < waited->needed)
    change->set(&waited->needed, wait.position);
  change->set(&queue->next_waiter, waited->first_waiter);
  change->set(&waited->first_waiter, static_cast<uint64_t>(index) + 1);
  change->set(&queue->waits_for, static_cast<uint64_t>(other));
  change->set(&queue->state, uint64_t{kBlocked});
}

void unblock(Change* change, int index) {
  st_device* device = change->device;
  Queue* queue = &device->queues[index];
  uint64_t* link = &device->queues[queue->waits_for].first_waiter;
  while (*link != static_cast<uint64_t>(index) + 1) link = &device->queues[*link - 1].next_waiter;
  change->set(link, queue->next_waiter);
  change->set(&queue->state, uint64_t{kIdle});
}

// All that wait for a queue look again whether they may go on.
void wake_waiters(Change* change, int index) {
  st_device* device = change->device;
  Queue* queue = &device->queues[index];
  for (uint64_t at = queue->first_waiter; at != 0; at = device->queues[at - 1].next_waiter) {
    change->set(&device->queues[at - 1].state, uint64_t{kIdle});
    change->to_do.add(static_cast<int>(at) - 1);
  }
  change->set(&queue->first_waiter, uint64_t{0});
}

// Whether the first piece of a queue may start; else the queue is blocked now.
bool may_start(Change* change, int index) {
  st_device* device = change->device;
  Queue* queue = &device->queues[index];
  while (queue->waits_over < queue->waits) {
    const Wait& wait = device->bodies[index].waits[queue->waits_over % kWaits];
    if (wait.before > queue->finished + 1) return true;
    if (!is_over(device, wait)) {
      block(change, index, wait);
      return false;
    }
    change->set(&queue->waits_over, queue->waits_over + 1);
  }
  return true;
}

void start_first(Change* change, int index) {
  st_device* device = change->device;
  Queue* queue = &device->queues[index];
  while (queue->state == kIdle && queue->finished < queue->submitted && may_start(change, index)) {
    const st_work& work = *piece_of(device, index, queue->finished + 1);
    if (work.kind == ST_HOST)
      change->set(&queue->state, uint64_t{kHost});
    else if (work.kind == ST_MARK || work.full_ns == 0)
      finish(change, index);
    else
      start(change, index, work);
    change->relieve();
    if (change->trial && change->crowded()) return;
  }
  if (queue->state == kIdle && queue->closing && queue->finished == queue->submitted) drop(change, index);
}

}  // namespace

int handle_of(const st_device* device, int index) {
  uint64_t generation = device->queues[index].generation % kGenerations + 1;
  return static_cast<int>(generation * kQueues) + index;
}

int index_of(const st_device* device, int handle) {
  if (handle < kQueues) return -1;
  int index = handle % kQueues;
  uint64_t generation = load(&device->queues[index].generation) % kGenerations + 1;
  return generation == generation_of(handle) ? index : -1;
}

void finish(Change* change, int index) {
  st_device* device = change->device;
  Queue* queue = &device->queues[index];
  uint64_t position = queue->finished + 1;
  if (!change->trial) store(&device->bodies[index].ends[position % kEnds], change->at);
  const st_work& work = *piece_of(device, index, position);
  if (work.kind == ST_KERNEL) {
    Process* process = &device->processes[queue->process];
    change->set(&process->kernels, process->kernels + 1);
    if (work.fault != 0) fail(change, static_cast<int>(queue->process), work.fault);
  }
  change->set(&queue->finished, position);
  change->finished_.add(index);
  if (queue->first_waiter != 0 && position >= queue->needed) wake_waiters(change, index);
}

void drop(Change* change, int index) {
  st_device* device = change->device;
  Queue* queue = &device->queues[index];
  if (queue->state == kRunning) stop(change, index);
  if (queue->state == kBlocked) unblock(change, index);
  for (uint64_t i = queue->finished + 1; !change->trial && i <= queue->submitted; ++i)
    store(&device->bodies[index].ends[i % kEnds], change->at);
  change->set(&queue->finished, queue->submitted);
  change->set(&queue->state, uint64_t{kFree});
  change->finished_.add(index);
  wake_waiters(change, index);
}

void go_on(Change* change) {
  do {
    spread_faults(change);
    while (!change->to_do.empty()) start_first(change, change->to_do.take());
  } while (change->device->failing != 0);
  if (change->rates_differ) set_rates(change);
}

void end_next(Change* change) {
  st_device* device = change->device;
  // From the back: the last takes the place of one that ends.
  for (uint64_t i = device->running; i-- > 0;) {
    int index = static_cast<int>(device->runs[i]);
    if (device->queues[index].end_ns > change->at) continue;
    stop(change, index);
    finish(change, index);
    change->to_do.add(index);
  }
  go_on(change);
}

void advance(st_device* device, uint64_t now) {
  while (device->next_ns <= now && device->next_ns != kForever) {
    Change change(device, device->next_ns);
    end_next(&change);
  }
}

}  // namespace standin

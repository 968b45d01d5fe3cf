// What goes wrong: kernels that fail and whom that breaks, a device that is lost, and the log of both.
#include "engine.h"

using namespace standin;

namespace {

void log(Change* change, uint32_t xid, uint64_t pid) {
  st_device* device = change->device;
  Xid* entry = &device->xids[device->xid_count % kXids];
  change->set(&entry->when_ns, change->at);
  change->set(&entry->xid, uint64_t{xid});
  change->set(&entry->pid, pid);
  change->set(&device->xid_count, device->xid_count + 1);
}

// From now on it is told this error, and what it had to do is dropped.
void break_down(Change* change, int index, uint32_t error) {
  st_device* device = change->device;
  Process* process = &device->processes[index];
  if (process->fault == 0) change->set(&process->fault, uint64_t{error});
  for (int i = 0; i < kQueues; ++i)
    if (device->queues[i].state != kFree && device->queues[i].process == static_cast<uint64_t>(index))
      drop(change, i);
}

}  // namespace

namespace standin {

void fail(Change* change, int process, uint32_t error) {
  st_device* device = change->device;
  Process* who = &device->processes[process];
  if (who->fault != 0) return;
  change->set(&who->fault, uint64_t{error});
  change->set(&device->failing, device->failing | uint64_t{1} << process);
  log(change, ST_XID_FAULT, who->pid);
}

void spread_faults(Change* change) {
  st_device* device = change->device;
  while (device->failing != 0) {
    int culprit = __builtin_ctzll(device->failing);
    uint64_t group = device->processes[culprit].group;
    for (int i = 0; i < kProcesses; ++i)
      if (device->processes[i].present && device->processes[i].group == group)
        break_down(change, i, ST_SPREAD);
    change->set(&device->failing, device->failing & (device->failing - 1));
  }
}

}  // namespace standin

ST_API uint32_t st_fault_of(st_device* device, int process, uint64_t now) {
  if (process < 0) return 0;
  const uint64_t* fault = &device->processes[process % kProcesses].fault;
  if (now < load(&device->shown_ns) && load(fault) == 0) return 0;
  // One that is seen without the lock may be that of who looks ahead.
  Lock lock(device);
  advance(device, now);
  return static_cast<uint32_t>(load(fault));
}

ST_API void st_log_xid(st_device* device, uint32_t xid, uint32_t pid, uint64_t now) {
  Lock lock(device);
  advance(device, now);
  Change change(device, now);
  log(&change, xid, pid);
}

ST_API void st_lose(st_device* device, uint32_t xid, uint64_t now) {
  Lock lock(device);
  advance(device, now);
  Change change(device, now);
  log(&change, xid, 0);
  change.set(&device->lost, uint64_t{1});
  for (int i = 0; i < kProcesses; ++i)
    if (device->processes[i].present) break_down(&change, i, ST_LOST);
  go_on(&change);
}

ST_API int st_is_lost(const st_device* device) { return load(&device->lost) != 0; }

ST_API int st_xids(st_device* device, st_xid* out, int capacity, uint64_t* from) {
  Lock lock(device);
  uint64_t count = device->xid_count, oldest = count > kXids ? count - kXids : 0;
  if (*from < oldest) *from = oldest;
  int written = 0;
  for (; *from < count && written < capacity; ++*from, ++written) {
    const Xid& entry = device->xids[*from % kXids];
    out[written] = {entry.when_ns, static_cast<uint32_t>(entry.xid), static_cast<uint32_t>(entry.pid)};
  }
  return written;
}

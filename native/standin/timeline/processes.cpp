// The C ABI of processes: coming, going, dying, memory and usage.
#include "engine.h"
#include "lives.h"

using namespace standin;

namespace {

constexpr uint64_t kGenerations = (1 << 24) - 1;

uint64_t sms_of(const st_device* device, uint32_t millipercent) {
  uint64_t all = device->config.sms;
  if (millipercent == 0 || millipercent > 100'000) return all;
  return (all * millipercent + 99'999) / 100'000;
}

// Without a group it is one of its own, which no number from outside can name.
uint64_t group_of(const st_device* device, int index, uint64_t group) {
  bool own = group == 0 || device->config.turns;
  return own ? 1ULL << 63 | static_cast<uint64_t>(index) : group & ~(1ULL << 63);
}

void arrive(Change* change, Process* process, uint32_t pid, uint64_t sms, uint64_t group) {
  process->born = birth_of(pid);
  process->spaces = pid_namespace();
  process->pid = pid;
  process->sms = sms;
  process->group = group;
  store(&process->fault, uint64_t{change->device->lost ? ST_LOST : 0});
  process->mem_bytes = process->kernels = 0;
  process->busy_ns = process->sm_ns = process->busy_now = process->sms_now = 0;
  process->since_ns = change->at;
  change->set(&process->generation, process->generation + 1);
  change->set(&process->present, uint64_t{1});
}

void depart(st_device* device, int index, uint64_t now) {
  Change change(device, now);
  Process* process = &device->processes[index];
  for (int i = 0; i < kQueues; ++i) {
    const Queue& queue = device->queues[i];
    if (queue.state != kFree && queue.process == static_cast<uint64_t>(index)) drop(&change, i);
  }
  change.set(&device->mem_used, device->mem_used - process->mem_bytes);
  change.set(&process->present, uint64_t{0});
  go_on(&change);
}

void describe(const st_device* device, const Process& process, uint64_t now, st_usage* out) {
  uint64_t time = now > device->time_ns ? now : device->time_ns;
  double passed = static_cast<double>(time - process.since_ns);
  out->busy_ns = static_cast<uint64_t>(process.busy_ns + passed * process.busy_now + 0.5);
  out->sm_ns = static_cast<uint64_t>(process.sm_ns + passed * process.sms_now + 0.5);
  out->kernels = process.kernels;
  out->mem_bytes = process.mem_bytes;
  out->pid = static_cast<uint32_t>(process.pid);
  out->sms = static_cast<uint32_t>(process.sms);
}

}  // namespace

namespace standin {

int process_handle_of(const st_device* device, int index) {
  uint64_t generation = device->processes[index].generation % kGenerations;
  return static_cast<int>(generation * kProcesses) + index;
}

int process_index_of(const st_device* device, int handle) {
  if (handle < 0) return -1;
  int index = handle % kProcesses;
  bool here = device->processes[index].present && process_handle_of(device, index) == handle;
  return here ? index : -1;
}

}  // namespace standin

ST_API int st_join(st_device* device, uint32_t pid, uint32_t sm_millipercent, uint64_t group, uint64_t now) {
  Lock lock(device);
  advance(device, now);
  for (int i = 0; i < kProcesses; ++i) {
    if (device->processes[i].present) continue;
    Change change(device, now);
    arrive(&change, &device->processes[i], pid, sms_of(device, sm_millipercent), group_of(device, i, group));
    return process_handle_of(device, i);
  }
  return -1;
}

ST_API void st_leave(st_device* device, int process, uint64_t now) {
  Lock lock(device);
  advance(device, now);
  int index = process_index_of(device, process);
  if (index >= 0) depart(device, index, now);
}

ST_API void st_reap(st_device* device, uint64_t now) {
  uint64_t spaces = pid_namespace();
  Lock lock(device);
  advance(device, now);
  for (int i = 0; i < kProcesses; ++i) {
    const Process& process = device->processes[i];
    if (process.present && process.spaces == spaces && has_ended(process.pid, process.born))
      depart(device, i, now);
  }
}

ST_API int st_charge(st_device* device, int process, int64_t bytes) {
  Lock lock(device);
  int index = process_index_of(device, process);
  if (index < 0) return -1;
  Process* who = &device->processes[index];
  uint64_t free = device->config.mem_bytes - device->mem_used, size = static_cast<uint64_t>(bytes);
  if (bytes < 0 && -size > who->mem_bytes) size = -who->mem_bytes;
  if (bytes > 0 && size > free) return -1;
  Change change(device, device->time_ns);
  change.set(&who->mem_bytes, who->mem_bytes + size);
  change.set(&device->mem_used, device->mem_used + size);
  return 0;
}

ST_API uint64_t st_mem_free(st_device* device) {
  Lock lock(device);
  return device->config.mem_bytes - device->mem_used;
}

ST_API int st_processes(st_device* device, st_usage* out, int capacity, uint64_t now) {
  Lock lock(device);
  advance(device, now);
  int count = 0;
  for (const Process& process : device->processes)
    if (process.present && count < capacity) describe(device, process, now, &out[count++]);
  return count;
}

ST_API int st_usage_of(st_device* device, int process, st_usage* out, uint64_t now) {
  Lock lock(device);
  advance(device, now);
  int index = process_index_of(device, process);
  if (index < 0) return -1;
  describe(device, device->processes[index], now, out);
  return 0;
}

ST_API uint64_t st_busy_ns(st_device* device, uint64_t now) {
  Lock lock(device);
  advance(device, now);
  uint64_t time = now > device->time_ns ? now : device->time_ns;
  return device->busy_ns + (device->active != 0 ? time - device->busy_since_ns : 0);
}

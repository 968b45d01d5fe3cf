// Kills a process after every n-th instruction of every call of the stand-in's device (n: the argument), as
// far as the device can tell: its memory is copied as it is then, the lock marked as the kernel marks that of
// a dead owner. Who comes next must find the call made wholly or not at all. Prints how many points were
// tried.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "layout.h"

namespace {

constexpr int kOwnerDied = 0x40000000, kOwner = 0x3fffffff;  // of a robust futex
constexpr uint64_t kLate = 1'000'000;
constexpr st_work kKernel{ST_KERNEL, 60, 1, 500, 700}, kMark{ST_MARK, 0, 0, 0, 0}, kHost{ST_HOST, 0, 0, 0, 0};
constexpr st_work kFails{ST_KERNEL, 1, 1, 0, 0, 700};

struct World {
  st_device* device;
  int processes[3];
  int queues[6];
};

struct Call {
  const char* name;
  void (*make)(const World&);
};

const Call kCalls[] = {
    {"submit to an idle queue", [](const World& w) { st_submit(w.device, w.queues[5], &kKernel, 40); }},
    {"submit a mark", [](const World& w) { st_submit(w.device, w.queues[5], &kMark, 40); }},
    {"submit to a busy queue", [](const World& w) { st_submit(w.device, w.queues[0], &kKernel, 40); }},
    {"see many ends", [](const World& w) { st_finished(w.device, w.queues[0], 3000); }},
    {"look ahead", [](const World& w) { st_due_ns(w.device, w.queues[1], 5, 40); }},
    {"follow", [](const World& w) { st_follow(w.device, w.queues[0], w.queues[2], 4, 40); }},
    {"leave while it runs", [](const World& w) { st_leave(w.device, w.processes[0], 40); }},
    {"leave while others wait", [](const World& w) { st_leave(w.device, w.processes[2], 700); }},
    {"close an idle queue", [](const World& w) { st_close_queue(w.device, w.queues[5], 40); }},
    {"close a busy queue", [](const World& w) { st_close_queue(w.device, w.queues[2], 40); }},
    {"end a piece of the host", [](const World& w) { st_finish_host(w.device, w.queues[4], 5, 30'000); }},
    {"end it early", [](const World& w) { st_finish_host(w.device, w.queues[4], 5, 40); }},
    {"charge", [](const World& w) { st_charge(w.device, w.processes[0], 5000); }},
    {"join", [](const World& w) { st_join(w.device, static_cast<uint32_t>(getppid()), 10'000, 1, 40); }},
    {"fail at once", [](const World& w) { st_submit(w.device, w.queues[5], &kFails, 40); }},
    {"lose the device", [](const World& w) { st_lose(w.device, 79, 40); }},
    {"log an XID", [](const World& w) { st_log_xid(w.device, 48, 0, 40); }},
    {"open a queue", [](const World& w) { st_open_queue(w.device, w.processes[0]); }},
};

void* shared_memory() {
  void* at = mmap(nullptr, st_size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) abort();
  return at;
}

// Three processes with two queues each, most of them busy, some of them waiting.
World build(void* memory) {
  madvise(memory, st_size(), MADV_REMOVE);
  st_config config{80, 0, 1 << 30, 0, 0};
  World w{st_create(memory, &config), {}, {}};
  for (int i = 0; i < 6; ++i) {
    if (i % 2 == 0)
      w.processes[i / 2] = st_join(w.device, static_cast<uint32_t>(getpid()), 24'000 + 500 * i, 1, 0);
    w.queues[i] = st_open_queue(w.device, w.processes[i / 2]);
  }
  for (uint32_t i = 0; i < 5; ++i) {
    for (uint32_t k = 0; k < 4; ++k) {
      uint32_t kind = k == 2 ? ST_MARK : k == 3 && i == 1 ? ST_COPY : ST_KERNEL;
      st_work work{kind, 10 + 7 * i + 20 * k, 2, 300, 500 + 37 * i + 100 * k};
      st_submit(w.device, w.queues[i], &work, 10 + i);
    }
  }
  st_charge(w.device, w.processes[0], 1000);
  st_follow(w.device, w.queues[1], w.queues[0], 4, 20);
  st_submit(w.device, w.queues[1], &kKernel, 20);
  st_submit(w.device, w.queues[4], &kHost, 30);
  st_submit(w.device, w.queues[4], &kKernel, 30);
  st_follow(w.device, w.queues[2], w.queues[4], 5, 31);
  st_submit(w.device, w.queues[2], &kKernel, 31);
  return w;
}

// All that can be seen of a device: now, and after everything has ended that can, with one more piece for
// each queue.
std::string outcome(const World& w) {
  std::string seen;
  auto add = [&seen](uint64_t value) { seen += std::to_string(value) + ' '; };
  add(st_mem_free(w.device));
  st_finish_host(w.device, w.queues[4], 5, kLate / 2);
  for (int queue : w.queues) {
    uint64_t finished = st_finished(w.device, queue, kLate);
    for (uint64_t i = 1; i <= finished && i < 20; ++i) add(st_ended_ns(w.device, queue, i, kLate));
    add(st_submit(w.device, queue, &kKernel, kLate));
  }
  for (int queue : w.queues) add(st_finished(w.device, queue, 2 * kLate));
  st_usage usages[standin::kProcesses];
  int count = st_processes(w.device, usages, standin::kProcesses, 3 * kLate);
  for (int i = 0; i < count; ++i) {
    for (uint64_t value : {usages[i].busy_ns, usages[i].sm_ns, usages[i].kernels, usages[i].mem_bytes})
      add(value);
    add(usages[i].sms);
  }
  for (int process : w.processes) add(st_fault_of(w.device, process, 3 * kLate));
  st_xid xids[4];
  uint64_t from = 0;
  for (int i = st_xids(w.device, xids, 4, &from); i-- > 0;) add(xids[i].xid);
  return seen;
}

// A child that stops right before the call, and stops once more when it has made it.
pid_t start(const Call& call, const World& w) {
  pid_t child = fork();
  if (child == 0) {
    ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    raise(SIGSTOP);
    call.make(w);
    raise(SIGSTOP);
    _exit(0);
  }
  int status;
  waitpid(child, &status, 0);
  return child;
}

bool step(pid_t child) {
  int status = 0;
  if (ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr) != 0) {
    perror("ptrace");
    exit(2);
  }
  waitpid(child, &status, 0);
  return WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP;
}

// The device as it would be had the child been killed now. What was never written is left out.
void copy_as_killed(const st_device* device, pid_t child, st_device* copy) {
  memcpy(copy, device, offsetof(st_device, undo) + 2000 * sizeof(standin::Undo));
  for (int i = 0; i < 8; ++i) {
    const standin::Body& body = device->bodies[i];
    memcpy(copy->bodies[i].pieces, body.pieces, 40 * sizeof(st_work));
    memcpy(copy->bodies[i].ends, body.ends, 40 * sizeof(uint64_t));
    memcpy(copy->bodies[i].waits, body.waits, 20 * sizeof(standin::Wait));
  }
  auto* lock = &copy->mutex.__data;
  if ((lock->__lock & kOwner) == child) lock->__lock = kOwnerDied;
  lock->__list = {};
}

// How many points were tried; exits at one that leaves something in between.
int try_points(const Call& call, void* memory, st_device* copy, int every) {
  World w = build(memory);
  std::string before = outcome(w);
  w = build(memory);
  call.make(w);
  std::string after = outcome(w);
  w = build(memory);
  pid_t child = start(call, w);
  int points = 0;
  for (int i = 0; step(child); ++i) {
    if (i % every != 0) continue;
    copy_as_killed(w.device, child, copy);
    World killed = w;
    killed.device = copy;
    std::string seen = outcome(killed);
    ++points;
    if (seen == before || seen == after) continue;
    printf("%s, after %d instructions:\n%s\nnot called: %s\ncalled: %s\n", call.name, i, seen.c_str(),
           before.c_str(), after.c_str());
    exit(1);
  }
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  return points;
}

}  // namespace

int main(int, char** arguments) {
  void* memory = shared_memory();
  st_device* copy = build(shared_memory()).device;
  int every = atoi(arguments[1]);
  for (const Call& call : kCalls) {
    alarm(60);  // who waits for a lock for ever has found an error
    printf("%s: %d\n", call.name, try_points(call, memory, copy, every));
  }
}

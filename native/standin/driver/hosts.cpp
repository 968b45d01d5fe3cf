// The thread that runs functions on the host.
#include "hosts.h"

#include <algorithm>
#include <list>
#include <thread>

namespace standin::driver {
namespace {

// How often memory is looked at that a stream waits for.
constexpr uint64_t kLookNs = 100'000;

struct Waiting {
  std::list<std::shared_ptr<HostTask>> tasks;  // in the order of their submission
  bool started = false;
};

Waiting& waiting() {
  static auto* one = new Waiting;
  return *one;
}

bool may_run(HostTask& task) {
  forget_done(task.before);
  return !task.running && task.before.empty() && reached(task.ready) && (!task.until || task.until());
}

std::shared_ptr<HostTask> next() {
  for (const auto& task : waiting().tasks)
    if (may_run(*task)) return task;
  return nullptr;
}

uint64_t due_ns(const HostTask& task) {
  if (!task.before.empty()) return UINT64_MAX;
  if (reached(task.ready)) return task.until ? now_ns() + kLookNs : now_ns();
  return st_due_ns(device(), task.ready.queue->id, task.ready.position, now_ns());
}

uint64_t next_due_ns() {
  uint64_t due = UINT64_MAX;
  for (const auto& task : waiting().tasks) due = std::min(due, due_ns(*task));
  return due;
}

void complete(const std::shared_ptr<HostTask>& task) {
  // The task counts as done before: what these effects put behind it would never run.
  task->done = true;
  for (size_t i = 0; i < task->then.size(); ++i) task->then[i]();
  std::erase(waiting().tasks, task);
  if (mode != Mode::kEnded) st_finish_host(device(), task->place.queue->id, task->place.position, now_ns());
  tell_change();
}

void run(const std::shared_ptr<HostTask>& task) {
  task->running = true;
  if (task->run) {
    Unlocked unlocked;
    task->run();
  }
  complete(task);
}

void work() {
  lock().lock();
  while (mode != Mode::kEnded) {
    if (std::shared_ptr<HostTask> task = next())
      run(task);
    else
      sleep_until(next_due_ns());
  }
  lock().unlock();
}

}  // namespace

void enqueue(const std::shared_ptr<HostTask>& task) {
  waiting().tasks.push_back(task);
  if (!waiting().started) std::thread(work).detach();
  waiting().started = true;
  tell_change();
}

void forget_done(Hosts& hosts) {
  std::erase_if(hosts, [](const auto& task) { return task->done; });
}

void merge(Hosts& into, const Hosts& from) {
  for (const auto& task : from)
    if (!task->done && std::find(into.begin(), into.end(), task) == into.end()) into.push_back(task);
}

void after(Hosts& hosts, Effect effect) {
  forget_done(hosts);
  if (hosts.empty()) return effect();
  // Behind one of them; if others are still to run then, it moves behind those.
  hosts.back()->then.push_back([rest = hosts, effect]() mutable { after(rest, effect); });
}

}  // namespace standin::driver

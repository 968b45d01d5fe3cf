// Functions on the host in the order of a stream, and what must happen after them.
//
// Copies and bodies do their work when they are submitted. Those that come after a function on the host
// cannot: they are put behind it and run when it has returned, before the timeline hears that it has.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "queues.h"

namespace standin::driver {

struct HostTask;
using Hosts = std::vector<std::shared_ptr<HostTask>>;
using Effect = std::function<void()>;

struct HostTask {
  Point ready;                // reached: it may run
  Point place;                // where it stands
  std::function<void()> run;  // without the lock
  std::function<bool()>
      until;                 // asked again and again with the lock held until it says yes; instead of `run`
  Hosts before;              // must have run
  std::vector<Effect> then;  // with the lock held
  bool running = false, done = false;
};

// Lets a task be run by the thread that runs them.
void enqueue(const std::shared_ptr<HostTask>& task);
// Does it now, or when all of `hosts` have run; forgets those that have.
void after(Hosts& hosts, Effect effect);
void forget_done(Hosts& hosts);
void merge(Hosts& into, const Hosts& from);

}  // namespace standin::driver

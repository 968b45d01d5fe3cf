// Queues of the timeline, and points in them to wait for.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "state.h"

namespace standin::driver {

struct Queue;

// A place in a queue: reached when all that was submitted up to it has finished.
struct Point {
  Queue* queue = nullptr;  // none: reached ever since
  uint64_t position = 0;
};

// An event's place, until its time has been read.
struct Mark {
  Point point;
  uint64_t ended_ns = 0;  // 0: not read yet
};

struct Queue {
  int id = -1;
  bool gone = false;  // with the process that it was of: all in it counts as done
  uint32_t users = 0;
  uint64_t last = 0;                       // position of what was submitted last
  std::deque<std::weak_ptr<Mark>> unread;  // the timeline forgets times; these are still wanted
};

constexpr st_work kMark = {ST_MARK, 0, 0, 0, 0};

// What the device lets a number of contexts use: all of it that the process may have, or some of its SMs.
struct Member {
  int process = -1;
  std::vector<std::unique_ptr<Queue>> queues;
};

// Joins the device with a share of its SMs in milli-percent, in the process's group (see mps.h). Null: it
// takes no more processes.
Member* join(uint32_t sm_millipercent);
void leave(Member* member);
// The process leaves the device, and all that it has submitted counts as done.
void abandon();
// Those of the process that have joined.
const std::vector<Member*>& members();

// A queue that as few as possible use. Null: the device has none left.
Queue* take_queue(Member* member);
void give_queue(Queue* queue);

// Puts a piece into a queue; waits, as the driver does, while the queue is full.
Point submit(Queue* queue, const st_work& work);
void follow(Queue* queue, Point point);

bool reached(Point point);
void wait_for(Point point);

// When the mark was reached; 0: not yet.
uint64_t ended_ns(Mark& mark);
std::shared_ptr<Mark> mark_at(Point point);

}  // namespace standin::driver

// Queues: what was launched on each stream, and how much of it has finished, as events tell.
#pragma once

#include <cstdint>

#include "costs.h"
#include "hook.h"

namespace fasthook {

constexpr int kQueues = 1024;
constexpr int kMarks = 32;
constexpr int kContexts = 16;

// An event behind work on a stream: when it has happened, the queue has finished up to `launched_ns`.
struct Mark {
  CUevent event = nullptr;
  uint64_t launched_ns = 0;
  CUevent before = nullptr;  // if a launch is being measured: the event in front of it,
  Cost* cost = nullptr;      // and whose time it is
  uint64_t soonest_ns =
      0;  // it may come so soon after the one before; 0: no sooner than by what was launched
};

enum class QueueKind : uint8_t { kStream, kDefault, kPerThread };

// One stream; the default stream of a context; or the per-thread stream of one lane in one context. Under the
// pacer's lock.
struct Queue {
  CUstream stream = nullptr;  // as the driver knows it in the context
  CUcontext context = nullptr;
  QueueKind kind = QueueKind::kStream;
  bool in_use = false, captures = false;
  bool gone = false;            // the stream was destroyed; what it had to do may still run
  const void* owner = nullptr;  // kPerThread: the lane
  uint64_t launched_ns = 0, finished_ns = 0;
  uint64_t marked_ns = 0;  // launched_ns at the latest mark
  uint64_t marked_at_ns = 0;
  uint64_t progress_at_ns = 0;  // when finished_ns moved last, or work came after idleness
  uint64_t unready_at_ns = 0;   // when it was looked at last and had not moved
  Mark marks[kMarks];
  uint32_t first = 0, count = 0;  // of the ring of marks

  bool idle() const { return finished_ns == launched_ns; }
};

extern Queue queues[kQueues];
extern int queue_count;
extern int capturing;  // streams that were put into capture mode and have not left it

// The queue behind a stream handle for a thread whose context is current; null if there are too many streams.
Queue* queue_of(CUstream stream, const void* lane);
// The queue of a stream if it has one.
Queue* find_queue(CUstream stream);
// Whether what is launched there now goes into a graph.
bool is_captured(CUstream stream);

void book_launch(Queue* queue, uint64_t ns, uint64_t now);
// Puts a mark behind all that was launched there; `before` and `cost` if a launch is measured. The event is
// recorded already. False if there is no room: the event is given back.
bool push_mark(Queue* queue, const Mark& mark, uint64_t now);
// Asks the driver how far a queue has come. Returns whether it moved.
bool look_at(Queue* queue, uint64_t now);
// Has the pacer put a mark behind everything there; false if that is not possible now (a capture).
bool mark_all(Queue* queue, uint64_t now);
// The same from a thread of the program, for a stream that is about to go.
void mark_from_here(Queue* queue, uint64_t now);

CUevent take_event(CUcontext context);  // null if the driver gives none; the context is current
void give_event(CUcontext context, CUevent event);

void enter_context(CUcontext context);  // for the pacer's thread
void forget_context(CUcontext context);
void forget_queues();

}  // namespace fasthook

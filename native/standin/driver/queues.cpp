// Queues of the timeline: few, so streams share them, as they share the hardware queues of a GPU.
#include "queues.h"

#include <unistd.h>

#include <algorithm>

#include "mps.h"

namespace standin::driver {
namespace {

// As many as a GPU has connections at most (CUDA_DEVICE_MAX_CONNECTIONS).
constexpr size_t kQueues = 32;
// Times of so many positions back are read before the timeline forgets them.
constexpr uint64_t kRemembered = 2048;
constexpr uint64_t kPatienceNs = 4'000'000;

std::vector<Member*>& all() {
  static auto* members = new std::vector<Member*>;
  return *members;
}

Queue* open_queue(Member* member) {
  if (member->queues.size() >= kQueues) return nullptr;
  int id = st_open_queue(device(), member->process);
  if (id < 0) return nullptr;
  member->queues.push_back(std::make_unique<Queue>());
  member->queues.back()->id = id;
  return member->queues.back().get();
}

bool idle(const Queue& queue) {
  return queue.users == 0 && reached({const_cast<Queue*>(&queue), queue.last});
}

Queue* least_used(Member* member) {
  auto fewer = [](const auto& a, const auto& b) { return a->users < b->users; };
  auto found = std::min_element(member->queues.begin(), member->queues.end(), fewer);
  return found == member->queues.end() ? nullptr : found->get();
}

// Reads the times that would be forgotten soon.
void read_marks(Queue* queue) {
  while (!queue->unread.empty()) {
    std::shared_ptr<Mark> mark = queue->unread.front().lock();
    if (mark && mark->ended_ns == 0) {
      if (mark->point.position + kRemembered > queue->last) return;
      ended_ns(*mark);
    }
    queue->unread.pop_front();
  }
}

bool usable(const Queue* queue) { return mode != Mode::kEnded && !queue->gone; }

// Until the position is reached, or a while. One that waits long may wait for a process that is dead, or for
// work that MPS has ended.
void await(Queue* queue, uint64_t position) {
  uint64_t start = now_ns();
  sleep_until(st_due_ns(device(), queue->id, position, start));
  if (now_ns() - start < kPatienceNs || !usable(queue)) return;
  st_reap(device(), now_ns());
  if (end_of_mps(now_ns()) != CUDA_SUCCESS) abandon();
}

// Until the first of what is in the queue has ended.
void await_room(Queue* queue) { await(queue, st_finished(device(), queue->id, now_ns()) + 1); }

// The device is told, so that it need not find out. Who ends the process inside a call keeps the lock: then
// it must.
__attribute__((destructor)) void leave_at_exit() {
  if (!running()) return;
  std::unique_lock<std::mutex> held(lock(), std::defer_lock);
  for (int i = 0; i < 100 && !held.try_lock(); ++i) usleep(1000);
  if (!held.owns_lock() || !running()) return;
  for (Member* member : all()) st_leave(device(), member->process, now_ns());
  mode = Mode::kEnded;
}

}  // namespace

const std::vector<Member*>& members() { return all(); }

Member* join(uint32_t sm_millipercent) {
  st_reap(device(), now_ns());
  int process = st_join(device(), static_cast<uint32_t>(getpid()), sm_millipercent, mps().group, now_ns());
  if (process < 0) return nullptr;
  auto* member = new Member;
  member->process = process;
  all().push_back(member);
  return member;
}

void leave(Member* member) {
  // Memory is counted with the first one (see ranges.cpp): it stays.
  if (member == all().front()) return;
  st_leave(device(), member->process, now_ns());
  std::erase(all(), member);
  // Not freed: events may still say that they were recorded there.
  for (const auto& queue : member->queues) queue->gone = true;
}

void abandon() {
  for (Member* member : all()) {
    st_leave(device(), member->process, now_ns());
    for (const auto& queue : member->queues) queue->gone = true;
  }
}

Queue* take_queue(Member* member) {
  auto free =
      std::find_if(member->queues.begin(), member->queues.end(), [](const auto& q) { return idle(*q); });
  Queue* queue = free != member->queues.end() ? free->get() : open_queue(member);
  if (queue == nullptr) queue = least_used(member);
  if (queue != nullptr) ++queue->users;
  return queue;
}

void give_queue(Queue* queue) { --queue->users; }

Point submit(Queue* queue, const st_work& work) {
  read_marks(queue);
  uint64_t position = 0;
  while (usable(queue) && (position = st_submit(device(), queue->id, &work, now_ns())) == 0)
    await_room(queue);
  if (!usable(queue) || position == UINT64_MAX) return {queue, 0};  // the process is broken
  queue->last = position;
  return {queue, position};
}

void follow(Queue* queue, Point point) {
  if (point.queue == nullptr || point.queue == queue || reached(point)) return;
  while (usable(queue) && st_follow(device(), queue->id, point.queue->id, point.position, now_ns()) != 0)
    await_room(queue);
}

bool reached(Point point) {
  return point.queue == nullptr || !usable(point.queue) ||
         st_finished(device(), point.queue->id, now_ns()) >= point.position;
}

void wait_for(Point point) {
  while (!reached(point)) await(point.queue, point.position);
}

uint64_t ended_ns(Mark& mark) {
  if (mark.ended_ns == 0 && mark.point.queue != nullptr && usable(mark.point.queue))
    mark.ended_ns = st_ended_ns(device(), mark.point.queue->id, mark.point.position, now_ns());
  return mark.ended_ns;
}

std::shared_ptr<Mark> mark_at(Point point) {
  auto mark = std::make_shared<Mark>(Mark{point});
  point.queue->unread.push_back(mark);
  return mark;
}

}  // namespace standin::driver

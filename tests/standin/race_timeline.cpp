// Threads that use one device of the stand-in at once, as processes do that share it; for ThreadSanitizer.
// Each has a queue that follows its neighbour's, and sees its pieces end in order; and looks ahead to a fault
// that has yet to come, which must not show before.
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <atomic>
#include <thread>
#include <vector>

#include "timeline.h"

namespace {

constexpr int kThreads = 4;
constexpr uint64_t kPieces = 4000;
constexpr uint64_t kFaultNs = 1'000'000'000'000;

std::atomic<uint64_t> now{1};

void expect(bool holds, const char* what) {
  if (holds) return;
  printf("not so: %s\n", what);
  exit(1);
}

// Processes of another group, of which the second is waiting for the first, which fails.
struct Pair {
  int culprit, friendly, queue;
};

Pair make_pair(st_device* device) {
  Pair pair{st_join(device, 11, 0, 2, now), st_join(device, 12, 0, 2, now), 0};
  int first = st_open_queue(device, pair.culprit);
  pair.queue = st_open_queue(device, pair.friendly);
  st_work boom{ST_KERNEL, 1, 1, 0, kFaultNs, 700}, after{ST_KERNEL, 1, 1, 0, kFaultNs};
  st_submit(device, first, &boom, now);
  st_follow(device, pair.queue, first, 1, now);
  st_submit(device, pair.queue, &after, now);
  return pair;
}

void work(st_device* device, const std::vector<int>* queues, int self, int process, Pair pair) {
  int queue = (*queues)[self], neighbour = (*queues)[(self + 1) % kThreads];
  uint64_t last = 0;
  for (uint64_t i = 1; i <= kPieces; ++i) {
    st_work piece{i % 5 ? ST_KERNEL : ST_MARK, 20, 2, 300, 100 + i % 7};
    st_follow(device, queue, neighbour, i / 2, now);
    expect(st_submit(device, queue, &piece, now) == i, "pieces are numbered without gaps");
    while (st_finished(device, queue, now) < i) now += 50;
    uint64_t end = st_ended_ns(device, queue, i, now);
    expect(end >= last && end <= now, "pieces end in order");
    last = end;
    st_due_ns(device, neighbour, i, now);
    st_due_ns(device, pair.queue, 1, now);
    expect(st_fault_of(device, pair.friendly, now) == 0, "looking ahead breaks nobody");
    expect(st_charge(device, process, 100) == 0 && st_charge(device, process, -100) == 0, "there is memory");
    int passing = st_open_queue(device, process);
    st_close_queue(device, passing, now);
    st_usage usage;
    expect(st_usage_of(device, process, &usage, now) == 0 && usage.kernels == i - i / 5,
           "kernels are counted");
  }
}

}  // namespace

int main() {
  void* memory = mmap(nullptr, st_size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  st_config config{80, 0, 1 << 20, 0, 0};
  st_device* device = st_create(memory, &config);
  std::vector<int> queues, processes;
  for (int i = 0; i < kThreads; ++i) {
    processes.push_back(st_join(device, static_cast<uint32_t>(i) + 1, 24'000, 1, now));
    queues.push_back(st_open_queue(device, processes[i]));
  }
  Pair pair = make_pair(device);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) threads.emplace_back(work, device, &queues, i, processes[i], pair);
  for (std::thread& thread : threads) thread.join();
  expect(st_fault_of(device, pair.culprit, 9 * kFaultNs) == 700, "who fails is broken");
  expect(st_fault_of(device, pair.friendly, 9 * kFaultNs) == ST_SPREAD, "so is its group");
  printf("%llu pieces\n", static_cast<unsigned long long>(kPieces * kThreads));
}

#include "load.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <thread>

namespace probe {
namespace {

constexpr uint64_t kAheadNs = 8'000'000;  // work started ahead, so that a late wake-up leaves no gap
constexpr uint64_t kJoinNs = 20'000;

// What one thread has started and not seen finished.
class Lane {
 public:
  Lane(const Device& device, const Load& load, size_t context)
      : load_(load), kernels_(device.spins[context]), launcher_(kernels_[0], load.graph_kernels) {
    device.enter(context);
    clock_ = std::make_unique<DeviceClock>();
    for (int i = 0; i < load.streams && owns_streams(); ++i) streams_.push_back(new_stream(i));
  }

  void run(uint64_t until_ns) {
    while (now_ns() < until_ns) {
      start(load_.bursts_ns[count_ % load_.bursts_ns.size()]);
      while (ahead_ns_ > kAheadNs || pending_.size() > kMostPending) finish_oldest();
    }
    while (!pending_.empty()) finish_oldest();
  }

  uint64_t count() const { return count_; }
  const std::vector<Busy>& busy() const { return busy_; }

 private:
  struct Pending {
    CUevent done;
    uint64_t ns;
  };
  static constexpr size_t kMostPending = 64;

  bool owns_streams() const { return load_.kind != Streams::kPerThread && load_.kind != Streams::kDefault; }

  CUstream new_stream(int number) {
    CUstream stream;
    if (load_.kind == Streams::kPriority) {
      CHECK_CU(cuStreamCreateWithPriority, &stream, CU_STREAM_NON_BLOCKING, number % 2 ? -1 : 0);
    } else {
      bool blocks = load_.kind == Streams::kPlain;
      CHECK_CU(cuStreamCreate, &stream, blocks ? CU_STREAM_DEFAULT : CU_STREAM_NON_BLOCKING);
    }
    return stream;
  }

  CUstream next_stream() {
    if (load_.kind == Streams::kDestroyed) return new_stream(0);
    if (owns_streams() && load_.launch->takes_stream) return streams_[count_ % streams_.size()];
    return load_.kind == Streams::kPerThread ? CU_STREAM_PER_THREAD : nullptr;
  }

  void start(uint64_t ns) {
    CUstream stream = next_stream();
    launcher_.spin = kernels_[count_ % load_.kernels];
    check(load_.launch->start(launcher_, stream, ns), load_.launch->name);
    CUevent done = free_event();
    CHECK_CU(cuEventRecord, done, load_.launch->takes_stream ? stream : nullptr);
    if (load_.kind == Streams::kDestroyed) CHECK_CU(cuStreamDestroy_v2, stream);
    pending_.push_back({done, ns});
    ahead_ns_ += ns;
    ++count_;
  }

  CUevent free_event() {
    CUevent event;
    if (events_.empty()) {
      CHECK_CU(cuEventCreate, &event, CU_EVENT_BLOCKING_SYNC);
    } else {
      event = events_.back();
      events_.pop_back();
    }
    return event;
  }

  void finish_oldest() {
    Pending oldest = pending_.front();
    pending_.pop_front();
    CHECK_CU(cuEventSynchronize, oldest.done);
    uint64_t end = clock_->time_of(oldest.done);
    busy_.push_back({end - oldest.ns, end, oldest.ns});
    ahead_ns_ -= oldest.ns;
    events_.push_back(oldest.done);
  }

  const Load& load_;
  const std::array<CUfunction, kKernels>& kernels_;
  Launcher launcher_;
  std::unique_ptr<DeviceClock> clock_;
  std::vector<CUstream> streams_;
  std::vector<CUevent> events_;
  std::deque<Pending> pending_;
  std::vector<Busy> busy_;
  uint64_t ahead_ns_ = 0, count_ = 0;
};

constexpr uint64_t kLookNs = 4'000'000;
constexpr uint64_t kLateNs = 1'000'000;  // a thread that sleeps wakes sooner on a machine that is idle enough

// Sleeps and sees how late it wakes, as the program's threads do.
void watch_machine(uint64_t until_ns, std::vector<Busy>* stalls) {
  for (uint64_t due = now_ns() + kLookNs; due < until_ns; due += kLookNs) {
    sleep_until(due);
    uint64_t woke = now_ns();
    if (woke <= due + kLateNs) continue;
    stalls->push_back({due, woke, woke - due});
    due = woke;
  }
}

void run_lane(const Device& device, const Load& load, size_t number, Outcome* outcome, std::mutex* mutex) {
  try {
    Lane lane(device, load, number % device.contexts.size());
    lane.run(outcome->until_ns);
    std::lock_guard lock(*mutex);
    outcome->launches += lane.count();
    outcome->busy.insert(outcome->busy.end(), lane.busy().begin(), lane.busy().end());
  } catch (const Failure& failure) {
    std::lock_guard lock(*mutex);
    if (outcome->error == CUDA_SUCCESS) {
      outcome->error = failure.error;
      outcome->error_call = failure.call;
    }
  }
}

}  // namespace

std::vector<Busy> join(std::vector<Busy> spans) {
  std::sort(spans.begin(), spans.end(), [](const Busy& a, const Busy& b) { return a.start_ns < b.start_ns; });
  std::vector<Busy> joined;
  for (const Busy& span : spans) {
    if (joined.empty() || span.start_ns > joined.back().end_ns + kJoinNs) {
      joined.push_back(span);
      continue;
    }
    Busy& last = joined.back();
    uint64_t from = std::max(span.start_ns, last.end_ns);
    if (span.end_ns <= from) continue;
    last.work_ns += span.end_ns - from;
    last.end_ns = span.end_ns;
  }
  return joined;
}

// The attempt that took the shortest says best when the event happened.
DeviceClock::DeviceClock() {
  CHECK_CU(cuEventCreate, &base_, CU_EVENT_DEFAULT);
  uint64_t best = ~0ULL;
  for (int i = 0; i < 20; ++i) {
    CUevent event;
    CHECK_CU(cuEventCreate, &event, CU_EVENT_DEFAULT);
    uint64_t before = now_ns();
    CHECK_CU(cuEventRecord, event, CU_STREAM_PER_THREAD);
    CUresult result;
    while ((result = cu.cuEventQuery(event)) == CUDA_ERROR_NOT_READY) {
    }
    check(result, "cuEventQuery");
    uint64_t after = now_ns();
    if (after - before < best) {
      best = after - before;
      base_ns_ = before + best / 2;
      std::swap(base_, event);
    }
    CHECK_CU(cuEventDestroy_v2, event);
  }
}

uint64_t DeviceClock::time_of(CUevent event) const {
  float ms = 0;
  CHECK_CU(cuEventElapsedTime, &ms, base_, event);
  return base_ns_ + static_cast<uint64_t>(static_cast<double>(ms) * 1e6);
}

Outcome saturate(const Device& device, const Load& load, double seconds) {
  Outcome outcome;
  std::mutex mutex;
  outcome.from_ns = now_ns();
  outcome.until_ns = outcome.from_ns + static_cast<uint64_t>(seconds * 1e9);
  std::thread watcher(watch_machine, outcome.until_ns, &outcome.stalls);
  if (load.threads == 1 && device.contexts.size() == 1) {
    run_lane(device, load, 0, &outcome, &mutex);
  } else {
    std::vector<std::thread> threads;
    for (int i = 0; i < load.threads; ++i) {
      threads.emplace_back(run_lane, std::cref(device), std::cref(load), i, &outcome, &mutex);
    }
    for (std::thread& thread : threads) thread.join();
  }
  watcher.join();
  outcome.busy = join(std::move(outcome.busy));
  return outcome;
}

}  // namespace probe

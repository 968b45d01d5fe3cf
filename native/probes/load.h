// Keeping a device busy through a launch call, and seeing how busy it was.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "device.h"
#include "launches.h"

namespace probe {

// When the device was busy with our work: start, end and time of work in between, CLOCK_MONOTONIC
// nanoseconds.
struct Busy {
  uint64_t start_ns, end_ns, work_ns;
};

// Spans that overlap are joined, and so are those with next to nothing between them.
std::vector<Busy> join(std::vector<Busy> spans);

// The device's clock in terms of ours. For the context that is current.
class DeviceClock {
 public:
  DeviceClock();
  uint64_t time_of(CUevent event) const;  // that has happened

 private:
  CUevent base_;
  uint64_t base_ns_ = 0;
};

enum class Streams { kPlain, kNonBlocking, kPriority, kPerThread, kDefault, kDestroyed };

struct Load {
  const Launch* launch;
  std::vector<uint64_t> bursts_ns = {1'000'000};  // in turn
  Streams kind = Streams::kPlain;
  int streams = 1;
  int threads = 1;
  int graph_kernels = 2;
  size_t kernels = 1;  // in turn, so that each burst has one of its own
};

struct Outcome {
  uint64_t from_ns = 0, until_ns = 0;
  uint64_t launches = 0;
  std::string error_call;  // the first that failed
  CUresult error = CUDA_SUCCESS;
  std::vector<Busy> busy;
  std::vector<Busy> stalls;  // when a thread that was to wake did not: the machine was busy with other things
};

// Starts work for `seconds`, always some ahead of what is finished, each thread in one of the device's
// contexts.
Outcome saturate(const Device& device, const Load& load, double seconds);

}  // namespace probe

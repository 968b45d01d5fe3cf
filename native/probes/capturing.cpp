// Commands about captures.
#include <algorithm>
#include <atomic>
#include <thread>

#include "commands.h"
#include "load.h"

namespace probe {
namespace {

struct Captured {
  CUgraph graph = nullptr;
  CUresult error = CUDA_SUCCESS;
  size_t nodes = 0;
};

// A capture that forks to a second stream and joins it again: `launches` kernels on each.
class Recorder {
 public:
  explicit Recorder(CUfunction spin) : launcher_(spin) {
    CHECK_CU(cuStreamCreate, &first_, CU_STREAM_NON_BLOCKING);
    CHECK_CU(cuStreamCreate, &second_, CU_STREAM_NON_BLOCKING);
    CHECK_CU(cuEventCreate, &fork_, CU_EVENT_DISABLE_TIMING);
    CHECK_CU(cuEventCreate, &join_, CU_EVENT_DISABLE_TIMING);
  }

  Captured record(CUstreamCaptureMode mode, int launches, uint64_t ns) {
    Captured captured;
    try {
      CHECK_CU(cuStreamBeginCapture_v2, first_, mode);
      CHECK_CU(cuEventRecord, fork_, first_);
      CHECK_CU(cuStreamWaitEvent, second_, fork_, 0);
      for (int i = 0; i < launches; ++i) {
        check(launch_->start(launcher_, first_, ns), "cuLaunchKernel");
        check(launch_->start(launcher_, second_, ns), "cuLaunchKernel");
      }
      CHECK_CU(cuEventRecord, join_, second_);
      CHECK_CU(cuStreamWaitEvent, first_, join_, 0);
    } catch (const Failure& failure) {
      captured.error = failure.error;
    }
    CUresult ended = cu.cuStreamEndCapture(first_, &captured.graph);
    if (captured.error == CUDA_SUCCESS) captured.error = ended;
    if (captured.error == CUDA_SUCCESS)
      captured.error = cu.cuGraphGetNodes(captured.graph, nullptr, &captured.nodes);
    return captured;
  }

  CUstream stream() const { return first_; }

 private:
  const Launch* launch_ = launch_named("cuLaunchKernel");
  Launcher launcher_;
  CUstream first_, second_;
  CUevent fork_, join_;
};

CUstreamCaptureMode capture_mode(const std::string& name) {
  if (name == "global") return CU_STREAM_CAPTURE_MODE_GLOBAL;
  if (name == "thread-local") return CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
  return CU_STREAM_CAPTURE_MODE_RELAXED;
}

}  // namespace

int command_capture(const Options& options) {
  if (cu.cuStreamBeginCapture_v2 == nullptr || cu.cuThreadExchangeStreamCaptureMode == nullptr) {
    Line().add("status", "absent").print();
    return 0;
  }
  Device device;
  double seconds = options.real("seconds", 0.5);
  Outcome outcome;
  std::thread loader([&] {
    // What this thread asks of its events must not disturb the other's capture: that is the program's own
    // duty.
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    cu.cuThreadExchangeStreamCaptureMode(&mode);
    Load load{launch_named("cuLaunchKernel")};
    load.kind = Streams::kNonBlocking;
    outcome = saturate(device, load, seconds);
  });
  uint64_t until = now_ns() + static_cast<uint64_t>(seconds * 1e9);
  Recorder recorder(device.spin());
  uint64_t captures = 0, failures = 0;
  CUresult error = CUDA_SUCCESS;
  sleep_until(now_ns() + 50'000'000);  // until the other has used up what it may start
  for (; now_ns() < until; ++captures) {
    Captured captured = recorder.record(capture_mode(options.text("mode")), 3, 100'000);
    if (captured.error != CUDA_SUCCESS || captured.nodes != 6) {
      ++failures;
      if (error == CUDA_SUCCESS) error = captured.error;
    }
    if (captured.graph != nullptr) cu.cuGraphDestroy(captured.graph);
    sleep_until(now_ns() + 2'000'000);
  }
  loader.join();
  Line line;
  line.add("status", "ran").add("captures", captures).add("failures", failures);
  line.add("error", static_cast<int>(error)).add("load_error", static_cast<int>(outcome.error));
  line.add("launches", outcome.launches).print();
  return 0;
}

int command_record(const Options& options) {
  if (cu.cuStreamBeginCapture_v2 == nullptr) {
    Line().add("status", "absent").print();
    return 0;
  }
  Device device;
  Recorder recorder(device.spin());
  int launches = static_cast<int>(options.number("launches", 50));
  uint64_t began = now_ns();
  Captured captured = recorder.record(CU_STREAM_CAPTURE_MODE_GLOBAL, launches, 100'000);
  Line line;
  line.add("status", "captured").add("nodes", uint64_t{captured.nodes}).add("took_ns", now_ns() - began);
  line.add("error", static_cast<int>(captured.error)).print();
  if (captured.error != CUDA_SUCCESS || !wait_for_word()) return 1;
  CUgraphExec exec;
  CHECK_CU(cuGraphInstantiateWithFlags, &exec, captured.graph, 0);
  CHECK_CU(cuGraphLaunch, exec, recorder.stream());
  CHECK_CU(cuStreamSynchronize, recorder.stream());
  Line().add("status", "launched").print();
  wait_for_word();
  return 0;
}

}  // namespace probe

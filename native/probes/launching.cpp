// Commands about launches.
#include <algorithm>

#include "commands.h"
#include "load.h"

namespace probe {
namespace {

std::string spans(const std::vector<Busy>& busy) {
  std::string list;
  for (const Busy& span : busy) {
    list += (list.empty() ? "[" : ",[") + std::to_string(span.start_ns) + "," + std::to_string(span.end_ns) +
            "," + std::to_string(span.work_ns) + "]";
  }
  return "[" + list + "]";
}

void print(const Outcome& outcome, Line line) {
  line.add("from_ns", outcome.from_ns).add("until_ns", outcome.until_ns).add("launches", outcome.launches);
  line.add("error", static_cast<int>(outcome.error)).add("error_call", outcome.error_call);
  line.raw("busy", spans(outcome.busy)).raw("stalls", spans(outcome.stalls)).print();
}

Streams streams_named(const std::string& name) {
  if (name == "nonblocking") return Streams::kNonBlocking;
  if (name == "priority") return Streams::kPriority;
  if (name == "perthread") return Streams::kPerThread;
  if (name == "default") return Streams::kDefault;
  if (name == "destroyed") return Streams::kDestroyed;
  return Streams::kPlain;
}

// A launch through the per-thread form, with the default stream, goes to the thread's own.
Streams streams_for(const Launch& launch) {
  return std::string(launch.name).ends_with("_ptsz") ? Streams::kPerThread : Streams::kPlain;
}

}  // namespace

int command_launches(const Options& options) {
  Device device;
  for (const Launch& launch : all_launches()) {
    Line line;
    line.add("name", launch.name);
    if (!launch.available() || !within_version(launch.name)) {
      line.add("status", "absent").print();
      continue;
    }
    Load load{&launch, options.numbers("bursts", 1'000'000)};
    load.kind = streams_for(launch);
    print(saturate(device, load, options.real("seconds", 0.3)), line.add("status", "ran"));
  }
  return 0;
}

int command_load(const Options& options) {
  std::string name = options.text("launch", "cuLaunchKernel");
  Load load{launch_named(name), options.numbers("bursts", 1'000'000)};
  load.kind = streams_named(options.text("kind", "plain"));
  load.streams = static_cast<int>(options.number("streams", 1));
  load.threads = static_cast<int>(options.number("threads", 1));
  load.kernels = std::min<size_t>(options.number("kernels", 1), kKernels);
  load.graph_kernels = static_cast<int>(options.number("graph_kernels", 2));
  if (load.launch == nullptr || !load.launch->available()) {
    Line().add("status", "absent").print();
    return 0;
  }
  Device device(static_cast<int>(options.number("contexts", 1)));
  Line().add("status", "ready").add("at_ns", now_ns()).print();
  Outcome outcome = saturate(device, load, options.real("seconds", 0.3));
  print(outcome, Line().add("status", "ran"));
  return static_cast<int>(options.number("status", 0));
}

int command_try(const Options&) {
  Line line;
  CUdevice device = 0;
  CUcontext context = nullptr;
  CUdeviceptr memory = 0;
  line.add("cuInit", static_cast<int>(cu.cuInit(0)));
  line.add("cuDeviceGet", static_cast<int>(cu.cuDeviceGet(&device, 0)));
  line.add("cuCtxCreate", static_cast<int>(cu.cuCtxCreate_v2(&context, 0, device)));
  line.add("cuMemAlloc", static_cast<int>(cu.cuMemAlloc_v2(&memory, 1 << 20)));
  CUresult launched = CUDA_ERROR_NOT_PERMITTED;
  try {
    Device again;
    Launcher launcher(again.spin());
    launched = launch_named("cuLaunchKernel")->start(launcher, nullptr, 1000);
    if (launched == CUDA_SUCCESS) launched = cu.cuCtxSynchronize();
  } catch (const Failure& failure) {
    launched = failure.error;
  }
  line.add("cuLaunchKernel", static_cast<int>(launched)).print();
  return 0;
}

int command_exit(const Options& options) {
  Device device;
  Launcher launcher(device.spin());
  check(launch_named("cuLaunchKernel")->start(launcher, nullptr, 1'000'000), "cuLaunchKernel");
  if (options.number("synchronize", 1)) CHECK_CU(cuCtxSynchronize);
  return static_cast<int>(options.number("status", 0));
}

}  // namespace probe

// What calls of the driver cost: bench_hook calls|start [KEY=VALUE ...], with or without an interposer
// preloaded.
//
// calls: every call is timed by itself with the processor's counter, less what reading it costs; on one core
// (`core=`). start: what a process costs from its execve to its first launch; PRELOAD in `preload=` is put
// before it only then.
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>
#include <dlfcn.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>
#include <vector>

#include "report.h"

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace {

using probe::Line;
using probe::Options;

// --- time ------------------------------------------------------------------------------------------------

// Nothing before it is still at work, and nothing after it has begun.
inline uint64_t ticks() {
#if defined(__x86_64__)
  unsigned cpu;
  uint64_t now = __rdtscp(&cpu);
  _mm_lfence();
  return now;
#else
  uint64_t now;
  asm volatile("isb; mrs %0, cntvct_el0; isb" : "=r"(now));
  return now;
#endif
}

uint64_t clock_ns(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

double ns_per_tick() {
  uint64_t began_ns = clock_ns(CLOCK_MONOTONIC), began = ticks();
  while (clock_ns(CLOCK_MONOTONIC) - began_ns < 10'000'000) {
  }
  uint64_t ended_ns = clock_ns(CLOCK_MONOTONIC), ended = ticks();
  return static_cast<double>(ended_ns - began_ns) / static_cast<double>(ended - began);
}

// --- samples ---------------------------------------------------------------------------------------------

// Some processors count in steps of ten nanoseconds. So that a call's cost does not fall into the same step
// every time, it is timed together with a known delay, a different one in every pass: the steps even out.
constexpr int kPasses = 17, kDelayStep = 2;  // one cycle each: about ten nanoseconds in all

template <int cycles>
inline void delay() {
#if defined(__x86_64__)
  uint64_t chain = 1;
  asm volatile(".rept %c1\n lea 1(%0), %0\n .endr\n lfence" : "+r"(chain) : "i"(cycles));
#else
  asm volatile(".rept %c0\n nop\n .endr\n isb" : : "i"(cycles));
#endif
}

struct Samples {
  std::vector<uint64_t> ticks;
  double grain = 1;  // the counter's step

  // Samples of a step lie anywhere in it.
  double quantile(double q) {
    std::sort(ticks.begin(), ticks.end());
    double rank = q * static_cast<double>(ticks.size() - 1);
    uint64_t step = ticks[static_cast<size_t>(rank)];
    auto [first, last] = std::equal_range(ticks.begin(), ticks.end(), step);
    double within = (rank - static_cast<double>(first - ticks.begin())) / static_cast<double>(last - first);
    return static_cast<double>(step) + (within - 0.5) * grain;
  }
};

// What is timed: `call`, between `before` and `after`, which are not.
template <typename Before, typename Call, typename After>
struct Timed {
  Before before;
  Call call;
  After after;

  template <int cycles>
  void pass(size_t count, std::vector<uint64_t>* taken) {
    for (size_t i = 0; i < count; ++i) {
      before();
      uint64_t began = ticks();
      delay<cycles>();
      auto result = call();
      uint64_t took = ticks() - began;
      after(result);
      taken->push_back(took);
    }
  }

  template <int... passes>
  std::vector<uint64_t> run(size_t count, std::integer_sequence<int, passes...>) {
    std::vector<uint64_t> taken;
    taken.reserve(count + kPasses);
    pass<0>(count / 10, &taken);  // to warm up
    taken.clear();
    (pass<kDelayStep * passes>(count / kPasses, &taken), ...);
    return taken;
  }
};

class Stopwatch {
 public:
  explicit Stopwatch(size_t count) : count_(count), ns_(ns_per_tick()) {
    empty_ = sample([] {}, [] { return 0; }, [](int) {});
    uint64_t grain = 0;
    for (uint64_t ticks : empty_.ticks) grain = std::gcd(grain, ticks);
    empty_.grain = grain_ = static_cast<double>(grain);
  }

  template <typename Before, typename Call, typename After>
  void time(const char* name, Before before, Call call, After after) {
    Samples samples = sample(before, call, after);
    // The tail is only as exact as a step of the counter, but never below the median.
    double p50 = above_nothing(samples, 0.5), p99 = std::max(p50, above_nothing(samples, 0.99));
    char list[64];
    snprintf(list, sizeof list, "[%.2f,%.2f]", p50, p99);
    Line().add("call", name).raw("ns", list).print();
  }

 private:
  template <typename Before, typename Call, typename After>
  Samples sample(Before before, Call call, After after) {
    Timed<Before, Call, After> timed{before, call, after};
    return {timed.run(count_, std::make_integer_sequence<int, kPasses>{}), grain_};
  }

  double above_nothing(Samples& samples, double q) {
    return (samples.quantile(q) - empty_.quantile(q)) * ns_;
  }

  size_t count_;
  double ns_, grain_ = 1;
  Samples empty_;
};

// --- the driver ------------------------------------------------------------------------------------------

constexpr char kKernel[] =
    ".version 6.0\n.target sm_60\n.address_size 64\n.visible .entry nothing()\n{\n  ret;\n}\n";

void check(CUresult result, const char* what) {
  if (result == CUDA_SUCCESS) return;
  fprintf(stderr, "bench_hook: %s failed with error %d\n", what, static_cast<int>(result));
  _exit(3);
}

template <typename Function>
Function found(const char* name) {
  static void* driver = dlopen("libcuda.so.1", RTLD_NOW);
  auto function = driver ? reinterpret_cast<Function>(dlsym(driver, name)) : nullptr;
  if (function == nullptr) {
    fprintf(stderr, "bench_hook: the driver has no %s\n", name);
    _exit(3);
  }
  return function;
}

#define DRIVER(call) static const auto call##_ = found<decltype(&::call)>(#call)
#define CHECKED(call, ...) check(call##_(__VA_ARGS__), #call)

CUfunction load_kernel() {
  DRIVER(cuInit);
  DRIVER(cuCtxCreate_v2);
  DRIVER(cuModuleLoadData);
  DRIVER(cuModuleGetFunction);
  CUcontext context;
  CUmodule module;
  CUfunction function;
  CHECKED(cuInit, 0);
  CHECKED(cuCtxCreate_v2, &context, 0, 0);
  CHECKED(cuModuleLoadData, &module, kKernel);
  CHECKED(cuModuleGetFunction, &function, module, "nothing");
  return function;
}

CUgraphExec make_graph(CUfunction kernel) {
  DRIVER(cuGraphCreate);
  DRIVER(cuGraphAddKernelNode_v2);
  DRIVER(cuGraphInstantiateWithFlags);
  CUgraph graph;
  CUgraphNode node;
  CUgraphExec exec;
  CUDA_KERNEL_NODE_PARAMS parameters{};
  parameters.func = kernel;
  parameters.gridDimX = parameters.gridDimY = parameters.gridDimZ = 1;
  parameters.blockDimX = parameters.blockDimY = parameters.blockDimZ = 1;
  CHECKED(cuGraphCreate, &graph, 0);
  CHECKED(cuGraphAddKernelNode_v2, &node, graph, nullptr, 0, &parameters);
  CHECKED(cuGraphInstantiateWithFlags, &exec, graph, 0);
  return exec;
}

// --- calls -----------------------------------------------------------------------------------------------

void time_launches(Stopwatch& watch) {
  DRIVER(cuStreamCreate);
  DRIVER(cuLaunchKernel);
  DRIVER(cuLaunchKernelEx);
  DRIVER(cuGraphLaunch);
  CUfunction kernel = load_kernel();
  CUgraphExec graph = make_graph(kernel);
  CUstream stream;
  CHECKED(cuStreamCreate, &stream, CU_STREAM_NON_BLOCKING);
  CUlaunchConfig config{};
  config.gridDimX = config.gridDimY = config.gridDimZ = 1;
  config.blockDimX = config.blockDimY = config.blockDimZ = 1;
  config.hStream = stream;
  auto nothing = [] {};
  auto launched = [](CUresult result) { check(result, "a launch"); };
  watch.time(
      "cuLaunchKernel", nothing,
      [&] { return cuLaunchKernel_(kernel, 1, 1, 1, 1, 1, 1, 0, stream, nullptr, nullptr); }, launched);
  watch.time(
      "cuLaunchKernelEx", nothing, [&] { return cuLaunchKernelEx_(&config, kernel, nullptr, nullptr); },
      launched);
  watch.time("cuGraphLaunch", nothing, [&] { return cuGraphLaunch_(graph, stream); }, launched);
}

// One is taken and another, of any age, given back, so that as many are live all the time.
void time_allocations(Stopwatch& watch, const char* name, size_t live) {
  DRIVER(cuMemAlloc_v2);
  DRIVER(cuMemFree_v2);
  constexpr size_t kBytes = 4096;
  std::vector<CUdeviceptr> blocks(live);
  for (CUdeviceptr& block : blocks) CHECKED(cuMemAlloc_v2, &block, kBytes);
  uint64_t seed = 1;
  CUdeviceptr *chosen = nullptr, old = 0;
  watch.time(
      name,
      [&] {
        seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
        chosen = &blocks[(seed >> 33) % live];
        old = *chosen;
      },
      [&] {
        CUresult taken = cuMemAlloc_v2_(chosen, kBytes);
        CUresult freed = cuMemFree_v2_(old);
        return taken != CUDA_SUCCESS ? taken : freed;
      },
      [](CUresult result) { check(result, "cuMemAlloc or cuMemFree"); });
  for (CUdeviceptr block : blocks) CHECKED(cuMemFree_v2, block);
}

void stay_on(uint64_t core) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  CPU_SET(core, &cores);
  sched_setaffinity(0, sizeof cores, &cores);
}

int time_calls(const Options& options) {
  if (!options.text("core").empty()) stay_on(options.number("core", 0));
  Stopwatch watch(options.number("samples", 20'000));
  time_launches(watch);
  time_allocations(watch, "alloc_free_10", 10);
  time_allocations(watch, "alloc_free_10000", 10'000);
  return 0;
}

// --- start -----------------------------------------------------------------------------------------------

int start(const Options& options, char* self) {
  std::string preload = options.text("preload");
  if (!preload.empty()) setenv("LD_PRELOAD", preload.c_str(), 1);
  std::string cpu = "cpu=" + std::to_string(clock_ns(CLOCK_PROCESS_CPUTIME_ID));
  std::string wall = "wall=" + std::to_string(clock_ns(CLOCK_MONOTONIC));
  const char* words[] = {self, "started", wall.c_str(), cpu.c_str(), nullptr};
  execv("/proc/self/exe", const_cast<char**>(words));
  return 127;
}

int started(const Options& options) {
  DRIVER(cuLaunchKernel);
  DRIVER(cuCtxSynchronize);
  CUfunction kernel = load_kernel();
  CHECKED(cuLaunchKernel, kernel, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr);
  CHECKED(cuCtxSynchronize);
  uint64_t wall = clock_ns(CLOCK_MONOTONIC) - options.number("wall", 0);
  uint64_t cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - options.number("cpu", 0);
  Line().add("wall_ns", wall).add("cpu_ns", cpu).print();
  return 0;
}

}  // namespace

int main(int count, char** words) {
  std::string command = count > 1 ? words[1] : "";
  Options options(words + std::min(count, 2), words + count);
  if (command == "started") return started(options);
  if (!probe::wait_for_word()) return 2;
  if (command == "calls") return time_calls(options);
  if (command == "start") return start(options, words[0]);
  fprintf(stderr, "usage: %s calls|start [KEY=VALUE ...]\n", words[0]);
  return 2;
}

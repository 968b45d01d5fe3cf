// Which SMs a program's blocks run on, in parts of the device and in all of it; what green contexts cost; and
// how a fault shows: places COMMAND [KEY=VALUE ...]. For the questions of the check for GPUs.
//
//   seen again=0     on which SMs the blocks of a kernel ran; so many times more, after a word each
//   green sms=8      the same for every part that the device is split into; then waits for a word
//   cost sms=16 n=50 what making a green context and launching on another one takes
//   fault            a kernel that writes to address 0
//   ticks ms=2000    a kernel every few milliseconds, until it fails, the time is over or standard input has
//   a word
#include <dlfcn.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <set>

#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>

#include "report.h"

namespace {

using probe::Line;
using probe::Options;

constexpr uint32_t kUnwritten = 0xffffffff;
constexpr unsigned int kRounds = 4;  // blocks for every SM that it may have

constexpr char kImage[] = R"(.version 6.0
.target sm_60
.address_size 64

//.standin full_ns=20000 blocks_per_sm=1 bandwidth=0
.visible .entry places(.param .u64 out, .param .u64 ns)
{
  .reg .u32 %block, %blocks, %sm, %numbers;
  .reg .u64 %out, %at, %now, %until, %offset;
  .reg .pred %more;
  mov.u32 %block, %ctaid.x;
  mov.u32 %sm, %smid;
  mov.u32 %blocks, %nctaid.x;
  mov.u32 %numbers, %nsmid;
  ld.param.u64 %out, [out];
  cvta.to.global.u64 %out, %out;
  mul.wide.u32 %offset, %block, 4;
  add.u64 %at, %out, %offset;
  st.global.u32 [%at], %sm;
  mul.wide.u32 %offset, %blocks, 4;
  add.u64 %at, %out, %offset;
  st.global.u32 [%at], %numbers;
  ld.param.u64 %until, [ns];
  mov.u64 %now, %globaltimer;
  add.u64 %until, %until, %now;
again:
  mov.u64 %now, %globaltimer;
  setp.lt.u64 %more, %now, %until;
  @%more bra again;
  ret;
}

//.standin full_ns=10000 blocks_per_sm=1 bandwidth=0 fault=700
.visible .entry fails()
{
  .reg .u64 %at;
  mov.u64 %at, 0;
  st.global.u32 [%at], 1;
  ret;
}
)";

struct Failure {
  std::string call;
  int error;
};

void* driver() {
  static void* library = dlopen("libcuda.so.1", RTLD_NOW);
  if (library == nullptr) throw Failure{dlerror(), -1};
  return library;
}

template <typename Function>
Function* find(const char* name) {
  auto* function = reinterpret_cast<Function*>(dlsym(driver(), name));
  if (function == nullptr) throw Failure{std::string(name) + " is not there", -1};
  return function;
}

#define CU(function, ...) find<decltype(function)>(#function)(__VA_ARGS__)
#define MUST(function, ...)                                                    \
  do {                                                                         \
    if (CUresult result_ = CU(function, __VA_ARGS__); result_ != CUDA_SUCCESS) \
      throw Failure{#function, static_cast<int>(result_)};                     \
  } while (false)

uint64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

struct Device {
  CUcontext context = nullptr;
  CUlibrary library = nullptr;
  int sms = 0;

  Device() {
    MUST(cuInit, 0);
    MUST(cuDevicePrimaryCtxRetain, &context, 0);
    MUST(cuCtxSetCurrent, context);
    MUST(cuDeviceGetAttribute, &sms, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 0);
    MUST(cuLibraryLoadData, &library, kImage, nullptr, nullptr, 0, nullptr, nullptr, 0);
  }
  // A library's kernel runs in whatever context its stream is of, a part's too; a module's belongs to one
  // alone.
  CUfunction kernel(const char* name) const {
    CUkernel kernel;
    MUST(cuLibraryGetKernel, &kernel, library, name);
    return reinterpret_cast<CUfunction>(kernel);
  }
};

// What blocks say of where they ran; nothing where the device does not model it.
struct Places {
  std::vector<uint32_t> seen;
  int numbers = 0;  // so many numbers of SMs there may be
};

// The SMs on which blocks of a kernel ran that fills them, on a stream.
Places places_on(CUfunction kernel, CUstream stream, unsigned int sms) {
  unsigned int blocks = sms * kRounds, words = blocks + 1;
  CUdeviceptr out;
  uint64_t spin_ns = 50'000;
  MUST(cuMemAlloc_v2, &out, words * sizeof(uint32_t));
  MUST(cuMemsetD32_v2, out, kUnwritten, words);
  MUST(cuCtxSynchronize);
  void* parameters[] = {&out, &spin_ns};
  // Blocks of this size are two to an SM at most: there are enough of them for all SMs.
  MUST(cuLaunchKernel, kernel, blocks, 1, 1, 1024, 1, 1, 0, stream, parameters, nullptr);
  MUST(cuStreamSynchronize, stream);
  std::vector<uint32_t> written(words);
  MUST(cuMemcpyDtoH_v2, written.data(), out, words * sizeof(uint32_t));
  MUST(cuMemFree_v2, out);
  uint32_t numbers = written.back();
  std::set<uint32_t> found(written.begin(), written.end() - 1);
  found.erase(kUnwritten);
  return {{found.begin(), found.end()}, numbers == kUnwritten ? 0 : static_cast<int>(numbers)};
}

int command_seen(const Options& options) {
  Device device;
  uint64_t left = options.number("again", 0);
  do {
    int sms = 0;
    MUST(cuDeviceGetAttribute, &sms, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 0);
    Places places = places_on(device.kernel("places"), nullptr, static_cast<unsigned int>(device.sms));
    Line().add("sms", sms).add("seen", places.seen).add("numbers", places.numbers).print();
  } while (left-- > 0 && probe::wait_for_word());
  return 0;
}

// Parts of the device with so many SMs each, as many as there are.
std::vector<CUdevResource> split(unsigned int sms) {
  CUdevResource whole, rest;
  unsigned int count = 0;
  MUST(cuDeviceGetDevResource, 0, &whole, CU_DEV_RESOURCE_TYPE_SM);
  MUST(cuDevSmResourceSplitByCount, nullptr, &count, &whole, &rest, 0, sms);
  std::vector<CUdevResource> parts(count);
  MUST(cuDevSmResourceSplitByCount, parts.data(), &count, &whole, &rest, 0, sms);
  parts.resize(count);
  return parts;
}

struct Part {
  CUgreenCtx context = nullptr;
  CUstream stream = nullptr;

  explicit Part(CUdevResource resource) {
    CUdevResourceDesc description;
    MUST(cuDevResourceGenerateDesc, &description, &resource, 1);
    MUST(cuGreenCtxCreate, &context, description, 0, CU_GREEN_CTX_DEFAULT_STREAM);
    MUST(cuGreenCtxStreamCreate, &stream, context, CU_STREAM_NON_BLOCKING, 0);
  }
  void end() const {
    MUST(cuStreamDestroy_v2, stream);
    MUST(cuGreenCtxDestroy, context);
  }
};

int command_green(const Options& options) {
  Device device;
  CUfunction kernel = device.kernel("places");
  std::vector<CUdevResource> parts = split(static_cast<unsigned int>(options.number("sms", 8)));
  std::vector<Part> contexts(parts.begin(), parts.end());
  for (size_t i = 0; i < parts.size(); ++i) {
    Places places = places_on(kernel, contexts[i].stream, parts[i].sm.smCount);
    Line()
        .add("part", static_cast<int>(i))
        .add("sms", static_cast<int>(parts[i].sm.smCount))
        .add("seen", places.seen)
        .print();
  }
  Line().add("status", "held").print();
  probe::wait_for_word();
  return 0;
}

std::string percentiles(std::vector<uint64_t> ns) {
  std::sort(ns.begin(), ns.end());
  auto at = [&ns](double q) {
    return std::to_string(ns[static_cast<size_t>(q * (static_cast<double>(ns.size()) - 1))]);
  };
  return "[" + at(0.5) + "," + at(0.99) + "]";
}

// Launches on two streams in turn, each waited for: what goes from one to the other costs.
std::string turns(CUfunction kernel, CUdeviceptr out, CUstream one, CUstream other, uint64_t count) {
  std::vector<uint64_t> took;
  uint64_t spin_ns = 0;
  void* parameters[] = {&out, &spin_ns};
  for (uint64_t i = 0; i < 2 * count; ++i) {
    CUstream stream = i % 2 == 0 ? one : other;
    uint64_t began = now_ns();
    MUST(cuLaunchKernel, kernel, 1, 1, 1, 32, 1, 1, 0, stream, parameters, nullptr);
    MUST(cuStreamSynchronize, stream);
    if (i >= count) took.push_back(now_ns() - began);  // the first half warms up
  }
  return percentiles(took);
}

int command_cost(const Options& options) {
  Device device;
  CUfunction kernel = device.kernel("places");
  uint64_t count = options.number("n", 50), launches = options.number("launches", 500);
  std::vector<CUdevResource> parts = split(static_cast<unsigned int>(options.number("sms", 16)));
  if (parts.size() < 2) throw Failure{"the device has fewer than two parts", -1};
  std::vector<uint64_t> making, ending;
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t began = now_ns();
    Part part(parts[i % 2]);
    uint64_t made = now_ns();
    part.end();
    making.push_back(made - began);
    ending.push_back(now_ns() - made);
  }
  CUdeviceptr out;
  CUstream plain[2];
  MUST(cuMemAlloc_v2, &out, 64);
  for (CUstream& stream : plain) MUST(cuStreamCreate, &stream, CU_STREAM_NON_BLOCKING);
  Part first(parts[0]), second(parts[1]);
  Line()
      .raw("create_ns", percentiles(making))
      .raw("destroy_ns", percentiles(ending))
      .raw("same_ns", turns(kernel, out, first.stream, first.stream, launches))
      .raw("switch_ns", turns(kernel, out, first.stream, second.stream, launches))
      .raw("plain_streams_ns", turns(kernel, out, plain[0], plain[1], launches))
      .print();
  return 0;
}

int command_fault(const Options&) {
  Device device;
  uint64_t began = now_ns();
  CUresult launched =
      CU(cuLaunchKernel, device.kernel("fails"), 1, 1, 1, 32, 1, 1, 0, nullptr, nullptr, nullptr);
  CUresult ended = CU(cuCtxSynchronize);
  Line()
      .add("launch", static_cast<int>(launched))
      .add("error", static_cast<int>(ended))
      .add("at_ns", began)
      .add("seen_ns", now_ns())
      .print();
  return 0;
}

// Whether standard input has a word, or has ended.
bool is_told() {
  pollfd input = {STDIN_FILENO, POLLIN, 0};
  return poll(&input, 1, 0) > 0;
}

int command_ticks(const Options& options) {
  Device device;
  CUfunction kernel = device.kernel("places");
  CUdeviceptr out;
  uint64_t spin_ns = 20'000, ticks = 0, until = now_ns() + options.number("ms", 2000) * 1'000'000;
  MUST(cuMemAlloc_v2, &out, 64);
  void* parameters[] = {&out, &spin_ns};
  Line().add("status", "ticking").add("at_ns", now_ns()).print();
  CUresult result = CUDA_SUCCESS;
  uint64_t ended = 0, longest = 0;
  while (now_ns() < until && result == CUDA_SUCCESS && !is_told()) {
    uint64_t began = now_ns();
    result = CU(cuLaunchKernel, kernel, 1, 1, 1, 32, 1, 1, 0, nullptr, parameters, nullptr);
    if (result == CUDA_SUCCESS) result = CU(cuCtxSynchronize);
    ended = now_ns();
    if (ticks > 0) longest = std::max(longest, ended - began);  // the first one loads the kernel
    ticks += result == CUDA_SUCCESS ? 1 : 0;
    usleep(2000);
  }
  Line()
      .add("ticks", ticks)
      .add("longest_ns", longest)
      .add("error", static_cast<int>(result))
      .add("seen_ns", ended)
      .print();
  return 0;
}

struct Command {
  const char* name;
  int (*run)(const Options&);
};
constexpr Command kCommands[] = {{"seen", command_seen},
                                 {"green", command_green},
                                 {"cost", command_cost},
                                 {"fault", command_fault},
                                 {"ticks", command_ticks}};

}  // namespace

int main(int count, char** words) {
  for (const Command& command : kCommands) {
    if (count < 2 || strcmp(command.name, words[1]) != 0) continue;
    try {
      return command.run(Options(words + 2, words + count));
    } catch (const Failure& failure) {
      Line().add("status", "failed").add("error_call", failure.call).add("error", failure.error).print();
      return 3;
    }
  }
  fprintf(stderr, "usage: places seen|green|cost|fault|ticks [KEY=VALUE ...]\n");
  return 2;
}

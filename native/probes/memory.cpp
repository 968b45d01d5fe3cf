// Commands about memory.
#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "allocations.h"
#include "commands.h"
#include "launches.h"

namespace probe {
namespace {

constexpr int kRounds = 3;
constexpr size_t kParts = 8;  // of the cap, each a block

// Whether the program goes on: a kernel runs.
CUresult launch_something(const Device& device) {
  Launcher launcher(device.spin());
  CUresult result = launch_named("cuLaunchKernel")->start(launcher, nullptr, 10'000);
  return result == CUDA_SUCCESS ? cu.cuCtxSynchronize() : result;
}

struct Round {
  int blocks = 0;
  CUresult refusal = CUDA_SUCCESS, afterwards = CUDA_SUCCESS;
};

// To the cap, where half as much again is too much in any case, and back.
Round go_to_the_cap(const Device& device, Memory& memory, const Allocation& allocation, size_t cap) {
  Round round;
  std::vector<Block> blocks;
  while (blocks.size() < kParts + kParts / 2 && round.refusal == CUDA_SUCCESS) {
    Block block;
    round.refusal = allocation.take(memory, cap / kParts, &block);
    if (round.refusal == CUDA_SUCCESS) blocks.push_back(block);
  }
  round.blocks = static_cast<int>(blocks.size());
  round.afterwards = launch_something(device);
  for (const Block& block : blocks) allocation.give_back(memory, block);
  return round;
}

void try_allocation(const Device& device, Memory& memory, const Allocation& allocation, size_t cap) {
  Line line;
  std::vector<int> blocks, refusals, afterwards;
  try {
    for (int i = 0; i < kRounds; ++i) {
      Round round = go_to_the_cap(device, memory, allocation, cap);
      blocks.push_back(round.blocks);
      refusals.push_back(round.refusal);
      afterwards.push_back(round.afterwards);
    }
    line.add("status", "ran");
  } catch (const Failure& failure) {
    line.add("status", "failed")
        .add("error_call", failure.call)
        .add("error", static_cast<int>(failure.error));
  }
  line.add("name", allocation.name).add("blocks", blocks).add("refusals", refusals);
  line.add("afterwards", afterwards).print();
}

void print_memory(const char* when) {
  size_t free = 0, total = 0;
  CHECK_CU(cuMemGetInfo_v2, &free, &total);
  Line().add("when", when).add("source", "cuMemGetInfo").add("free", free).add("total", total).print();
}

// NVML's own structures, as its documentation has them.
struct NvmlMemory {
  unsigned long long total, free, used;
};
struct NvmlMemoryV2 {
  unsigned version;
  unsigned long long total, reserved, free, used;
};

template <typename Function>
Function nvml_function(void* library, const char* name) {
  return reinterpret_cast<Function>(dlsym(library, name));
}

void print_nvml(const char* when) {
  void* nvml = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (nvml == nullptr) return;
  auto init = nvml_function<int (*)()>(nvml, "nvmlInit_v2");
  auto by_index = nvml_function<int (*)(unsigned, void**)>(nvml, "nvmlDeviceGetHandleByIndex_v2");
  auto info = nvml_function<int (*)(void*, NvmlMemory*)>(nvml, "nvmlDeviceGetMemoryInfo");
  auto info_v2 = nvml_function<int (*)(void*, NvmlMemoryV2*)>(nvml, "nvmlDeviceGetMemoryInfo_v2");
  void* device = nullptr;
  if (init == nullptr || by_index == nullptr || init() != 0 || by_index(0, &device) != 0) return;
  NvmlMemory first{};
  if (info != nullptr && info(device, &first) == 0) {
    Line line;
    line.add("when", when).add("source", "nvmlDeviceGetMemoryInfo");
    line.add("free", uint64_t{first.free}).add("total", uint64_t{first.total}).print();
  }
  NvmlMemoryV2 second{};
  second.version = sizeof second | 2U << 24;
  if (info_v2 != nullptr && info_v2(device, &second) == 0) {
    Line line;
    line.add("when", when).add("source", "nvmlDeviceGetMemoryInfo_v2");
    line.add("free", uint64_t{second.free}).add("total", uint64_t{second.total}).print();
  }
}

size_t next_size(size_t most, uint64_t* seed) {
  *seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
  return std::max<size_t>(4096, *seed >> 33) % most + 1;
}

}  // namespace

int command_allocations(const Options& options) {
  Device device;
  Memory memory(device);
  size_t cap = options.number("cap", 256 << 20);
  for (const Allocation& allocation : all_allocations()) {
    if (allocation.available() &&
        within_version(std::string(allocation.name).substr(0, std::string(allocation.name).find(' ')))) {
      try_allocation(device, memory, allocation, cap);
    } else {
      Line().add("name", allocation.name).add("status", "absent").print();
    }
  }
  return 0;
}

// Blocks of up to 1 MiB, then smaller ones into what is left, down to 4 KiB (2 MiB where that is the grain).
int command_fill(const Options& options) {
  Device device;
  Memory memory(device);
  const Allocation* allocation = allocation_named(options.text("call", "cuMemAlloc_v2"));
  if (allocation == nullptr || !allocation->available()) {
    Line().add("status", "absent").print();
    return 0;
  }
  bool coarse = std::string(allocation->name) == "cuMemCreate";
  size_t cap = options.number("cap", 256 << 20);
  uint64_t sum = 0, count = 0, seed = 1;
  CUresult refusal = CUDA_SUCCESS;
  for (size_t most = coarse ? 2 << 20 : 1 << 20; most >= (coarse ? 2U << 20 : 4096U); most /= 4) {
    while (sum < 2 * cap) {
      Block block;
      size_t bytes = coarse ? most : next_size(most, &seed);
      refusal = allocation->take(memory, bytes, &block);
      if (refusal != CUDA_SUCCESS) break;
      sum += bytes;
      ++count;
    }
  }
  Line line;
  line.add("status", "ran").add("sum", sum).add("count", count).add("cap", cap);
  line.add("refusal", static_cast<int>(refusal)).print();
  return 0;
}

int command_mapped(const Options& options) {
  Device device;
  Memory memory(device);
  const Allocation* create = allocation_named("cuMemCreate");
  if (!create->available() || cu.cuMemMap == nullptr || cu.cuMemAddressReserve == nullptr) {
    Line().add("status", "absent").print();
    return 0;
  }
  size_t bytes = options.number("cap", 256 << 20) / kParts * (kParts - 1);
  Block block, more;
  CUdeviceptr address;
  CHECK_CU(cuMemAddressReserve, &address, bytes, 0, 0, 0);
  check(create->take(memory, bytes, &block), "cuMemCreate");
  CHECK_CU(cuMemMap, address, bytes, 0, block.handle, 0);
  CHECK_CU(cuMemRelease, block.handle);
  Line line;
  line.add("status", "ran");
  line.add("while_mapped", static_cast<int>(create->take(memory, bytes, &more)));
  CHECK_CU(cuMemUnmap, address, bytes);
  line.add("unmapped", static_cast<int>(create->take(memory, bytes, &more))).print();
  return 0;
}

int command_crowd(const Options& options) {
  constexpr int kThreads = 16;
  constexpr size_t kBlocks = 64;  // of the cap
  Device device;
  size_t bytes = options.number("cap", 256 << 20) / kBlocks;
  std::atomic<uint64_t> taken = 0, errors = 0;
  auto take = [&] {
    CUdeviceptr address;
    CUresult result = cu.cuCtxSetCurrent(device.contexts[0]);
    while (result == CUDA_SUCCESS && taken < 2 * kBlocks) {
      result = cu.cuMemAlloc_v2(&address, bytes);
      if (result == CUDA_SUCCESS) ++taken;
    }
    if (result != CUDA_ERROR_OUT_OF_MEMORY) ++errors;
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) threads.emplace_back(take);
  for (std::thread& thread : threads) thread.join();
  Line line;
  line.add("status", "ran")
      .add("taken", taken.load())
      .add("of", uint64_t{kBlocks})
      .add("errors", errors.load());
  line.print();
  return 0;
}

int command_ends(const Options& options) {
  Device device;
  size_t bytes = options.number("cap", 256 << 20) / kParts * (kParts - 1);
  CUdeviceptr address;
  CUcontext context;
  CHECK_CU(cuCtxCreate_v2, &context, 0, device.device);
  CHECK_CU(cuMemAlloc_v2, &address, bytes);
  CHECK_CU(cuCtxDestroy_v2, context);
  device.enter(0);
  CUresult again = cu.cuMemAlloc_v2(&address, bytes);
  size_t before = 0, after = 0, total = 0;
  if (again == CUDA_SUCCESS) CHECK_CU(cuMemFree_v2, address);
  CHECK_CU(cuMemAlloc_v2, &address, bytes / 2);
  CHECK_CU(cuMemGetInfo_v2, &before, &total);
  CUdeviceptr more;
  CHECK_CU(cuMemAlloc_v2, &more, bytes / 4);
  CHECK_CU(cuMemFree_v2, more);
  CUresult twice = cu.cuMemFree_v2(more);
  CHECK_CU(cuMemGetInfo_v2, &after, &total);
  Line line;
  line.add("status", "ran").add("again", static_cast<int>(again)).add("twice", static_cast<int>(twice));
  line.add("before", before).add("after", after).print();
  return 0;
}

int command_info(const Options& options) {
  Device device;
  size_t bytes = options.number("bytes", 64 << 20);
  CUdeviceptr address;
  void* host;
  print_memory("before");
  print_nvml("before");
  CHECK_CU(cuMemAlloc_v2, &address, bytes);
  print_memory("after");
  print_nvml("after");
  CHECK_CU(cuMemHostAlloc, &host, bytes, 0);
  print_memory("host");
  CHECK_CU(cuMemFreeHost, host);
  CHECK_CU(cuMemFree_v2, address);
  print_memory("freed");
  return 0;
}

}  // namespace probe

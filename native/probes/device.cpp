#include "device.h"

#include <ctime>

namespace probe {
namespace {

// One thread that looks at the clock until its time is over: it lasts as long on a GPU as on the stand-in,
// which goes by the comment.
constexpr char kHead[] = ".version 6.0\n.target sm_60\n.address_size 64\n";
constexpr char kSpin[] = R"(
//.standin full_ns=@0 blocks_per_sm=1 bandwidth=0
.visible .entry spin#(.param .u64 ns)
{
  .reg .u64 %now, %until;
  .reg .pred %more;
  ld.param.u64 %until, [ns];
  mov.u64 %now, %globaltimer;
  add.u64 %until, %until, %now;
again:
  mov.u64 %now, %globaltimer;
  setp.lt.u64 %more, %now, %until;
  @%more bra again;
  ret;
}
)";

std::string name_of(size_t kernel) { return "spin" + std::to_string(kernel); }

std::string image() {
  std::string text = kHead, spin = kSpin;
  for (size_t i = 0; i < kKernels; ++i) {
    std::string each = spin;
    text += each.replace(each.find("spin#"), 5, name_of(i));
  }
  return text;
}

}  // namespace

void check(CUresult result, const char* call) {
  if (result != CUDA_SUCCESS) throw Failure{call, result};
}

uint64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

void sleep_until(uint64_t ns) {
  timespec t{static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, nullptr) != 0) {
  }
}

Device::Device(int count) {
  CHECK_CU(cuInit, 0);
  CHECK_CU(cuDeviceGet, &device, 0);
  for (int i = 0; i < count; ++i) {
    CUcontext context;
    CUmodule module;
    CHECK_CU(cuCtxCreate_v2, &context, 0, device);
    CHECK_CU(cuModuleLoadData, &module, image().c_str());
    contexts.push_back(context);
    auto& kernels = spins.emplace_back();
    for (size_t k = 0; k < kKernels; ++k) {
      CHECK_CU(cuModuleGetFunction, &kernels[k], module, name_of(k).c_str());
    }
  }
  enter(0);
}

void Device::enter(size_t context) const { CHECK_CU(cuCtxSetCurrent, contexts[context]); }

}  // namespace probe

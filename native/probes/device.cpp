#include "device.h"

#include <ctime>

namespace probe {
namespace {

// One thread that looks at the clock until its time is over: it lasts as long on a GPU as on the stand-in,
// which goes by the comment.
constexpr char kSpin[] = R"(
.version 6.0
.target sm_60
.address_size 64

//.standin full_ns=@0 blocks_per_sm=1 bandwidth=0
.visible .entry spin(.param .u64 ns)
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
    CUfunction function;
    CHECK_CU(cuCtxCreate_v2, &context, 0, device);
    CHECK_CU(cuModuleLoadData, &module, kSpin);
    CHECK_CU(cuModuleGetFunction, &function, module, "spin");
    contexts.push_back(context);
    spins.push_back(function);
  }
  enter(0);
}

void Device::enter(size_t context) const { CHECK_CU(cuCtxSetCurrent, contexts[context]); }

}  // namespace probe

#include "faults.h"

#include <algorithm>
#include <iterator>
#include <string_view>

#include "mps.h"
#include "queues.h"

namespace standin::driver {
namespace {

// They say what is there, or which context a thread means.
constexpr std::string_view kUntouched[] = {"cuCtxGetCurrent",
                                           "cuCtxSetCurrent",
                                           "cuCtxPushCurrent",
                                           "cuCtxPopCurrent",
                                           "cuCtxGetDevice",
                                           "cuStreamGetCtx",
                                           "cuThreadExchangeStreamCaptureMode"};

bool touches_work(std::string_view name) {
  return !name.starts_with("cuDevice") &&
         std::find(std::begin(kUntouched), std::end(kUntouched), name) == std::end(kUntouched);
}

}  // namespace

CUresult broken_for(const char* name) {
  if (mode != Mode::kReady) return CUDA_SUCCESS;
  if (CUresult gone = end_of_mps(now_ns()); gone != CUDA_SUCCESS) {
    abandon();
    return touches_work(name) ? gone : CUDA_SUCCESS;
  }
  for (const Member* member : members()) {
    uint32_t fault = st_fault_of(device(), member->process, now_ns());
    if (fault == 0) continue;
    tell_mps_of_fault();
    return touches_work(name) ? static_cast<CUresult>(fault) : CUDA_SUCCESS;
  }
  return CUDA_SUCCESS;
}

}  // namespace standin::driver

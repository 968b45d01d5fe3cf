// What a context sets aside for kernels that allocate or print, and for their stacks: counted where a program
// has it grow. What it has from its beginning belongs to the context, and is not.
#include "allocations.h"

namespace fasthook {
namespace {

// Contexts with one of their limits in the lowest bits, to the bytes counted for it.
constinit Table grown = {};
constexpr uint64_t kLimitBits = 15;

uint64_t key_with(CUcontext context, CUlimit limit) { return key_of(context) | limit; }

uint64_t most_threads() {
  CUdevice device;
  int sms = 0, threads = 0;
  if (real.cuCtxGetDevice(&device) != CUDA_SUCCESS || real.cuDeviceGetAttribute == nullptr) return 0;
  real.cuDeviceGetAttribute(&sms, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device);
  real.cuDeviceGetAttribute(&threads, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, device);
  return static_cast<uint64_t>(sms) * static_cast<uint64_t>(threads);
}

// Bytes of the device for each unit of a limit.
uint64_t bytes_of(CUlimit limit) {
  if (limit == CU_LIMIT_STACK_SIZE) return most_threads();
  return limit == CU_LIMIT_MALLOC_HEAP_SIZE || limit == CU_LIMIT_PRINTF_FIFO_SIZE ? 1 : 0;
}

uint64_t growth(size_t before, size_t after, uint64_t each) {
  uint64_t bytes = 0;
  if (after > before && __builtin_mul_overflow(after - before, each, &bytes)) return ~0ULL;
  return bytes;
}

CUresult set_counted(CUcontext context, CUlimit limit, size_t value, uint64_t each) {
  size_t before = 0, after = 0;
  CUresult result = real.cuCtxGetLimit(&before, limit);
  if (result != CUDA_SUCCESS) return result;
  uint64_t asked = growth(before, value, each);
  if (asked > 0 && !charge(asked)) return CUDA_ERROR_OUT_OF_MEMORY;
  result = real.cuCtxSetLimit(limit, value);
  // The driver takes what it is told as a hint.
  if (result != CUDA_SUCCESS || real.cuCtxGetLimit(&after, limit) != CUDA_SUCCESS) after = before;
  uint64_t more = growth(before, after, each), less = growth(after, before, each);
  if (more > asked && !charge(more - asked)) {
    real.cuCtxSetLimit(limit, before);
    more = 0;
    result = CUDA_ERROR_OUT_OF_MEMORY;
  }
  if (more < asked) give_back(asked - more);
  uint64_t counted = grown.take(key_with(context, limit));
  if (less > counted) less = counted;
  if (less > 0) give_back(less);
  if (counted + more - less > 0) grown.put(key_with(context, limit), counted + more - less);
  return result;
}

}  // namespace

void forget_limits_of(CUcontext context) {
  grown.remove_if([=](uint64_t key, uint64_t bytes) {
    bool went = (key & ~kLimitBits) == key_of(context);
    if (went) give_back(bytes);
    return went;
  });
}

void forget_limits() { grown.forget(); }

}  // namespace fasthook

using namespace fasthook;

HOOKED CUresult cuCtxSetLimit(CUlimit limit, size_t value) {
  Inside inside;
  CUcontext context = nullptr;
  Treatment how = treatment(inside);
  if (how == Treatment::kRefuse) return CUDA_ERROR_NOT_PERMITTED;
  bool has_context = how == Treatment::kCount && real.cuCtxGetLimit != nullptr &&
                     real.cuCtxGetCurrent(&context) == CUDA_SUCCESS && context != nullptr;
  uint64_t each = has_context ? bytes_of(limit) : 0;
  return each > 0 ? set_counted(context, limit, value, each) : real.cuCtxSetLimit(limit, value);
}

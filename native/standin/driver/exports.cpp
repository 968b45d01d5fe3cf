// The exported functions: each is one row of calls.h around its implementation.
#include <atomic>
#include <exception>

#include "implementations.h"
#include "state.h"

namespace standin::driver {
namespace {

constexpr bool LEGACY = false, PER_THREAD = true;

CUresult not_supported(auto...) { return CUDA_ERROR_NOT_SUPPORTED; }

CUresult nothing(auto...) { return CUDA_SUCCESS; }

// An address that nothing is at, and that nobody else has.
CUresult fake_alloc(auto* address, auto...) {
  static std::atomic<uint64_t> next{uint64_t{1} << 40};
  *address =
      static_cast<std::remove_pointer_t<decltype(address)>>(next.fetch_add(512, std::memory_order_relaxed));
  return CUDA_SUCCESS;
}

}  // namespace
}  // namespace standin::driver

using namespace standin::driver;

// No exception leaves the library: those of the C++ library mean that there is no memory.
#define DO(body)                     \
  try {                              \
    return call.outcome(body);       \
  } catch (const std::exception&) {  \
    return CUDA_ERROR_OUT_OF_MEMORY; \
  }
#define EXPORT(name, streams, symbol, early, parameters, body) \
  STANDIN_EXPORT CUresult symbol parameters {                  \
    Call call(#name, #symbol, streams, early);                 \
    if (call.refusal != CUDA_SUCCESS) return call.refusal;     \
    DO(body)                                                   \
  }
#define CALL(name, version, streams, symbol, implementation, parameters, arguments) \
  EXPORT(name, streams, symbol, false, parameters, standin::driver::implementation arguments)
#define FORM CALL
#define EARLY(name, version, streams, symbol, implementation, parameters, arguments) \
  EXPORT(name, streams, symbol, true, parameters, standin::driver::implementation arguments)
#define EARLY_FORM EARLY
#define QUICK(name, version, streams, symbol, implementation, quick, parameters, arguments) \
  STANDIN_EXPORT CUresult symbol parameters {                                               \
    if (mode == Mode::kNothing) [[unlikely]]                                                \
      return standin::driver::quick arguments;                                              \
    Call call(#name, #symbol, streams, false);                                              \
    if (call.refusal != CUDA_SUCCESS) return call.refusal;                                  \
    DO(standin::driver::implementation arguments)                                           \
  }
#define QUICK_FORM QUICK
#pragma GCC diagnostic ignored "-Wunused-parameter"
#define ABSENT(name, version, streams, symbol, parameters) \
  EXPORT(name, streams, symbol, false, parameters, CUDA_ERROR_NOT_SUPPORTED)
#include "calls.h"

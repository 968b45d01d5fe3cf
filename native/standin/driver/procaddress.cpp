// cuGetProcAddress: the form of a function that a version of CUDA means.
#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "../identity.h"
#include "implementations.h"
#include "state.h"

namespace standin::driver {
namespace {

struct Form {
  const char* name;
  int version;  // of CUDA, that it came with
  bool per_thread;
  void* address;
};

constexpr bool LEGACY = false, PER_THREAD = true;

const Form kForms[] = {
#define CALL(name, version, streams, symbol, ...) {#name, version, streams, reinterpret_cast<void*>(&symbol)},
#define FORM CALL
#define EARLY CALL
#define EARLY_FORM CALL
#define QUICK CALL
#define QUICK_FORM CALL
#define ABSENT CALL
#include "calls.h"
};

using Index = std::unordered_multimap<std::string, const Form*>;

const Index& index() {
  static const Index* one = [] {
    auto* made = new Index;
    for (const Form& form : kForms) made->emplace(form.name, &form);
    return made;
  }();
  return *one;
}

// The newest that the version has; null: none.
const Form* find(const char* name, int version, bool per_thread) {
  const Form* best = nullptr;
  auto [first, last] = index().equal_range(name);
  for (auto at = first; at != last; ++at) {
    const Form* form = at->second;
    bool fits = form->version <= version && form->per_thread == per_thread;
    if (fits && (best == nullptr || form->version > best->version)) best = form;
  }
  return best;
}

}  // namespace

CUresult get_proc_address(const char* symbol, void** pfn, int cudaVersion, cuuint64_t flags,
                          CUdriverProcAddressQueryResult* symbolStatus) {
  if (symbol == nullptr || *symbol == 0 || pfn == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (cudaVersion < 0 || cudaVersion > kCudaVersion || flags > CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM)
    return CUDA_ERROR_INVALID_VALUE;
  const Form* form = nullptr;
  if (flags == CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) form = find(symbol, cudaVersion, true);
  if (form == nullptr) form = find(symbol, cudaVersion, false);
  *pfn = form != nullptr ? form->address : nullptr;
  CUdriverProcAddressQueryResult status = form != nullptr ? CU_GET_PROC_ADDRESS_SUCCESS
                                          : index().count(symbol) > 0
                                              ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT
                                              : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
  if (symbolStatus != nullptr) *symbolStatus = status;
  return form != nullptr ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

CUresult get_proc_address_v1(const char* symbol, void** pfn, int cudaVersion, cuuint64_t flags) {
  return get_proc_address(symbol, pfn, cudaVersion, flags, nullptr);
}

}  // namespace standin::driver

#include "driver.h"

#include <dlfcn.h>
#include <pthread.h>

namespace standin_runtime {
namespace {

struct Loaded {
  Driver calls;
  cudaError_t result = cudaErrorInsufficientDriver;  // there is none
};

Loaded loaded;
pthread_once_t once = PTHREAD_ONCE_INIT;

void load() {
  void* library = dlopen("libcuda.so.1", RTLD_NOW);
  if (library == nullptr) return;
  auto find = reinterpret_cast<PFN_cuGetProcAddress_v12000>(dlsym(library, "cuGetProcAddress_v2"));
  if (find == nullptr) return;
  CUdriverProcAddressQueryResult status;
#define CALL(name, version)                                                                             \
  find(#name, reinterpret_cast<void**>(&loaded.calls.name), version, CU_GET_PROC_ADDRESS_LEGACY_STREAM, \
       &status);
#include "driver.def"
#undef CALL
  if (loaded.calls.cuInit != nullptr) loaded.result = from(loaded.calls.cuInit(0));
}

}  // namespace

const Driver& driver(cudaError_t* result) {
  pthread_once(&once, load);
  *result = loaded.result;
  return loaded.calls;
}

}  // namespace standin_runtime

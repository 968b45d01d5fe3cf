// What the program asks about its kernels, and libraries of kernels that it loads itself.
#include "driver.h"

namespace standin_runtime {
namespace {

// Finds the kernel and calls the driver with it in front, or behind the result as the driver has it.
template <typename Then>
cudaError_t with_kernel(const void* function, Then then) {
  CUfunction kernel = nullptr;
  cudaError_t result = kernel_of(function, &kernel);
  return result != cudaSuccess ? keep(result) : then(kernel);
}

struct Wanted {
  CUfunction_attribute attribute;
  int cudaFuncAttributes::* number;
};
constexpr Wanted kNumbers[] = {
    {CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, &cudaFuncAttributes::maxThreadsPerBlock},
    {CU_FUNC_ATTRIBUTE_NUM_REGS, &cudaFuncAttributes::numRegs},
    {CU_FUNC_ATTRIBUTE_PTX_VERSION, &cudaFuncAttributes::ptxVersion},
    {CU_FUNC_ATTRIBUTE_BINARY_VERSION, &cudaFuncAttributes::binaryVersion},
    {CU_FUNC_ATTRIBUTE_CACHE_MODE_CA, &cudaFuncAttributes::cacheModeCA},
    {CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, &cudaFuncAttributes::maxDynamicSharedSizeBytes},
    {CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, &cudaFuncAttributes::preferredShmemCarveout},
    {CU_FUNC_ATTRIBUTE_CLUSTER_SIZE_MUST_BE_SET, &cudaFuncAttributes::clusterDimMustBeSet},
    {CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH, &cudaFuncAttributes::requiredClusterWidth},
    {CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT, &cudaFuncAttributes::requiredClusterHeight},
    {CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH, &cudaFuncAttributes::requiredClusterDepth},
    {CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE,
     &cudaFuncAttributes::clusterSchedulingPolicyPreference},
    {CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, &cudaFuncAttributes::nonPortableClusterSizeAllowed},
};

cudaError_t read_size(CUfunction kernel, CUfunction_attribute attribute, size_t* out) {
  int number = 0;
  cudaError_t result = call(&Driver::cuFuncGetAttribute, &number, attribute, kernel);
  *out = static_cast<size_t>(number);
  return result;
}

cudaError_t read_attributes(CUfunction kernel, cudaFuncAttributes* out) {
  cudaError_t result = read_size(kernel, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, &out->sharedSizeBytes);
  if (result == cudaSuccess)
    result = read_size(kernel, CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES, &out->constSizeBytes);
  if (result == cudaSuccess)
    result = read_size(kernel, CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, &out->localSizeBytes);
  for (const Wanted& wanted : kNumbers)
    if (result == cudaSuccess)
      result = call(&Driver::cuFuncGetAttribute, &(out->*wanted.number), wanted.attribute, kernel);
  return result;
}

}  // namespace
}  // namespace standin_runtime

using namespace standin_runtime;

cudaError_t cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  if (kernel == nullptr) return keep(cudaErrorInvalidValue);
  return with_kernel(function, [=](CUfunction found) {
    *kernel = reinterpret_cast<cudaKernel_t>(found);
    return cudaSuccess;
  });
}

cudaError_t cudaGetFuncBySymbol(cudaFunction_t* out, const void* symbol) {
  if (out == nullptr) return keep(cudaErrorInvalidValue);
  return with_kernel(symbol,
                     [=](CUfunction kernel) { return call(&Driver::cuKernelGetFunction, out, kernel); });
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* out, const void* function) {
  if (out == nullptr) return keep(cudaErrorInvalidValue);
  *out = {};
  return with_kernel(function, [=](CUfunction kernel) { return read_attributes(kernel, out); });
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  return with_kernel(function, [=](CUfunction kernel) {
    return call(&Driver::cuFuncSetAttribute, kernel, attribute, value);
  });
}

cudaError_t cudaFuncSetCacheConfig(const void* function, cudaFuncCache config) {
  return with_kernel(function,
                     [=](CUfunction kernel) { return call(&Driver::cuFuncSetCacheConfig, kernel, config); });
}

cudaError_t cudaFuncSetSharedMemConfig(const void* function, cudaSharedMemConfig config) {
  return with_kernel(
      function, [=](CUfunction kernel) { return call(&Driver::cuFuncSetSharedMemConfig, kernel, config); });
}

cudaError_t cudaFuncGetName(const char** name, const void* function) {
  return with_kernel(function, [=](CUfunction kernel) { return call(&Driver::cuFuncGetName, name, kernel); });
}

cudaError_t cudaFuncGetParamInfo(const void* function, size_t index, size_t* offset, size_t* size) {
  return with_kernel(function, [=](CUfunction kernel) {
    return call(&Driver::cuFuncGetParamInfo, kernel, index, offset, size);
  });
}

// --- occupancy
// -------------------------------------------------------------------------------------------------------

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void* function,
                                                                   int threads, size_t shared_bytes,
                                                                   unsigned flags) {
  return with_kernel(function, [=](CUfunction kernel) {
    return call(&Driver::cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags, blocks, kernel, threads,
                shared_bytes, flags);
  });
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* function, int threads,
                                                          size_t shared_bytes) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, threads, shared_bytes, 0);
}

cudaError_t cudaOccupancyAvailableDynamicSMemPerBlock(size_t* bytes, const void* function, int blocks,
                                                      int threads) {
  return with_kernel(function, [=](CUfunction kernel) {
    return call(&Driver::cuOccupancyAvailableDynamicSMemPerBlock, bytes, kernel, blocks, threads);
  });
}

// --- libraries
// -------------------------------------------------------------------------------------------------------

cudaError_t cudaLibraryLoadData(cudaLibrary_t* library, const void* code, cudaJitOption* options,
                                void** values, unsigned count, cudaLibraryOption* library_options,
                                void** library_values, unsigned library_count) {
  return call(&Driver::cuLibraryLoadData, library, code, options, values, count, library_options,
              library_values, library_count);
}

cudaError_t cudaLibraryLoadFromFile(cudaLibrary_t* library, const char* path, cudaJitOption* options,
                                    void** values, unsigned count, cudaLibraryOption* library_options,
                                    void** library_values, unsigned library_count) {
  return call(&Driver::cuLibraryLoadFromFile, library, path, options, values, count, library_options,
              library_values, library_count);
}

cudaError_t cudaLibraryUnload(cudaLibrary_t library) { return call(&Driver::cuLibraryUnload, library); }

cudaError_t cudaLibraryGetKernel(cudaKernel_t* kernel, cudaLibrary_t library, const char* name) {
  cudaError_t result = call(&Driver::cuLibraryGetKernel, kernel, library, name);
  if (result == cudaSuccess) know_kernel(*kernel);
  return result;
}

cudaError_t cudaLibraryGetKernelCount(unsigned* count, cudaLibrary_t library) {
  return call(&Driver::cuLibraryGetKernelCount, count, library);
}

cudaError_t cudaLibraryEnumerateKernels(cudaKernel_t* kernels, unsigned count, cudaLibrary_t library) {
  cudaError_t result = call(&Driver::cuLibraryEnumerateKernels, kernels, count, library);
  for (unsigned i = 0; result == cudaSuccess && i < count; ++i) know_kernel(kernels[i]);
  return result;
}

cudaError_t cudaLibraryGetGlobal(void** address, size_t* bytes, cudaLibrary_t library, const char* name) {
  return call(&Driver::cuLibraryGetGlobal, address, bytes, library, name);
}

cudaError_t cudaLibraryGetManaged(void** address, size_t* bytes, cudaLibrary_t library, const char* name) {
  return call(&Driver::cuLibraryGetManaged, address, bytes, library, name);
}

cudaError_t cudaLibraryGetUnifiedFunction(void** function, cudaLibrary_t library, const char* symbol) {
  return call(&Driver::cuLibraryGetUnifiedFunction, function, library, symbol);
}

cudaError_t cudaKernelSetAttributeForDevice(cudaKernel_t kernel, cudaFuncAttribute attribute, int value,
                                            int device) {
  return call(&Driver::cuKernelSetAttribute, attribute, value, kernel, device);
}

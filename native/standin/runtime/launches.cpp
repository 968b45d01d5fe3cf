// Launches of kernels and of functions on the host.
#include "driver.h"

namespace standin_runtime {
namespace {

struct Configuration {
  dim3 grid, block;
  size_t shared_bytes;
  CUstream_st* stream;
};

// What <<<...>>> pushed and its kernel's stub has not taken yet: more than one if arguments launch kernels
// themselves.
constexpr unsigned kDeepest = 16;
thread_local Configuration pushed[kDeepest];
thread_local unsigned depth = 0;

// The same limits on every device there is; the driver would call it an invalid value.
bool possible(const dim3& grid, const dim3& block) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || block.x == 0 || block.y == 0 || block.z == 0) return false;
  bool few_blocks = grid.x <= 0x7fffffff && grid.y <= 65535 && grid.z <= 65535;
  bool few_threads = block.x <= 1024 && block.y <= 1024 && block.z <= 64;
  return few_blocks && few_threads && block.x * block.y * block.z <= 1024;
}

cudaError_t launch(CUfunction kernel, dim3 grid, dim3 block, void** arguments, size_t shared_bytes,
                   cudaStream_t stream) {
  if (!possible(grid, block)) return keep(cudaErrorInvalidConfiguration);
  return call(&Driver::cuLaunchKernel, kernel, grid.x, grid.y, grid.z, block.x, block.y, block.z,
              shared_bytes, stream, arguments, nullptr);
}

CUlaunchConfig config_of(const cudaLaunchConfig_t& config) {
  CUlaunchConfig out = {};
  out.gridDimX = config.gridDim.x;
  out.gridDimY = config.gridDim.y;
  out.gridDimZ = config.gridDim.z;
  out.blockDimX = config.blockDim.x;
  out.blockDimY = config.blockDim.y;
  out.blockDimZ = config.blockDim.z;
  out.sharedMemBytes = static_cast<unsigned>(config.dynamicSmemBytes);
  out.hStream = config.stream;
  // One structure under two names.
  static_assert(sizeof(cudaLaunchAttribute) == sizeof(CUlaunchAttribute));
  out.attrs = reinterpret_cast<CUlaunchAttribute*>(config.attrs);
  out.numAttrs = config.numAttrs;
  return out;
}

}  // namespace
}  // namespace standin_runtime

using namespace standin_runtime;

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared_bytes, CUstream_st* stream) {
  if (depth == kDeepest) return keep(cudaErrorLaunchOutOfResources);
  pushed[depth++] = {grid, block, shared_bytes, stream};
  return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared_bytes, void* stream) {
  if (depth == 0) return keep(cudaErrorMissingConfiguration);
  const Configuration& top = pushed[--depth];
  *grid = top.grid;
  *block = top.block;
  *shared_bytes = top.shared_bytes;
  *static_cast<CUstream_st**>(stream) = top.stream;
  return cudaSuccess;
}

cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  return cudaGetKernel(kernel, function);
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments,
                               size_t shared_bytes, cudaStream_t stream) {
  // It was not found when it was asked for; why is remembered.
  if (kernel == nullptr)
    return peek_last() != cudaSuccess ? peek_last() : keep(cudaErrorInvalidDeviceFunction);
  return launch(reinterpret_cast<CUfunction>(kernel), grid, block, arguments, shared_bytes, stream);
}

cudaError_t __cudaLaunchKernel_ptsz(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments,
                                    size_t shared_bytes, cudaStream_t stream) {
  return __cudaLaunchKernel(kernel, grid, block, arguments, shared_bytes, per_thread(stream));
}

cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments,
                             size_t shared_bytes, cudaStream_t stream) {
  CUfunction kernel = nullptr;
  cudaError_t result = kernel_of(function, &kernel);
  return result != cudaSuccess ? keep(result) : launch(kernel, grid, block, arguments, shared_bytes, stream);
}

cudaError_t cudaLaunchKernel_ptsz(const void* function, dim3 grid, dim3 block, void** arguments,
                                  size_t shared_bytes, cudaStream_t stream) {
  return cudaLaunchKernel(function, grid, block, arguments, shared_bytes, per_thread(stream));
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function, void** arguments) {
  if (config == nullptr) return keep(cudaErrorInvalidValue);
  if (!possible(config->gridDim, config->blockDim)) return keep(cudaErrorInvalidConfiguration);
  CUfunction kernel = nullptr;
  cudaError_t result = kernel_of(function, &kernel);
  if (result != cudaSuccess) return keep(result);
  CUlaunchConfig theirs = config_of(*config);
  return call(&Driver::cuLaunchKernelEx, &theirs, kernel, arguments, nullptr);
}

cudaError_t cudaLaunchKernelExC_ptsz(const cudaLaunchConfig_t* config, const void* function,
                                     void** arguments) {
  if (config == nullptr) return keep(cudaErrorInvalidValue);
  cudaLaunchConfig_t here = *config;
  here.stream = per_thread(here.stream);
  return cudaLaunchKernelExC(&here, function, arguments);
}

cudaError_t cudaLaunchCooperativeKernel(const void* function, dim3 grid, dim3 block, void** arguments,
                                        size_t shared_bytes, cudaStream_t stream) {
  if (!possible(grid, block)) return keep(cudaErrorInvalidConfiguration);
  CUfunction kernel = nullptr;
  cudaError_t result = kernel_of(function, &kernel);
  if (result != cudaSuccess) return keep(result);
  return call(&Driver::cuLaunchCooperativeKernel, kernel, grid.x, grid.y, grid.z, block.x, block.y, block.z,
              shared_bytes, stream, arguments);
}

cudaError_t cudaLaunchCooperativeKernel_ptsz(const void* function, dim3 grid, dim3 block, void** arguments,
                                             size_t shared_bytes, cudaStream_t stream) {
  return cudaLaunchCooperativeKernel(function, grid, block, arguments, shared_bytes, per_thread(stream));
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  return call(&Driver::cuLaunchHostFunc, stream, function, data);
}

cudaError_t cudaLaunchHostFunc_ptsz(cudaStream_t stream, cudaHostFn_t function, void* data) {
  return cudaLaunchHostFunc(per_thread(stream), function, data);
}

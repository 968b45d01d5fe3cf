// How many blocks an SM runs at once.
#include <algorithm>

#include "../identity.h"
#include "handles.h"
#include "implementations.h"
#include "modules.h"

namespace standin::driver {
namespace {

constexpr uint64_t kWarp = 32, kMaxThreads = 1024;

uint64_t shared_of(const KernelImage& image, uint64_t dynamic) {
  return image.shared_bytes + dynamic + (image.shared_bytes + dynamic > 0 ? kReservedShared : 0);
}

CUresult potential(int* grid, int* block, CUfunction function, CUoccupancyB2DSize shared, size_t dynamic,
                   int limit) {
  uint64_t best = 0, most = std::min<uint64_t>(function->image->max_threads, limit > 0 ? limit : kMaxThreads);
  uint32_t blocks = 0;
  for (uint64_t threads = most / kWarp * kWarp; threads > 0; threads -= kWarp) {
    if (shared != nullptr) {
      Unlocked unlocked;
      dynamic = shared(static_cast<int>(threads));
    }
    uint32_t fit = blocks_per_sm(*function->image, threads, dynamic);
    if (fit * threads <= best) continue;
    best = fit * threads;
    blocks = fit;
    *block = static_cast<int>(threads);
  }
  *grid = static_cast<int>(blocks * settings().sms);
  return best > 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

}  // namespace

uint32_t blocks_per_sm(const KernelImage& image, uint64_t threads, uint64_t dynamic) {
  uint64_t whole_warps = (threads + kWarp - 1) / kWarp * kWarp;
  if (threads == 0 || threads > image.max_threads || image.shared_bytes + dynamic > kSharedOptin) return 0;
  uint64_t fit = std::min<uint64_t>(kBlocksPerSm, kThreadsPerSm / whole_warps);
  fit = std::min<uint64_t>(fit, kRegisters / (kRegistersOfKernel * whole_warps));
  uint64_t shared = shared_of(image, dynamic);
  if (shared > 0) fit = std::min<uint64_t>(fit, kSharedPerSm / shared);
  return static_cast<uint32_t>(fit);
}

CUresult occupancy_max_active_blocks_per_multiprocessor_with_flags(int* numBlocks, CUfunction func,
                                                                   int blockSize, size_t dynamicSMemSize,
                                                                   unsigned int flags) {
  if (numBlocks == nullptr || blockSize <= 0 || flags > CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE)
    return CUDA_ERROR_INVALID_VALUE;
  CUfunction function;
  TRY(find_function(func, &function));
  return set(numBlocks, blocks_per_sm(*function->image, static_cast<uint64_t>(blockSize), dynamicSMemSize));
}

CUresult occupancy_max_active_blocks_per_multiprocessor(int* numBlocks, CUfunction func, int blockSize,
                                                        size_t dynamicSMemSize) {
  return occupancy_max_active_blocks_per_multiprocessor_with_flags(numBlocks, func, blockSize,
                                                                   dynamicSMemSize, 0);
}

CUresult occupancy_max_potential_block_size_with_flags(int* minGridSize, int* blockSize, CUfunction func,
                                                       CUoccupancyB2DSize blockSizeToDynamicSMemSize,
                                                       size_t dynamicSMemSize, int blockSizeLimit,
                                                       unsigned int flags) {
  if (minGridSize == nullptr || blockSize == nullptr || blockSizeLimit < 0) return CUDA_ERROR_INVALID_VALUE;
  if (flags > CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE) return CUDA_ERROR_INVALID_VALUE;
  CUfunction function;
  TRY(find_function(func, &function));
  return potential(minGridSize, blockSize, function, blockSizeToDynamicSMemSize, dynamicSMemSize,
                   blockSizeLimit);
}

CUresult occupancy_max_potential_block_size(int* minGridSize, int* blockSize, CUfunction func,
                                            CUoccupancyB2DSize blockSizeToDynamicSMemSize,
                                            size_t dynamicSMemSize, int blockSizeLimit) {
  return occupancy_max_potential_block_size_with_flags(
      minGridSize, blockSize, func, blockSizeToDynamicSMemSize, dynamicSMemSize, blockSizeLimit, 0);
}

CUresult occupancy_available_dynamic_smem_per_block(size_t* dynamicSmemSize, CUfunction func, int numBlocks,
                                                    int blockSize) {
  if (dynamicSmemSize == nullptr || numBlocks <= 0 || blockSize <= 0) return CUDA_ERROR_INVALID_VALUE;
  CUfunction function;
  TRY(find_function(func, &function));
  int64_t free =
      kSharedPerSm / numBlocks - kReservedShared - static_cast<int64_t>(function->image->shared_bytes);
  return set(dynamicSmemSize, std::clamp<int64_t>(free, 0, kSharedOptin));
}

CUresult occupancy_max_potential_cluster_size(int* clusterSize, CUfunction func,
                                              const CUlaunchConfig* config) {
  if (config == nullptr) return CUDA_ERROR_INVALID_VALUE;
  CUfunction function;
  TRY(find_function(func, &function));
  return set(clusterSize, function->tuning.non_portable_cluster != 0 ? 16 : 8);
}

CUresult occupancy_max_active_clusters(int* numClusters, CUfunction func, const CUlaunchConfig* config) {
  if (config == nullptr) return CUDA_ERROR_INVALID_VALUE;
  CUfunction function;
  TRY(find_function(func, &function));
  uint64_t size = 1, threads = uint64_t{config->blockDimX} * config->blockDimY * config->blockDimZ;
  for (unsigned int i = 0; i < config->numAttrs; ++i)
    if (const CUlaunchAttribute& a = config->attrs[i]; a.id == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION)
      size = uint64_t{a.value.clusterDim.x} * a.value.clusterDim.y * a.value.clusterDim.z;
  uint64_t blocks =
      uint64_t{blocks_per_sm(*function->image, threads, config->sharedMemBytes)} * settings().sms;
  return set(numClusters, blocks / std::max<uint64_t>(size, 1));
}

}  // namespace standin::driver

// cudaGetDeviceProperties: one structure out of many of the driver's answers.
#include <cstring>

#include "driver.h"

using namespace standin_runtime;

namespace {

struct Wanted {
  CUdevice_attribute attribute;
  size_t offset;  // of what is filled in
  bool wide;      // a size_t, else an int
};

#define NUMBER(attribute, member) \
  {CU_DEVICE_ATTRIBUTE_##attribute, offsetof(cudaDeviceProp, member), sizeof(cudaDeviceProp::member) == 8}
#define ONE_OF(attribute, member, index) \
  {CU_DEVICE_ATTRIBUTE_##attribute, offsetof(cudaDeviceProp, member) + (index) * sizeof(int), false}

constexpr Wanted kWanted[] = {
    NUMBER(MAX_SHARED_MEMORY_PER_BLOCK, sharedMemPerBlock),
    NUMBER(MAX_REGISTERS_PER_BLOCK, regsPerBlock),
    NUMBER(WARP_SIZE, warpSize),
    NUMBER(MAX_PITCH, memPitch),
    NUMBER(MAX_THREADS_PER_BLOCK, maxThreadsPerBlock),
    ONE_OF(MAX_BLOCK_DIM_X, maxThreadsDim, 0),
    ONE_OF(MAX_BLOCK_DIM_Y, maxThreadsDim, 1),
    ONE_OF(MAX_BLOCK_DIM_Z, maxThreadsDim, 2),
    ONE_OF(MAX_GRID_DIM_X, maxGridSize, 0),
    ONE_OF(MAX_GRID_DIM_Y, maxGridSize, 1),
    ONE_OF(MAX_GRID_DIM_Z, maxGridSize, 2),
    NUMBER(TOTAL_CONSTANT_MEMORY, totalConstMem),
    NUMBER(COMPUTE_CAPABILITY_MAJOR, major),
    NUMBER(COMPUTE_CAPABILITY_MINOR, minor),
    NUMBER(TEXTURE_ALIGNMENT, textureAlignment),
    NUMBER(TEXTURE_PITCH_ALIGNMENT, texturePitchAlignment),
    NUMBER(MULTIPROCESSOR_COUNT, multiProcessorCount),
    NUMBER(INTEGRATED, integrated),
    NUMBER(CAN_MAP_HOST_MEMORY, canMapHostMemory),
    NUMBER(MAXIMUM_TEXTURE1D_WIDTH, maxTexture1D),
    NUMBER(MAXIMUM_TEXTURE1D_MIPMAPPED_WIDTH, maxTexture1DMipmap),
    ONE_OF(MAXIMUM_TEXTURE2D_WIDTH, maxTexture2D, 0),
    ONE_OF(MAXIMUM_TEXTURE2D_HEIGHT, maxTexture2D, 1),
    ONE_OF(MAXIMUM_TEXTURE2D_MIPMAPPED_WIDTH, maxTexture2DMipmap, 0),
    ONE_OF(MAXIMUM_TEXTURE2D_MIPMAPPED_HEIGHT, maxTexture2DMipmap, 1),
    ONE_OF(MAXIMUM_TEXTURE2D_LINEAR_WIDTH, maxTexture2DLinear, 0),
    ONE_OF(MAXIMUM_TEXTURE2D_LINEAR_HEIGHT, maxTexture2DLinear, 1),
    ONE_OF(MAXIMUM_TEXTURE2D_LINEAR_PITCH, maxTexture2DLinear, 2),
    ONE_OF(MAXIMUM_TEXTURE2D_GATHER_WIDTH, maxTexture2DGather, 0),
    ONE_OF(MAXIMUM_TEXTURE2D_GATHER_HEIGHT, maxTexture2DGather, 1),
    ONE_OF(MAXIMUM_TEXTURE3D_WIDTH, maxTexture3D, 0),
    ONE_OF(MAXIMUM_TEXTURE3D_HEIGHT, maxTexture3D, 1),
    ONE_OF(MAXIMUM_TEXTURE3D_DEPTH, maxTexture3D, 2),
    ONE_OF(MAXIMUM_TEXTURE3D_WIDTH_ALTERNATE, maxTexture3DAlt, 0),
    ONE_OF(MAXIMUM_TEXTURE3D_HEIGHT_ALTERNATE, maxTexture3DAlt, 1),
    ONE_OF(MAXIMUM_TEXTURE3D_DEPTH_ALTERNATE, maxTexture3DAlt, 2),
    NUMBER(MAXIMUM_TEXTURECUBEMAP_WIDTH, maxTextureCubemap),
    ONE_OF(MAXIMUM_TEXTURE1D_LAYERED_WIDTH, maxTexture1DLayered, 0),
    ONE_OF(MAXIMUM_TEXTURE1D_LAYERED_LAYERS, maxTexture1DLayered, 1),
    ONE_OF(MAXIMUM_TEXTURE2D_LAYERED_WIDTH, maxTexture2DLayered, 0),
    ONE_OF(MAXIMUM_TEXTURE2D_LAYERED_HEIGHT, maxTexture2DLayered, 1),
    ONE_OF(MAXIMUM_TEXTURE2D_LAYERED_LAYERS, maxTexture2DLayered, 2),
    ONE_OF(MAXIMUM_TEXTURECUBEMAP_LAYERED_WIDTH, maxTextureCubemapLayered, 0),
    ONE_OF(MAXIMUM_TEXTURECUBEMAP_LAYERED_LAYERS, maxTextureCubemapLayered, 1),
    NUMBER(MAXIMUM_SURFACE1D_WIDTH, maxSurface1D),
    ONE_OF(MAXIMUM_SURFACE2D_WIDTH, maxSurface2D, 0),
    ONE_OF(MAXIMUM_SURFACE2D_HEIGHT, maxSurface2D, 1),
    ONE_OF(MAXIMUM_SURFACE3D_WIDTH, maxSurface3D, 0),
    ONE_OF(MAXIMUM_SURFACE3D_HEIGHT, maxSurface3D, 1),
    ONE_OF(MAXIMUM_SURFACE3D_DEPTH, maxSurface3D, 2),
    ONE_OF(MAXIMUM_SURFACE1D_LAYERED_WIDTH, maxSurface1DLayered, 0),
    ONE_OF(MAXIMUM_SURFACE1D_LAYERED_LAYERS, maxSurface1DLayered, 1),
    ONE_OF(MAXIMUM_SURFACE2D_LAYERED_WIDTH, maxSurface2DLayered, 0),
    ONE_OF(MAXIMUM_SURFACE2D_LAYERED_HEIGHT, maxSurface2DLayered, 1),
    ONE_OF(MAXIMUM_SURFACE2D_LAYERED_LAYERS, maxSurface2DLayered, 2),
    NUMBER(MAXIMUM_SURFACECUBEMAP_WIDTH, maxSurfaceCubemap),
    ONE_OF(MAXIMUM_SURFACECUBEMAP_LAYERED_WIDTH, maxSurfaceCubemapLayered, 0),
    ONE_OF(MAXIMUM_SURFACECUBEMAP_LAYERED_LAYERS, maxSurfaceCubemapLayered, 1),
    NUMBER(SURFACE_ALIGNMENT, surfaceAlignment),
    NUMBER(CONCURRENT_KERNELS, concurrentKernels),
    NUMBER(ECC_ENABLED, ECCEnabled),
    NUMBER(PCI_BUS_ID, pciBusID),
    NUMBER(PCI_DEVICE_ID, pciDeviceID),
    NUMBER(PCI_DOMAIN_ID, pciDomainID),
    NUMBER(TCC_DRIVER, tccDriver),
    NUMBER(ASYNC_ENGINE_COUNT, asyncEngineCount),
    NUMBER(UNIFIED_ADDRESSING, unifiedAddressing),
    NUMBER(GLOBAL_MEMORY_BUS_WIDTH, memoryBusWidth),
    NUMBER(L2_CACHE_SIZE, l2CacheSize),
    NUMBER(MAX_PERSISTING_L2_CACHE_SIZE, persistingL2CacheMaxSize),
    NUMBER(MAX_THREADS_PER_MULTIPROCESSOR, maxThreadsPerMultiProcessor),
    NUMBER(STREAM_PRIORITIES_SUPPORTED, streamPrioritiesSupported),
    NUMBER(GLOBAL_L1_CACHE_SUPPORTED, globalL1CacheSupported),
    NUMBER(LOCAL_L1_CACHE_SUPPORTED, localL1CacheSupported),
    NUMBER(MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, sharedMemPerMultiprocessor),
    NUMBER(MAX_REGISTERS_PER_MULTIPROCESSOR, regsPerMultiprocessor),
    NUMBER(MANAGED_MEMORY, managedMemory),
    NUMBER(MULTI_GPU_BOARD, isMultiGpuBoard),
    NUMBER(MULTI_GPU_BOARD_GROUP_ID, multiGpuBoardGroupID),
    NUMBER(HOST_NATIVE_ATOMIC_SUPPORTED, hostNativeAtomicSupported),
    NUMBER(PAGEABLE_MEMORY_ACCESS, pageableMemoryAccess),
    NUMBER(CONCURRENT_MANAGED_ACCESS, concurrentManagedAccess),
    NUMBER(COMPUTE_PREEMPTION_SUPPORTED, computePreemptionSupported),
    NUMBER(CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM, canUseHostPointerForRegisteredMem),
    NUMBER(COOPERATIVE_LAUNCH, cooperativeLaunch),
    NUMBER(MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, sharedMemPerBlockOptin),
    NUMBER(PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES, pageableMemoryAccessUsesHostPageTables),
    NUMBER(DIRECT_MANAGED_MEM_ACCESS_FROM_HOST, directManagedMemAccessFromHost),
    NUMBER(MAX_BLOCKS_PER_MULTIPROCESSOR, maxBlocksPerMultiProcessor),
    NUMBER(MAX_ACCESS_POLICY_WINDOW_SIZE, accessPolicyMaxWindowSize),
    NUMBER(RESERVED_SHARED_MEMORY_PER_BLOCK, reservedSharedMemPerBlock),
    NUMBER(HOST_REGISTER_SUPPORTED, hostRegisterSupported),
    NUMBER(SPARSE_CUDA_ARRAY_SUPPORTED, sparseCudaArraySupported),
    NUMBER(READ_ONLY_HOST_REGISTER_SUPPORTED, hostRegisterReadOnlySupported),
    NUMBER(TIMELINE_SEMAPHORE_INTEROP_SUPPORTED, timelineSemaphoreInteropSupported),
    NUMBER(MEMORY_POOLS_SUPPORTED, memoryPoolsSupported),
    NUMBER(GPU_DIRECT_RDMA_SUPPORTED, gpuDirectRDMASupported),
    NUMBER(GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS, gpuDirectRDMAFlushWritesOptions),
    NUMBER(GPU_DIRECT_RDMA_WRITES_ORDERING, gpuDirectRDMAWritesOrdering),
    NUMBER(MEMPOOL_SUPPORTED_HANDLE_TYPES, memoryPoolSupportedHandleTypes),
    NUMBER(DEFERRED_MAPPING_CUDA_ARRAY_SUPPORTED, deferredMappingCudaArraySupported),
    NUMBER(IPC_EVENT_SUPPORTED, ipcEventSupported),
    NUMBER(CLUSTER_LAUNCH, clusterLaunch),
    NUMBER(UNIFIED_FUNCTION_POINTERS, unifiedFunctionPointers),
    NUMBER(NUMA_CONFIG, deviceNumaConfig),
    NUMBER(NUMA_ID, deviceNumaId),
    NUMBER(MPS_ENABLED, mpsEnabled),
    NUMBER(HOST_NUMA_ID, hostNumaId),
    NUMBER(GPU_PCI_DEVICE_ID, gpuPciDeviceID),
    NUMBER(GPU_PCI_SUBSYSTEM_ID, gpuPciSubsystemID),
    NUMBER(HOST_NUMA_MULTINODE_IPC_SUPPORTED, hostNumaMultinodeIpcSupported),
};

#undef NUMBER
#undef ONE_OF

// An attribute that this driver does not know stays zero.
cudaError_t read_number(const Wanted& wanted, int device, cudaDeviceProp* out) {
  int value = 0;
  cudaError_t result = try_call(&Driver::cuDeviceGetAttribute, &value, wanted.attribute, device);
  if (result == cudaErrorInvalidValue) return cudaSuccess;
  char* target = reinterpret_cast<char*>(out) + wanted.offset;
  // Some of the wide ones are unsigned numbers of 32 bits.
  size_t wide = static_cast<unsigned>(value);
  memcpy(target, wanted.wide ? static_cast<void*>(&wide) : &value,
         wanted.wide ? sizeof(wide) : sizeof(value));
  return result;
}

}  // namespace

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* out, int device) {
  if (out == nullptr) return keep(cudaErrorInvalidValue);
  memset(static_cast<void*>(out), 0, sizeof(*out));
  cudaError_t result = try_call(&Driver::cuDeviceGetName, out->name, sizeof(out->name), device);
  if (result == cudaSuccess) result = try_call(&Driver::cuDeviceGetUuid, &out->uuid, device);
  if (result == cudaSuccess) result = try_call(&Driver::cuDeviceTotalMem, &out->totalGlobalMem, device);
  for (const Wanted& wanted : kWanted)
    if (result == cudaSuccess) result = read_number(wanted, device, out);
  return keep(result);
}

namespace {

// How many of the wishes a device does not meet; what is zero is no wish.
int unmet(const cudaDeviceProp& wish, const cudaDeviceProp& is) {
  int count = wish.major > is.major || (wish.major == is.major && wish.minor > is.minor);
  count += wish.totalGlobalMem > is.totalGlobalMem;
  count += wish.multiProcessorCount > is.multiProcessorCount;
  return count + (wish.sharedMemPerBlock > is.sharedMemPerBlock);
}

}  // namespace

cudaError_t cudaChooseDevice(int* device, const cudaDeviceProp* wish) {
  if (device == nullptr || wish == nullptr) return keep(cudaErrorInvalidValue);
  int count = 0, least = -1;
  cudaError_t result = cudaGetDeviceCount(&count);
  for (int i = 0; result == cudaSuccess && i < count; ++i) {
    cudaDeviceProp is;
    result = cudaGetDeviceProperties(&is, i);
    if (result == cudaSuccess && (least < 0 || unmet(*wish, is) < least)) {
      least = unmet(*wish, is);
      *device = i;
    }
  }
  return result;
}

#include "allocations.h"

namespace probe {
namespace {

constexpr size_t kRow = 1 << 16;  // bytes in a row of what has two dimensions

template <auto... Members>
bool has() {
  return ((cu.*Members != nullptr) && ...);
}

// --- linear memory ---------------------------------------------------------------------------------------

CUresult take_v1(Memory&, size_t bytes, Block* block) {
  CUdeviceptr_v1 address = 0;
  CUresult result = cu.cuMemAlloc(&address, static_cast<unsigned>(bytes));
  block->address = address;
  return result;
}

CUresult take_pitch_v1(Memory&, size_t bytes, Block* block) {
  CUdeviceptr_v1 address = 0;
  unsigned pitch;
  CUresult result = cu.cuMemAllocPitch(&address, &pitch, kRow, static_cast<unsigned>(bytes / kRow), 4);
  block->address = address;
  return result;
}

void give_back_v1(Memory&, const Block& block) {
  CHECK_CU(cuMemFree, static_cast<CUdeviceptr_v1>(block.address));
}

CUresult take_linear(Memory&, size_t bytes, Block* block) { return cu.cuMemAlloc_v2(&block->address, bytes); }

CUresult take_pitch(Memory&, size_t bytes, Block* block) {
  size_t pitch;
  return cu.cuMemAllocPitch_v2(&block->address, &pitch, kRow, bytes / kRow, 4);
}

CUresult take_managed(Memory&, size_t bytes, Block* block) {
  return cu.cuMemAllocManaged(&block->address, bytes, CU_MEM_ATTACH_GLOBAL);
}

void give_back_linear(Memory&, const Block& block) { CHECK_CU(cuMemFree_v2, block.address); }

// --- in stream order -------------------------------------------------------------------------------------

template <auto Member>
CUresult take_async(Memory& memory, size_t bytes, Block* block) {
  return (cu.*Member)(&block->address, bytes, memory.stream);
}

template <auto Member>
CUresult take_from_pool(Memory& memory, size_t bytes, Block* block) {
  if (memory.own_pool == nullptr) {
    CUmemPoolProps properties{};
    properties.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, {memory.device}};
    CUresult result = cu.cuMemPoolCreate(&memory.own_pool, &properties);
    if (result != CUDA_SUCCESS) return result;
  }
  return (cu.*Member)(&block->address, bytes, memory.own_pool, memory.stream);
}

void give_back_async(Memory& memory, const Block& block) {
  CHECK_CU(cuMemFreeAsync, block.address, memory.stream);
  CHECK_CU(cuStreamSynchronize, memory.stream);
  if (memory.default_pool != nullptr) CHECK_CU(cuMemPoolTrimTo, memory.default_pool, 0);
  if (memory.own_pool != nullptr) CHECK_CU(cuMemPoolTrimTo, memory.own_pool, 0);
}

// --- by handle -------------------------------------------------------------------------------------------

CUresult take_handle(Memory& memory, size_t bytes, Block* block) {
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, {memory.device}};
  return cu.cuMemCreate(&block->handle, bytes, &properties, 0);
}

void give_back_handle(Memory&, const Block& block) { CHECK_CU(cuMemRelease, block.handle); }

// --- arrays ----------------------------------------------------------------------------------------------

template <typename Descriptor>
Descriptor flat(size_t bytes) {
  Descriptor descriptor{};
  descriptor.Width = 4096;  // floats
  descriptor.Height = static_cast<decltype(descriptor.Height)>(bytes / 4096 / 4);
  descriptor.Format = CU_AD_FORMAT_FLOAT;
  descriptor.NumChannels = 1;
  return descriptor;
}

CUresult take_array_v1(Memory&, size_t bytes, Block* block) {
  auto descriptor = flat<CUDA_ARRAY_DESCRIPTOR_v1>(bytes);
  return cu.cuArrayCreate(&block->array, &descriptor);
}

CUresult take_array(Memory&, size_t bytes, Block* block) {
  auto descriptor = flat<CUDA_ARRAY_DESCRIPTOR>(bytes);
  return cu.cuArrayCreate_v2(&block->array, &descriptor);
}

CUresult take_array3d_v1(Memory&, size_t bytes, Block* block) {
  auto descriptor = flat<CUDA_ARRAY3D_DESCRIPTOR_v1>(bytes);
  return cu.cuArray3DCreate(&block->array, &descriptor);
}

CUresult take_array3d(Memory&, size_t bytes, Block* block) {
  auto descriptor = flat<CUDA_ARRAY3D_DESCRIPTOR>(bytes);
  return cu.cuArray3DCreate_v2(&block->array, &descriptor);
}

void give_back_array(Memory&, const Block& block) { CHECK_CU(cuArrayDestroy, block.array); }

CUresult take_mipmap(Memory&, size_t bytes, Block* block) {
  auto descriptor = flat<CUDA_ARRAY3D_DESCRIPTOR>(bytes);
  return cu.cuMipmappedArrayCreate(&block->mipmap, &descriptor, 1);
}

void give_back_mipmap(Memory&, const Block& block) { CHECK_CU(cuMipmappedArrayDestroy, block.mipmap); }

// --- in graphs -------------------------------------------------------------------------------------------

void discard(Memory& memory, const Block& block) {
  if (block.exec != nullptr) CHECK_CU(cuGraphExecDestroy, block.exec);
  if (block.graph != nullptr) CHECK_CU(cuGraphDestroy, block.graph);
  CHECK_CU(cuDeviceGraphMemTrim, memory.device);
}

// The graph's memory may be refused when it is instantiated or when it is launched.
CUresult run_graph(Memory& memory, Block* block) {
  CUresult result = cu.cuGraphInstantiateWithFlags(&block->exec, block->graph, 0);
  if (result == CUDA_SUCCESS) result = cu.cuGraphLaunch(block->exec, memory.stream);
  if (result == CUDA_SUCCESS) result = cu.cuStreamSynchronize(memory.stream);
  if (result != CUDA_SUCCESS) discard(memory, *block);
  return result;
}

CUresult take_in_graph(Memory& memory, size_t bytes, Block* block) {
  CUDA_MEM_ALLOC_NODE_PARAMS parameters{};
  parameters.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  parameters.poolProps.location = {CU_MEM_LOCATION_TYPE_DEVICE, {memory.device}};
  parameters.bytesize = bytes;
  CUgraphNode node;
  CHECK_CU(cuGraphCreate, &block->graph, 0);
  CUresult result = cu.cuGraphAddMemAllocNode(&node, block->graph, nullptr, 0, &parameters);
  if (result != CUDA_SUCCESS) {
    discard(memory, *block);
    return result;
  }
  block->address = parameters.dptr;
  return run_graph(memory, block);
}

CUresult take_captured(Memory& memory, size_t bytes, Block* block) {
  CHECK_CU(cuStreamBeginCapture_v2, memory.stream, CU_STREAM_CAPTURE_MODE_RELAXED);
  CUresult result = cu.cuMemAllocAsync(&block->address, bytes, memory.stream);
  CUresult ended = cu.cuStreamEndCapture(memory.stream, &block->graph);
  if (result == CUDA_SUCCESS) result = ended;
  if (result != CUDA_SUCCESS) {
    discard(memory, *block);
    return result;
  }
  return run_graph(memory, block);
}

void give_back_graph(Memory& memory, const Block& block) {
  CHECK_CU(cuMemFree_v2, block.address);
  discard(memory, block);
}

// --- all of them -----------------------------------------------------------------------------------------

constexpr auto kAsync =
    &has<&Calls::cuMemFreeAsync, &Calls::cuDeviceGetDefaultMemPool, &Calls::cuMemPoolTrimTo>;

template <auto... Members>
bool has_async() {
  return kAsync() && has<Members...>();
}

template <auto... Members>
bool has_graph() {
  return has<&Calls::cuDeviceGraphMemTrim, &Calls::cuGraphInstantiateWithFlags, Members...>();
}

}  // namespace

Memory::Memory(const Device& device) : device(device.device) {
  CHECK_CU(cuStreamCreate, &stream, CU_STREAM_NON_BLOCKING);
  if (kAsync()) CHECK_CU(cuDeviceGetDefaultMemPool, &default_pool, device.device);
}

const std::vector<Allocation>& all_allocations() {
  using C = Calls;
  static const std::vector<Allocation> allocations = {
      {"cuMemAlloc", has<&C::cuMemAlloc, &C::cuMemFree>, take_v1, give_back_v1},
      {"cuMemAlloc_v2", has<&C::cuMemAlloc_v2>, take_linear, give_back_linear},
      {"cuMemAllocPitch", has<&C::cuMemAllocPitch, &C::cuMemFree>, take_pitch_v1, give_back_v1},
      {"cuMemAllocPitch_v2", has<&C::cuMemAllocPitch_v2>, take_pitch, give_back_linear},
      {"cuMemAllocManaged", has<&C::cuMemAllocManaged>, take_managed, give_back_linear},
      {"cuMemAllocAsync", has_async<&C::cuMemAllocAsync>, take_async<&C::cuMemAllocAsync>, give_back_async},
      {"cuMemAllocAsync_ptsz", has_async<&C::cuMemAllocAsync_ptsz>, take_async<&C::cuMemAllocAsync_ptsz>,
       give_back_async},
      {"cuMemAllocFromPoolAsync", has_async<&C::cuMemAllocFromPoolAsync, &C::cuMemPoolCreate>,
       take_from_pool<&C::cuMemAllocFromPoolAsync>, give_back_async},
      {"cuMemAllocFromPoolAsync_ptsz", has_async<&C::cuMemAllocFromPoolAsync_ptsz, &C::cuMemPoolCreate>,
       take_from_pool<&C::cuMemAllocFromPoolAsync_ptsz>, give_back_async},
      {"cuMemCreate", has<&C::cuMemCreate, &C::cuMemRelease>, take_handle, give_back_handle},
      {"cuArrayCreate", has<&C::cuArrayCreate>, take_array_v1, give_back_array},
      {"cuArrayCreate_v2", has<&C::cuArrayCreate_v2>, take_array, give_back_array},
      {"cuArray3DCreate", has<&C::cuArray3DCreate>, take_array3d_v1, give_back_array},
      {"cuArray3DCreate_v2", has<&C::cuArray3DCreate_v2>, take_array3d, give_back_array},
      {"cuMipmappedArrayCreate", has<&C::cuMipmappedArrayCreate, &C::cuMipmappedArrayDestroy>, take_mipmap,
       give_back_mipmap},
      {"cuGraphAddMemAllocNode", has_graph<&C::cuGraphAddMemAllocNode>, take_in_graph, give_back_graph},
      {"cuMemAllocAsync in a capture", has_graph<&C::cuMemAllocAsync, &C::cuStreamBeginCapture_v2>,
       take_captured, give_back_graph},
  };
  return allocations;
}

const Allocation* allocation_named(const std::string& name) {
  for (const Allocation& allocation : all_allocations()) {
    if (allocation.name == name) return &allocation;
  }
  return nullptr;
}

}  // namespace probe

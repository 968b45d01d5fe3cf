// What can be asked about an address, and advice about it.
#include <cstring>

#include "captures.h"
#include "implementations.h"
#include "memory.h"
#include "pools.h"
#include "virtual_memory.h"

namespace standin::driver {
namespace {

template <typename T>
CUresult put(void* out, T value) {
  *static_cast<T*>(out) = value;
  return CUDA_SUCCESS;
}

bool host(const Range& range) { return range.origin == Origin::kHost || range.origin == Origin::kRegistered; }

unsigned long long handle_types(const Range& range) {
  return range.physical != nullptr ? range.physical->prop.requestedHandleTypes : 0;
}

CUresult answer(const Range& range, CUpointer_attribute attribute, uint64_t address, void* out) {
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
      return put(out, range.context);
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
      return put<unsigned int>(out, host(range) ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE);
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
      return put<CUdeviceptr>(out, address);
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
      if (!host(range) && range.origin != Origin::kManaged) return CUDA_ERROR_INVALID_VALUE;
      return put(out, reinterpret_cast<void*>(address));
    case CU_POINTER_ATTRIBUTE_P2P_TOKENS:
      return CUDA_ERROR_NOT_SUPPORTED;
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
      return put<unsigned int>(out, range.sync_memops);
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
      return put<unsigned long long>(out, range.id);
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
      return put<unsigned int>(out, range.origin == Origin::kManaged);
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
      return put<int>(out, 0);
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
      return put<int>(out, range.origin == Origin::kDevice);
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
      return put<CUdeviceptr>(out, range.base);
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
      return put<size_t>(out, range.size);
    case CU_POINTER_ATTRIBUTE_MAPPED:
      return put<int>(out, accessible(range));
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
      return put<unsigned long long>(out, handle_types(range));
    case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
    case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
      return put<int>(out, 0);
    case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
      return put<int>(out, range.origin == Origin::kMapped ? static_cast<int>(range.flags)
                                                           : CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READWRITE);
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
      return put(out, range.pool);
    case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
      return put<size_t>(out, range.size);
    case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
      return put<CUdeviceptr>(out, range.base);
    case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
      return put<unsigned long long>(out, range.id);
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

size_t size_of(CUpointer_attribute attribute) {
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
    case CU_POINTER_ATTRIBUTE_MAPPED:
    case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
    case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
    case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
      return sizeof(int);
    default:
      return sizeof(uint64_t);
  }
}

// For the form that asks about many things at once, unknown memory is no error: everything is 0.
void answer_nothing(CUpointer_attribute attribute, void* out) {
  memset(out, attribute == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL ? 0xfe : 0, size_of(attribute));
  if (attribute == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL) put<int>(out, CU_DEVICE_INVALID);
}

CUresult check_managed(CUdeviceptr address, size_t count) {
  Range* range = find_range(address);
  if (count == 0 || range == nullptr || range->origin != Origin::kManaged) return CUDA_ERROR_INVALID_VALUE;
  return address + count <= range->base + range->size ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

// Nothing moves: the device's memory is the host's.
CUresult prefetch(CUdeviceptr address, size_t count, CUstream handle) {
  CUstream stream;
  TRY(find_working_stream(handle, &stream));
  TRY(check_managed(address, count));
  if (stream->capture != nullptr) return not_while_captured(stream);
  submit(stream, kMark);
  return CUDA_SUCCESS;
}

CUresult prefetch_all(const CUdeviceptr* addresses, const size_t* sizes, size_t count,
                      unsigned long long flags, CUstream stream) {
  if (addresses == nullptr || sizes == nullptr || count == 0 || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < count; ++i) TRY(prefetch(addresses[i], sizes[i], stream));
  return CUDA_SUCCESS;
}

}  // namespace

CUresult pointer_get_attribute(void* data, CUpointer_attribute attribute, CUdeviceptr ptr) {
  if (data == nullptr) return CUDA_ERROR_INVALID_VALUE;
  CUcontext context;
  TRY(current(&context));
  Range* range = find_range(ptr);
  return range != nullptr ? answer(*range, attribute, ptr, data) : CUDA_ERROR_INVALID_VALUE;
}

CUresult pointer_get_attributes(unsigned int numAttributes, CUpointer_attribute* attributes, void** data,
                                CUdeviceptr ptr) {
  if (numAttributes == 0 || attributes == nullptr || data == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Range* range = find_range(ptr);
  for (unsigned int i = 0; i < numAttributes; ++i)
    if (range == nullptr || answer(*range, attributes[i], ptr, data[i]) != CUDA_SUCCESS)
      answer_nothing(attributes[i], data[i]);
  return CUDA_SUCCESS;
}

CUresult pointer_set_attribute(const void* value, CUpointer_attribute attribute, CUdeviceptr ptr) {
  Range* range = find_range(ptr);
  if (value == nullptr || range == nullptr || attribute != CU_POINTER_ATTRIBUTE_SYNC_MEMOPS)
    return CUDA_ERROR_INVALID_VALUE;
  range->sync_memops = *static_cast<const unsigned int*>(value);
  return CUDA_SUCCESS;
}

CUresult mem_prefetch_async(CUdeviceptr devPtr, size_t count, CUmemLocation, unsigned int flags,
                            CUstream hStream) {
  return flags == 0 ? prefetch(devPtr, count, hStream) : CUDA_ERROR_INVALID_VALUE;
}

CUresult mem_prefetch_async_v1(CUdeviceptr devPtr, size_t count, CUdevice dstDevice, CUstream hStream) {
  if (dstDevice != 0 && dstDevice != CU_DEVICE_CPU) return CUDA_ERROR_INVALID_DEVICE;
  return prefetch(devPtr, count, hStream);
}

CUresult mem_prefetch_batch_async(CUdeviceptr* dptrs, size_t* sizes, size_t count,
                                  CUmemLocation* prefetchLocs, size_t*, size_t numPrefetchLocs,
                                  unsigned long long flags, CUstream hStream) {
  if (prefetchLocs == nullptr || numPrefetchLocs == 0) return CUDA_ERROR_INVALID_VALUE;
  return prefetch_all(dptrs, sizes, count, flags, hStream);
}

CUresult mem_discard_batch_async(CUdeviceptr* dptrs, size_t* sizes, size_t count, unsigned long long flags,
                                 CUstream hStream) {
  return prefetch_all(dptrs, sizes, count, flags, hStream);
}

CUresult mem_discard_and_prefetch_batch_async(CUdeviceptr* dptrs, size_t* sizes, size_t count,
                                              CUmemLocation* prefetchLocs, size_t*, size_t numPrefetchLocs,
                                              unsigned long long flags, CUstream hStream) {
  if (prefetchLocs == nullptr || numPrefetchLocs == 0) return CUDA_ERROR_INVALID_VALUE;
  return prefetch_all(dptrs, sizes, count, flags, hStream);
}

CUresult mem_advise(CUdeviceptr devPtr, size_t count, CUmem_advise advice, CUmemLocation) {
  if (advice < CU_MEM_ADVISE_SET_READ_MOSTLY || advice > CU_MEM_ADVISE_UNSET_ACCESSED_BY)
    return CUDA_ERROR_INVALID_VALUE;
  return check_managed(devPtr, count);
}

CUresult mem_advise_v1(CUdeviceptr devPtr, size_t count, CUmem_advise advice, CUdevice) {
  return mem_advise(devPtr, count, advice, {});
}

CUresult stream_attach_mem_async(CUstream hStream, CUdeviceptr dptr, size_t, unsigned int flags) {
  if (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST && flags != CU_MEM_ATTACH_SINGLE)
    return CUDA_ERROR_INVALID_VALUE;
  return prefetch(dptr, 1, hStream);
}

CUresult mem_range_get_attribute(void* data, size_t dataSize, CUmem_range_attribute, CUdeviceptr devPtr,
                                 size_t count) {
  if (data == nullptr || dataSize == 0) return CUDA_ERROR_INVALID_VALUE;
  TRY(check_managed(devPtr, count));
  memset(data, 0, dataSize);  // never advised, at home on the device
  return CUDA_SUCCESS;
}

CUresult mem_range_get_attributes(void** data, size_t* dataSizes, CUmem_range_attribute* attributes,
                                  size_t numAttributes, CUdeviceptr devPtr, size_t count) {
  if (data == nullptr || dataSizes == nullptr || attributes == nullptr || numAttributes == 0)
    return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < numAttributes; ++i)
    TRY(mem_range_get_attribute(data[i], dataSizes[i], attributes[i], devPtr, count));
  return CUDA_SUCCESS;
}

}  // namespace standin::driver

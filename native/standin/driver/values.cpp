// Values that a stream writes to memory or waits for in it.
#include <cstring>

#include "captures.h"
#include "copies.h"
#include "implementations.h"
#include "work.h"

namespace standin::driver {
namespace {

constexpr unsigned int kCompare = 3;  // the bits of a wait's flags that say how

template <typename T>
T load(uint64_t address) {
  return __atomic_load_n(reinterpret_cast<T*>(address), __ATOMIC_ACQUIRE);
}

template <typename T>
bool holds(uint64_t address, T wanted, unsigned int flags) {
  T now = load<T>(address);
  switch (flags & kCompare) {
    case CU_STREAM_WAIT_VALUE_GEQ:
      return static_cast<std::make_signed_t<T>>(now - wanted) >= 0;
    case CU_STREAM_WAIT_VALUE_EQ:
      return now == wanted;
    case CU_STREAM_WAIT_VALUE_AND:
      return (now & wanted) != 0;
    default:
      return static_cast<T>(~(now | wanted)) != 0;
  }
}

template <typename T>
void write(uint64_t address, T value) {
  __atomic_store_n(reinterpret_cast<T*>(address), value, __ATOMIC_RELEASE);
  tell_change();
}

void perform_one(CUstream stream, const CUstreamBatchMemOpParams& op) {
  uint64_t address = op.writeValue.address;
  switch (op.operation) {
    case CU_STREAM_MEM_OP_WAIT_VALUE_32:
      submit_host(stream, nullptr,
                  [op] { return holds(op.waitValue.address, op.waitValue.value, op.waitValue.flags); });
      break;
    case CU_STREAM_MEM_OP_WAIT_VALUE_64:
      submit_host(stream, nullptr,
                  [op] { return holds(op.waitValue.address, op.waitValue.value64, op.waitValue.flags); });
      break;
    case CU_STREAM_MEM_OP_WRITE_VALUE_32:
      submit(stream, kMark);
      after(stream->hosts, [=, value = op.writeValue.value] { write(address, value); });
      break;
    case CU_STREAM_MEM_OP_WRITE_VALUE_64:
      submit(stream, kMark);
      after(stream->hosts, [=, value = op.writeValue.value64] { write(address, value); });
      break;
    default:
      submit(stream, kMark);
  }
}

CUresult check_one(const CUstreamBatchMemOpParams& op) {
  size_t bytes = 0;
  switch (op.operation) {
    case CU_STREAM_MEM_OP_WAIT_VALUE_32:
    case CU_STREAM_MEM_OP_WRITE_VALUE_32:
      bytes = 4;
      break;
    case CU_STREAM_MEM_OP_WAIT_VALUE_64:
    case CU_STREAM_MEM_OP_WRITE_VALUE_64:
      bytes = 8;
      break;
    case CU_STREAM_MEM_OP_BARRIER:
    case CU_STREAM_MEM_OP_FLUSH_REMOTE_WRITES:
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_NOT_SUPPORTED;
  }
  uint64_t address = op.writeValue.address;
  return address % bytes == 0 && reachable(address, bytes) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult batch(CUstream handle, unsigned int count, CUstreamBatchMemOpParams* ops) {
  if (count == 0 || count > 256 || ops == nullptr) return CUDA_ERROR_INVALID_VALUE;
  CUstream stream;
  TRY(find_working_stream(handle, &stream));
  for (unsigned int i = 0; i < count; ++i) TRY(check_one(ops[i]));
  Operation work = operation(CU_GRAPH_NODE_TYPE_BATCH_MEM_OP);
  work.params.memOp = {stream->context, count, ops, 0};
  work.values.assign(ops, ops + count);
  return issue(stream, work);
}

template <typename Fill>
CUresult one(CUstream stream, CUstreamBatchMemOpType type, Fill fill) {
  CUstreamBatchMemOpParams op{};
  op.operation = type;
  fill(op);
  return batch(stream, 1, &op);
}

}  // namespace

CUresult perform_values(CUstream stream, const Operation& work) {
  for (const CUstreamBatchMemOpParams& op : work.values) TRY(check_one(op));
  for (const CUstreamBatchMemOpParams& op : work.values) perform_one(stream, op);
  return CUDA_SUCCESS;
}

CUresult stream_batch_mem_op(CUstream stream, unsigned int count, CUstreamBatchMemOpParams* paramArray,
                             unsigned int flags) {
  return flags == 0 ? batch(stream, count, paramArray) : CUDA_ERROR_INVALID_VALUE;
}

CUresult stream_wait_value32(CUstream stream, CUdeviceptr addr, cuuint32_t value, unsigned int flags) {
  return one(stream, CU_STREAM_MEM_OP_WAIT_VALUE_32, [&](CUstreamBatchMemOpParams& op) {
    op.waitValue.address = addr, op.waitValue.value = value, op.waitValue.flags = flags;
  });
}

CUresult stream_wait_value64(CUstream stream, CUdeviceptr addr, cuuint64_t value, unsigned int flags) {
  return one(stream, CU_STREAM_MEM_OP_WAIT_VALUE_64, [&](CUstreamBatchMemOpParams& op) {
    op.waitValue.address = addr, op.waitValue.value64 = value, op.waitValue.flags = flags;
  });
}

CUresult stream_write_value32(CUstream stream, CUdeviceptr addr, cuuint32_t value, unsigned int flags) {
  return one(stream, CU_STREAM_MEM_OP_WRITE_VALUE_32, [&](CUstreamBatchMemOpParams& op) {
    op.writeValue.address = addr, op.writeValue.value = value, op.writeValue.flags = flags;
  });
}

CUresult stream_write_value64(CUstream stream, CUdeviceptr addr, cuuint64_t value, unsigned int flags) {
  return one(stream, CU_STREAM_MEM_OP_WRITE_VALUE_64, [&](CUstreamBatchMemOpParams& op) {
    op.writeValue.address = addr, op.writeValue.value64 = value, op.writeValue.flags = flags;
  });
}

}  // namespace standin::driver

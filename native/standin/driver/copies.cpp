// Every way to ask for a copy.
#include "copies.h"

#include "handles.h"
#include "implementations.h"

namespace standin::driver {
namespace {

Side host(const void* pointer) {
  return {CU_MEMORYTYPE_HOST, reinterpret_cast<uint64_t>(pointer), nullptr, 0};
}
Side gpu(CUdeviceptr address) { return {CU_MEMORYTYPE_DEVICE, address, nullptr, 0}; }
Side any(CUdeviceptr address) { return {CU_MEMORYTYPE_UNIFIED, address, nullptr, 0}; }
Side array(CUarray handle, size_t offset) { return {CU_MEMORYTYPE_ARRAY, 0, handle, offset}; }

CUresult now(const Side& from, const Side& to, size_t bytes) {
  return copy_in(nullptr, line(from, to, bytes), true);
}

// Within the device: the host does not wait.
CUresult within(const Side& from, const Side& to, size_t bytes) {
  return copy_in(nullptr, line(from, to, bytes), false);
}

CUresult later(CUstream stream, const Side& from, const Side& to, size_t bytes) {
  return copy_in(stream, line(from, to, bytes), false);
}

CUDA_MEMCPY3D solid(const CUDA_MEMCPY2D& c) {
  CUDA_MEMCPY3D s{};
  s.srcXInBytes = c.srcXInBytes, s.srcY = c.srcY, s.srcMemoryType = c.srcMemoryType, s.srcHost = c.srcHost;
  s.srcDevice = c.srcDevice, s.srcArray = c.srcArray, s.srcPitch = c.srcPitch;
  s.dstXInBytes = c.dstXInBytes, s.dstY = c.dstY, s.dstMemoryType = c.dstMemoryType, s.dstHost = c.dstHost;
  s.dstDevice = c.dstDevice, s.dstArray = c.dstArray, s.dstPitch = c.dstPitch;
  s.WidthInBytes = c.WidthInBytes, s.Height = c.Height, s.Depth = 1;
  return s;
}

CUDA_MEMCPY2D wide(const CUDA_MEMCPY2D_v1& c) {
  return {c.srcXInBytes, c.srcY,        c.srcMemoryType, c.srcHost,       c.srcDevice, c.srcArray,
          c.srcPitch,    c.dstXInBytes, c.dstY,          c.dstMemoryType, c.dstHost,   c.dstDevice,
          c.dstArray,    c.dstPitch,    c.WidthInBytes,  c.Height};
}

CUDA_MEMCPY3D wide(const CUDA_MEMCPY3D_v1& c) {
  CUDA_MEMCPY3D w{};
  w.srcXInBytes = c.srcXInBytes, w.srcY = c.srcY, w.srcZ = c.srcZ, w.srcLOD = c.srcLOD;
  w.srcMemoryType = c.srcMemoryType, w.srcHost = c.srcHost, w.srcDevice = c.srcDevice,
  w.srcArray = c.srcArray;
  w.srcPitch = c.srcPitch, w.srcHeight = c.srcHeight;
  w.dstXInBytes = c.dstXInBytes, w.dstY = c.dstY, w.dstZ = c.dstZ, w.dstLOD = c.dstLOD;
  w.dstMemoryType = c.dstMemoryType, w.dstHost = c.dstHost, w.dstDevice = c.dstDevice,
  w.dstArray = c.dstArray;
  w.dstPitch = c.dstPitch, w.dstHeight = c.dstHeight;
  w.WidthInBytes = c.WidthInBytes, w.Height = c.Height, w.Depth = c.Depth;
  return w;
}

// One device: the contexts must be alive, that is all.
CUresult of_peer(const CUDA_MEMCPY3D_PEER& c, CUDA_MEMCPY3D* out) {
  if (!is_context(c.srcContext) || !is_context(c.dstContext)) return CUDA_ERROR_INVALID_CONTEXT;
  CUDA_MEMCPY3D s{};
  s.srcXInBytes = c.srcXInBytes, s.srcY = c.srcY, s.srcZ = c.srcZ, s.srcMemoryType = c.srcMemoryType;
  s.srcHost = c.srcHost, s.srcDevice = c.srcDevice, s.srcArray = c.srcArray, s.srcPitch = c.srcPitch;
  s.srcHeight = c.srcHeight;
  s.dstXInBytes = c.dstXInBytes, s.dstY = c.dstY, s.dstZ = c.dstZ, s.dstMemoryType = c.dstMemoryType;
  s.dstHost = c.dstHost, s.dstDevice = c.dstDevice, s.dstArray = c.dstArray, s.dstPitch = c.dstPitch;
  s.dstHeight = c.dstHeight;
  s.WidthInBytes = c.WidthInBytes, s.Height = c.Height, s.Depth = c.Depth;
  *out = s;
  return CUDA_SUCCESS;
}

CUresult peers(CUcontext one, CUcontext other) {
  return is_context(one) && is_context(other) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult operand(const CUmemcpy3DOperand& o, Side* side, size_t* x, size_t* y, size_t* z, size_t* pitch,
                 size_t* height) {
  if (o.type == CU_MEMCPY_OPERAND_TYPE_ARRAY) {
    if (!alive(o.op.array.array)) return CUDA_ERROR_INVALID_VALUE;
    *side = array(o.op.array.array, 0);
    size_t element = o.op.array.array->element_bytes;
    *x = o.op.array.offset.x * element, *y = o.op.array.offset.y, *z = o.op.array.offset.z;
    return CUDA_SUCCESS;
  }
  if (o.type != CU_MEMCPY_OPERAND_TYPE_POINTER) return CUDA_ERROR_INVALID_VALUE;
  *side = any(o.op.ptr.ptr);
  *pitch = o.op.ptr.rowLength, *height = o.op.ptr.layerHeight;
  return CUDA_SUCCESS;
}

CUresult copy_operation(const CUDA_MEMCPY3D_BATCH_OP& op, CUstream stream) {
  Side from, to;
  CUDA_MEMCPY3D c{};
  size_t sx = 0, sy = 0, sz = 0, sp = 0, sh = 0, dx = 0, dy = 0, dz = 0, dp = 0, dh = 0;
  TRY(operand(op.src, &from, &sx, &sy, &sz, &sp, &sh));
  TRY(operand(op.dst, &to, &dx, &dy, &dz, &dp, &dh));
  size_t element = from.array != nullptr ? from.array->element_bytes
                   : to.array != nullptr ? to.array->element_bytes
                                         : 1;
  c = line(from, to, op.extent.width * element);
  c.srcXInBytes = sx, c.srcY = sy, c.srcZ = sz, c.srcPitch = sp * element, c.srcHeight = sh;
  c.dstXInBytes = dx, c.dstY = dy, c.dstZ = dz, c.dstPitch = dp * element, c.dstHeight = dh;
  c.Height = op.extent.height, c.Depth = op.extent.depth;
  return copy_in(stream, c, false);
}

bool explicit_stream(CUstream stream) { return stream != nullptr && stream != CU_STREAM_LEGACY; }

}  // namespace

CUresult copy(CUdeviceptr dst, CUdeviceptr src, size_t ByteCount) {
  return now(any(src), any(dst), ByteCount);
}
CUresult copy_async(CUdeviceptr dst, CUdeviceptr src, size_t ByteCount, CUstream hStream) {
  return later(hStream, any(src), any(dst), ByteCount);
}
CUresult copy_htod(CUdeviceptr dstDevice, const void* srcHost, size_t ByteCount) {
  return now(host(srcHost), gpu(dstDevice), ByteCount);
}
CUresult copy_htod_async(CUdeviceptr dstDevice, const void* srcHost, size_t ByteCount, CUstream hStream) {
  return later(hStream, host(srcHost), gpu(dstDevice), ByteCount);
}
CUresult copy_dtoh(void* dstHost, CUdeviceptr srcDevice, size_t ByteCount) {
  return now(gpu(srcDevice), host(dstHost), ByteCount);
}
CUresult copy_dtoh_async(void* dstHost, CUdeviceptr srcDevice, size_t ByteCount, CUstream hStream) {
  return later(hStream, gpu(srcDevice), host(dstHost), ByteCount);
}
CUresult copy_dtod(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount) {
  return within(gpu(srcDevice), gpu(dstDevice), ByteCount);
}
CUresult copy_dtod_async(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount, CUstream hStream) {
  return later(hStream, gpu(srcDevice), gpu(dstDevice), ByteCount);
}
CUresult copy_dtoa(CUarray dstArray, size_t dstOffset, CUdeviceptr srcDevice, size_t ByteCount) {
  return within(gpu(srcDevice), array(dstArray, dstOffset), ByteCount);
}
CUresult copy_atod(CUdeviceptr dstDevice, CUarray srcArray, size_t srcOffset, size_t ByteCount) {
  return within(array(srcArray, srcOffset), gpu(dstDevice), ByteCount);
}
CUresult copy_htoa(CUarray dstArray, size_t dstOffset, const void* srcHost, size_t ByteCount) {
  return now(host(srcHost), array(dstArray, dstOffset), ByteCount);
}
CUresult copy_htoa_async(CUarray dstArray, size_t dstOffset, const void* srcHost, size_t ByteCount,
                         CUstream hStream) {
  return later(hStream, host(srcHost), array(dstArray, dstOffset), ByteCount);
}
CUresult copy_atoh(void* dstHost, CUarray srcArray, size_t srcOffset, size_t ByteCount) {
  return now(array(srcArray, srcOffset), host(dstHost), ByteCount);
}
CUresult copy_atoh_async(void* dstHost, CUarray srcArray, size_t srcOffset, size_t ByteCount,
                         CUstream hStream) {
  return later(hStream, array(srcArray, srcOffset), host(dstHost), ByteCount);
}
CUresult copy_atoa(CUarray dstArray, size_t dstOffset, CUarray srcArray, size_t srcOffset, size_t ByteCount) {
  return within(array(srcArray, srcOffset), array(dstArray, dstOffset), ByteCount);
}

CUresult copy_peer(CUdeviceptr dstDevice, CUcontext dstContext, CUdeviceptr srcDevice, CUcontext srcContext,
                   size_t ByteCount) {
  TRY(peers(dstContext, srcContext));
  return within(any(srcDevice), any(dstDevice), ByteCount);
}
CUresult copy_peer_async(CUdeviceptr dstDevice, CUcontext dstContext, CUdeviceptr srcDevice,
                         CUcontext srcContext, size_t ByteCount, CUstream hStream) {
  TRY(peers(dstContext, srcContext));
  return later(hStream, any(srcDevice), any(dstDevice), ByteCount);
}

CUresult copy2d(const CUDA_MEMCPY2D* pCopy) {
  return pCopy != nullptr ? copy_in(nullptr, solid(*pCopy), true) : CUDA_ERROR_INVALID_VALUE;
}
CUresult copy2d_unaligned(const CUDA_MEMCPY2D* pCopy) { return copy2d(pCopy); }
CUresult copy2d_async(const CUDA_MEMCPY2D* pCopy, CUstream hStream) {
  return pCopy != nullptr ? copy_in(hStream, solid(*pCopy), false) : CUDA_ERROR_INVALID_VALUE;
}
CUresult copy3d(const CUDA_MEMCPY3D* pCopy) {
  return pCopy != nullptr ? copy_in(nullptr, *pCopy, true) : CUDA_ERROR_INVALID_VALUE;
}
CUresult copy3d_async(const CUDA_MEMCPY3D* pCopy, CUstream hStream) {
  return pCopy != nullptr ? copy_in(hStream, *pCopy, false) : CUDA_ERROR_INVALID_VALUE;
}
CUresult copy3d_peer(const CUDA_MEMCPY3D_PEER* pCopy) {
  CUDA_MEMCPY3D c;
  if (pCopy == nullptr) return CUDA_ERROR_INVALID_VALUE;
  TRY(of_peer(*pCopy, &c));
  return copy_in(nullptr, c, true);
}
CUresult copy3d_peer_async(const CUDA_MEMCPY3D_PEER* pCopy, CUstream hStream) {
  CUDA_MEMCPY3D c;
  if (pCopy == nullptr) return CUDA_ERROR_INVALID_VALUE;
  TRY(of_peer(*pCopy, &c));
  return copy_in(hStream, c, false);
}

CUresult copy2d_v1(const CUDA_MEMCPY2D_v1* pCopy) {
  return pCopy != nullptr ? copy_in(nullptr, solid(wide(*pCopy)), true) : CUDA_ERROR_INVALID_VALUE;
}
CUresult copy2d_unaligned_v1(const CUDA_MEMCPY2D_v1* pCopy) { return copy2d_v1(pCopy); }
CUresult copy2d_async_v1(const CUDA_MEMCPY2D_v1* pCopy, CUstream hStream) {
  return pCopy != nullptr ? copy_in(hStream, solid(wide(*pCopy)), false) : CUDA_ERROR_INVALID_VALUE;
}
CUresult copy3d_v1(const CUDA_MEMCPY3D_v1* pCopy) {
  return pCopy != nullptr ? copy_in(nullptr, wide(*pCopy), true) : CUDA_ERROR_INVALID_VALUE;
}
CUresult copy3d_async_v1(const CUDA_MEMCPY3D_v1* pCopy, CUstream hStream) {
  return pCopy != nullptr ? copy_in(hStream, wide(*pCopy), false) : CUDA_ERROR_INVALID_VALUE;
}

CUresult copy_batch_async(CUdeviceptr* dsts, CUdeviceptr* srcs, size_t* sizes, size_t count,
                          CUmemcpyAttributes* attrs, size_t* attrsIdxs, size_t numAttrs, CUstream hStream) {
  bool given =
      dsts != nullptr && srcs != nullptr && sizes != nullptr && attrs != nullptr && attrsIdxs != nullptr;
  if (!given || count == 0 || numAttrs == 0 || numAttrs > count) return CUDA_ERROR_INVALID_VALUE;
  if (attrsIdxs[0] != 0 || !explicit_stream(hStream)) return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < count; ++i) TRY(later(hStream, any(srcs[i]), any(dsts[i]), sizes[i]));
  return CUDA_SUCCESS;
}

CUresult copy_batch_async_v1(CUdeviceptr* dsts, CUdeviceptr* srcs, size_t* sizes, size_t count,
                             CUmemcpyAttributes* attrs, size_t* attrsIdxs, size_t numAttrs, size_t* failIdx,
                             CUstream hStream) {
  if (failIdx != nullptr) *failIdx = SIZE_MAX;
  return copy_batch_async(dsts, srcs, sizes, count, attrs, attrsIdxs, numAttrs, hStream);
}

CUresult copy3d_batch_async(size_t numOps, CUDA_MEMCPY3D_BATCH_OP* opList, unsigned long long flags,
                            CUstream hStream) {
  if (numOps == 0 || opList == nullptr || flags != 0 || !explicit_stream(hStream))
    return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < numOps; ++i) TRY(copy_operation(opList[i], hStream));
  return CUDA_SUCCESS;
}

CUresult copy3d_batch_async_v1(size_t numOps, CUDA_MEMCPY3D_BATCH_OP* opList, size_t* failIdx,
                               unsigned long long flags, CUstream hStream) {
  if (failIdx != nullptr) *failIdx = SIZE_MAX;
  return copy3d_batch_async(numOps, opList, flags, hStream);
}

}  // namespace standin::driver

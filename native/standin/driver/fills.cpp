// Every way to fill memory.
#include "copies.h"
#include "implementations.h"

namespace standin::driver {
namespace {

CUDA_MEMSET_NODE_PARAMS_v2 rows(CUdeviceptr to, size_t pitch, unsigned int value, unsigned int bytes,
                                size_t width, size_t height) {
  return {to, pitch, value, bytes, width, height, nullptr};
}

}  // namespace

CUresult fill_d8(CUdeviceptr dstDevice, unsigned char uc, size_t N) {
  return fill_in(nullptr, rows(dstDevice, 0, uc, 1, N, 1), true);
}
CUresult fill_d16(CUdeviceptr dstDevice, unsigned short us, size_t N) {
  return fill_in(nullptr, rows(dstDevice, 0, us, 2, N, 1), true);
}
CUresult fill_d32(CUdeviceptr dstDevice, unsigned int ui, size_t N) {
  return fill_in(nullptr, rows(dstDevice, 0, ui, 4, N, 1), true);
}
CUresult fill_d2d8(CUdeviceptr dstDevice, size_t dstPitch, unsigned char uc, size_t Width, size_t Height) {
  return fill_in(nullptr, rows(dstDevice, dstPitch, uc, 1, Width, Height), true);
}
CUresult fill_d2d16(CUdeviceptr dstDevice, size_t dstPitch, unsigned short us, size_t Width, size_t Height) {
  return fill_in(nullptr, rows(dstDevice, dstPitch, us, 2, Width, Height), true);
}
CUresult fill_d2d32(CUdeviceptr dstDevice, size_t dstPitch, unsigned int ui, size_t Width, size_t Height) {
  return fill_in(nullptr, rows(dstDevice, dstPitch, ui, 4, Width, Height), true);
}
CUresult fill_d8_async(CUdeviceptr dstDevice, unsigned char uc, size_t N, CUstream hStream) {
  return fill_in(hStream, rows(dstDevice, 0, uc, 1, N, 1), false);
}
CUresult fill_d16_async(CUdeviceptr dstDevice, unsigned short us, size_t N, CUstream hStream) {
  return fill_in(hStream, rows(dstDevice, 0, us, 2, N, 1), false);
}
CUresult fill_d32_async(CUdeviceptr dstDevice, unsigned int ui, size_t N, CUstream hStream) {
  return fill_in(hStream, rows(dstDevice, 0, ui, 4, N, 1), false);
}
CUresult fill_d2d8_async(CUdeviceptr dstDevice, size_t dstPitch, unsigned char uc, size_t Width,
                         size_t Height, CUstream hStream) {
  return fill_in(hStream, rows(dstDevice, dstPitch, uc, 1, Width, Height), false);
}
CUresult fill_d2d16_async(CUdeviceptr dstDevice, size_t dstPitch, unsigned short us, size_t Width,
                          size_t Height, CUstream hStream) {
  return fill_in(hStream, rows(dstDevice, dstPitch, us, 2, Width, Height), false);
}
CUresult fill_d2d32_async(CUdeviceptr dstDevice, size_t dstPitch, unsigned int ui, size_t Width,
                          size_t Height, CUstream hStream) {
  return fill_in(hStream, rows(dstDevice, dstPitch, ui, 4, Width, Height), false);
}

}  // namespace standin::driver

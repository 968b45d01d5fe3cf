// Everything that puts kernels on the device.
#include "functions.h"
#include "pace.h"

using namespace fasthook;

namespace {

// Kernels are told apart by their handles and by how many blocks they are launched with.
uint64_t blocks_of(unsigned x, unsigned y, unsigned z) { return static_cast<uint64_t>(x) * y * z; }

// The forms with _ptsz mean by 0 the stream of the calling thread.
CUstream per_thread(CUstream stream) { return stream == nullptr ? CU_STREAM_PER_THREAD : stream; }

}  // namespace

HOOKED CUresult cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                               unsigned bz, unsigned shared, CUstream stream, void** parameters,
                               void** extra) {
  return launch(f, blocks_of(gx, gy, gz), stream, [&] {
    return real.cuLaunchKernel(f, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra);
  });
}

HOOKED CUresult cuLaunchKernel_ptsz(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                                    unsigned by, unsigned bz, unsigned shared, CUstream stream,
                                    void** parameters, void** extra) {
  return launch(f, blocks_of(gx, gy, gz), per_thread(stream), [&] {
    return real.cuLaunchKernel_ptsz(f, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra);
  });
}

HOOKED CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction f, void** parameters,
                                 void** extra) {
  if (config == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return launch(f, blocks_of(config->gridDimX, config->gridDimY, config->gridDimZ), config->hStream,
                [&] { return real.cuLaunchKernelEx(config, f, parameters, extra); });
}

HOOKED CUresult cuLaunchKernelEx_ptsz(const CUlaunchConfig* config, CUfunction f, void** parameters,
                                      void** extra) {
  if (config == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return launch(f, blocks_of(config->gridDimX, config->gridDimY, config->gridDimZ),
                per_thread(config->hStream),
                [&] { return real.cuLaunchKernelEx_ptsz(config, f, parameters, extra); });
}

HOOKED CUresult cuLaunchCooperativeKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                                          unsigned by, unsigned bz, unsigned shared, CUstream stream,
                                          void** parameters) {
  return launch(f, blocks_of(gx, gy, gz), stream, [&] {
    return real.cuLaunchCooperativeKernel(f, gx, gy, gz, bx, by, bz, shared, stream, parameters);
  });
}

HOOKED CUresult cuLaunchCooperativeKernel_ptsz(CUfunction f, unsigned gx, unsigned gy, unsigned gz,
                                               unsigned bx, unsigned by, unsigned bz, unsigned shared,
                                               CUstream stream, void** parameters) {
  return launch(f, blocks_of(gx, gy, gz), per_thread(stream), [&] {
    return real.cuLaunchCooperativeKernel_ptsz(f, gx, gy, gz, bx, by, bz, shared, stream, parameters);
  });
}

// One kernel on several devices, of which a share has one: gated by the first.
HOOKED CUresult cuLaunchCooperativeKernelMultiDevice(CUDA_LAUNCH_PARAMS* list, unsigned count,
                                                     unsigned flags) {
  if (list == nullptr || count == 0) return CUDA_ERROR_INVALID_VALUE;
  return launch(list->function, blocks_of(list->gridDimX, list->gridDimY, list->gridDimZ), list->hStream,
                [&] { return real.cuLaunchCooperativeKernelMultiDevice(list, count, flags); });
}

HOOKED CUresult cuLaunch(CUfunction f) {
  return launch(f, 1, nullptr, [&] { return real.cuLaunch(f); });
}

HOOKED CUresult cuLaunchGrid(CUfunction f, int width, int height) {
  return launch(f, blocks_of(static_cast<unsigned>(width), static_cast<unsigned>(height), 1), nullptr,
                [&] { return real.cuLaunchGrid(f, width, height); });
}

HOOKED CUresult cuLaunchGridAsync(CUfunction f, int width, int height, CUstream stream) {
  return launch(f, blocks_of(static_cast<unsigned>(width), static_cast<unsigned>(height), 1), stream,
                [&] { return real.cuLaunchGridAsync(f, width, height, stream); });
}

HOOKED CUresult cuGraphLaunch(CUgraphExec graph, CUstream stream) {
  return launch(graph, 0, stream, [&] { return real.cuGraphLaunch(graph, stream); });
}

HOOKED CUresult cuGraphLaunch_ptsz(CUgraphExec graph, CUstream stream) {
  return launch(graph, 0, per_thread(stream), [&] { return real.cuGraphLaunch_ptsz(graph, stream); });
}

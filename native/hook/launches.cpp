// Everything that puts kernels on the device.
#include "functions.h"
#include "pace.h"

// A wrapper: through the gate, to the driver, into the account.
#define LAUNCH(name, parameters, arguments, what, shape, stream)                 \
  HOOKED CUresult name parameters {                                              \
    fasthook::Pass pass;                                                         \
    if (!pass.let_through(what, shape, stream)) return CUDA_ERROR_NOT_PERMITTED; \
    return pass.done(fasthook::real.name arguments);                             \
  }

namespace {

// Kernels are told apart by their handles and their grids. y and z are below 65,536.
constexpr uint64_t grid(unsigned x, unsigned y, unsigned z) {
  return x | static_cast<uint64_t>(y) << 32 | static_cast<uint64_t>(z) << 48;
}
constexpr uint64_t grid(int width, int height) {
  return grid(static_cast<unsigned>(width), static_cast<unsigned>(height), 1);
}

// The forms with _ptsz mean by 0 the stream of the calling thread.
CUstream per_thread(CUstream stream) { return stream == nullptr ? CU_STREAM_PER_THREAD : stream; }

}  // namespace

#define GRID_PARAMETERS \
  CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz
#define GRID_ARGUMENTS f, gx, gy, gz, bx, by, bz

LAUNCH(cuLaunchKernel, (GRID_PARAMETERS, unsigned shared, CUstream stream, void** parameters, void** extra),
       (GRID_ARGUMENTS, shared, stream, parameters, extra), f, grid(gx, gy, gz), stream)
LAUNCH(cuLaunchKernel_ptsz,
       (GRID_PARAMETERS, unsigned shared, CUstream stream, void** parameters, void** extra),
       (GRID_ARGUMENTS, shared, stream, parameters, extra), f, grid(gx, gy, gz), per_thread(stream))

LAUNCH(cuLaunchCooperativeKernel, (GRID_PARAMETERS, unsigned shared, CUstream stream, void** parameters),
       (GRID_ARGUMENTS, shared, stream, parameters), f, grid(gx, gy, gz), stream)
LAUNCH(cuLaunchCooperativeKernel_ptsz, (GRID_PARAMETERS, unsigned shared, CUstream stream, void** parameters),
       (GRID_ARGUMENTS, shared, stream, parameters), f, grid(gx, gy, gz), per_thread(stream))

namespace {

// What is asked with a null pointer is the driver's to refuse.
constexpr CUlaunchConfig kNoConfig = {};
const CUlaunchConfig& read(const CUlaunchConfig* config) { return config != nullptr ? *config : kNoConfig; }
uint64_t grid(const CUlaunchConfig& config) {
  return grid(config.gridDimX, config.gridDimY, config.gridDimZ);
}

constexpr CUDA_LAUNCH_PARAMS kNoLaunch = {};
const CUDA_LAUNCH_PARAMS& first(const CUDA_LAUNCH_PARAMS* list, unsigned count) {
  return list != nullptr && count > 0 ? *list : kNoLaunch;
}
uint64_t grid(const CUDA_LAUNCH_PARAMS& launch) {
  return grid(launch.gridDimX, launch.gridDimY, launch.gridDimZ);
}

}  // namespace

LAUNCH(cuLaunchKernelEx, (const CUlaunchConfig* config, CUfunction f, void** parameters, void** extra),
       (config, f, parameters, extra), f, grid(read(config)), read(config).hStream)
LAUNCH(cuLaunchKernelEx_ptsz, (const CUlaunchConfig* config, CUfunction f, void** parameters, void** extra),
       (config, f, parameters, extra), f, grid(read(config)), per_thread(read(config).hStream))

// One kernel on several devices, of which a share has one: gated by the first.
LAUNCH(cuLaunchCooperativeKernelMultiDevice, (CUDA_LAUNCH_PARAMS * list, unsigned count, unsigned flags),
       (list, count, flags), first(list, count).function, grid(first(list, count)),
       first(list, count).hStream)

LAUNCH(cuLaunch, (CUfunction f), (f), f, grid(1, 1), nullptr)
LAUNCH(cuLaunchGrid, (CUfunction f, int width, int height), (f, width, height), f, grid(width, height),
       nullptr)
LAUNCH(cuLaunchGridAsync, (CUfunction f, int width, int height, CUstream stream), (f, width, height, stream),
       f, grid(width, height), stream)

// A graph's own time is what it takes as a whole.
LAUNCH(cuGraphLaunch, (CUgraphExec graph, CUstream stream), (graph, stream), graph, 0, stream)
LAUNCH(cuGraphLaunch_ptsz, (CUgraphExec graph, CUstream stream), (graph, stream), graph, 0,
       per_thread(stream))

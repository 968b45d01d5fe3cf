// Streams, captures and contexts: what has to be known of them to know when work has ended.
#include "functions.h"
#include "pace.h"
#include "queues.h"

using namespace fasthook;

namespace {

// What the driver calls within one of its functions is its own affair.
bool paced() { return depth == 0 && enforcement() == Enforcement::kEnforced; }

CUcontext first_context = nullptr;

// From the second context on, a thread's default stream depends on which is current.
CUresult note_context(CUresult result, const CUcontext* context) {
  if (result != CUDA_SUCCESS || context == nullptr) return result;
  PaceLock lock;
  if (first_context == nullptr) first_context = *context;
  if (first_context != *context) several_contexts();
  return result;
}

// With the lock, so that nobody asks about events that are destroyed with the context, and no token goes back
// while the driver waits for work in it.
template <typename Destroy, typename IsGone>
CUresult destroy_context(CUcontext context, Destroy destroy, IsGone is_gone) {
  if (!paced()) return destroy();
  Inside inside;
  PaceLock lock;
  settle_lanes(nullptr);
  CUresult result = destroy();
  if (result != CUDA_SUCCESS || !is_gone()) return result;
  forget_context(context);
  forget_memory_of(context);
  return result;
}

bool primary_is_active(CUdevice device) {
  unsigned flags = 0;
  int active = 0;
  return real.cuDevicePrimaryCtxGetState(device, &flags, &active) == CUDA_SUCCESS && active;
}

CUcontext primary_context(CUdevice device) {
  CUcontext context = nullptr;
  if (!primary_is_active(device) || real.cuDevicePrimaryCtxRetain(&context, device) != CUDA_SUCCESS)
    return nullptr;
  real.cuDevicePrimaryCtxRelease_v2(device);
  return context;
}

template <typename Destroy>
CUresult release_primary(CUdevice device, Destroy destroy) {
  if (!paced()) return destroy();
  return destroy_context(primary_context(device), destroy, [device] { return !primary_is_active(device); });
}

// Who holds it keeps it, but nothing is in it any more.
template <typename Destroy>
CUresult reset_primary(CUdevice device, Destroy destroy) {
  if (!paced()) return destroy();
  return destroy_context(primary_context(device), destroy, [] { return true; });
}

template <typename Destroy>
CUresult destroy_own(CUcontext context, Destroy destroy) {
  return destroy_context(context, destroy, [] { return true; });
}

// A stream may be destroyed with work on it: a mark put behind that work now tells when it has ended.
template <typename Destroy>
CUresult destroy_stream(CUstream stream, Destroy destroy) {
  if (!paced()) return destroy();
  {
    PaceLock lock;
    Queue* queue = find_queue(stream);
    if (queue != nullptr) {
      settle_lanes(queue);
      mark_from_here(queue, time_ns());
      if (queue->captures) --capturing;
      queue->captures = false;
      queue->gone = true;
    }
  }
  return destroy();
}

// While anything is captured no lane passes without looking whether its stream is.
template <typename Begin>
CUresult begin_capture(CUstream stream, Begin begin) {
  if (!paced()) return begin();
  Queue* queue;
  {
    PaceLock lock;
    queue = queue_of(stream, take_lane());
    bool counts = queue != nullptr && !queue->captures;
    if (!counts) queue = nullptr;
    if (queue != nullptr) queue->captures = true, ++capturing;
    settle_lanes(nullptr);
  }
  CUresult result = begin();
  if (result == CUDA_SUCCESS || queue == nullptr) return result;
  PaceLock lock;
  if (queue->captures) queue->captures = false, --capturing;
  return result;
}

template <typename End>
CUresult end_capture(CUstream stream, End end) {
  CUresult result = end();
  if (!paced()) return result;
  PaceLock lock;
  Queue* queue = queue_of(stream, take_lane());
  if (queue != nullptr && queue->captures && !is_captured(stream)) queue->captures = false, --capturing;
  return result;
}

CUstream per_thread(CUstream stream) { return stream == nullptr ? CU_STREAM_PER_THREAD : stream; }

}  // namespace

HOOKED CUresult cuStreamDestroy(CUstream stream) {
  return destroy_stream(stream, [&] { return real.cuStreamDestroy(stream); });
}

HOOKED CUresult cuStreamDestroy_v2(CUstream stream) {
  return destroy_stream(stream, [&] { return real.cuStreamDestroy_v2(stream); });
}

#define BEGIN_CAPTURE(name, stream_meant, parameters, arguments)             \
  HOOKED CUresult name parameters {                                          \
    return begin_capture(stream_meant, [&] { return real.name arguments; }); \
  }

BEGIN_CAPTURE(cuStreamBeginCapture, stream, (CUstream stream), (stream))
BEGIN_CAPTURE(cuStreamBeginCapture_ptsz, per_thread(stream), (CUstream stream), (stream))
BEGIN_CAPTURE(cuStreamBeginCapture_v2, stream, (CUstream stream, CUstreamCaptureMode mode), (stream, mode))
BEGIN_CAPTURE(cuStreamBeginCapture_v2_ptsz, per_thread(stream), (CUstream stream, CUstreamCaptureMode mode),
              (stream, mode))
BEGIN_CAPTURE(cuStreamBeginCaptureToGraph, stream,
              (CUstream stream, CUgraph graph, const CUgraphNode* nodes, const CUgraphEdgeData* edges,
               size_t count, CUstreamCaptureMode mode),
              (stream, graph, nodes, edges, count, mode))
BEGIN_CAPTURE(cuStreamBeginCaptureToGraph_ptsz, per_thread(stream),
              (CUstream stream, CUgraph graph, const CUgraphNode* nodes, const CUgraphEdgeData* edges,
               size_t count, CUstreamCaptureMode mode),
              (stream, graph, nodes, edges, count, mode))

HOOKED CUresult cuStreamEndCapture(CUstream stream, CUgraph* graph) {
  return end_capture(stream, [&] { return real.cuStreamEndCapture(stream, graph); });
}

HOOKED CUresult cuStreamEndCapture_ptsz(CUstream stream, CUgraph* graph) {
  return end_capture(per_thread(stream), [&] { return real.cuStreamEndCapture_ptsz(stream, graph); });
}

#define CREATES_CONTEXT(name, parameters, arguments)       \
  HOOKED CUresult name parameters {                        \
    bool noted = paced();                                  \
    CUresult result = real.name arguments;                 \
    return noted ? note_context(result, context) : result; \
  }

CREATES_CONTEXT(cuCtxCreate, (CUcontext * context, unsigned flags, CUdevice device), (context, flags, device))
CREATES_CONTEXT(cuCtxCreate_v2, (CUcontext * context, unsigned flags, CUdevice device),
                (context, flags, device))
CREATES_CONTEXT(cuCtxCreate_v3,
                (CUcontext * context, CUexecAffinityParam* affinity, int count, unsigned flags,
                 CUdevice device),
                (context, affinity, count, flags, device))
#if CUDA_VERSION >= 12050
CREATES_CONTEXT(cuCtxCreate_v4,
                (CUcontext * context, CUctxCreateParams* parameters, unsigned flags, CUdevice device),
                (context, parameters, flags, device))
#endif
CREATES_CONTEXT(cuDevicePrimaryCtxRetain, (CUcontext * context, CUdevice device), (context, device))

#define DESTROYS_CONTEXT(name, destroys, type)                    \
  HOOKED CUresult name(type which) {                              \
    return destroys(which, [which] { return real.name(which); }); \
  }

DESTROYS_CONTEXT(cuCtxDestroy, destroy_own, CUcontext)
DESTROYS_CONTEXT(cuCtxDestroy_v2, destroy_own, CUcontext)
DESTROYS_CONTEXT(cuDevicePrimaryCtxRelease, release_primary, CUdevice)
DESTROYS_CONTEXT(cuDevicePrimaryCtxRelease_v2, release_primary, CUdevice)
DESTROYS_CONTEXT(cuDevicePrimaryCtxReset, reset_primary, CUdevice)
DESTROYS_CONTEXT(cuDevicePrimaryCtxReset_v2, reset_primary, CUdevice)

// The handles of its kernels may come back for others.
HOOKED CUresult cuModuleUnload(CUmodule module) {
  paced();
  forget_launch(nullptr);
  return real.cuModuleUnload(module);
}

HOOKED CUresult cuLibraryUnload(CUlibrary library) {
  paced();
  forget_launch(nullptr);
  return real.cuLibraryUnload(library);
}

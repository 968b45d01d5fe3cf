// Captures: streams whose work becomes a graph.
#pragma once

#include <set>

#include "graphs.h"

namespace standin::driver {

struct Capture {
  CUgraph graph = nullptr;
  bool own_graph = true;  // or the one that cuStreamBeginCaptureToGraph was given
  unsigned long long id = 0;
  CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
  uint64_t thread = 0;
  CUstream origin = nullptr;
  CUcontext context = nullptr;
  bool valid = true;
  std::set<CUstream> streams;
};

// An event that was recorded in a capture.
struct CapturedPoint {
  std::weak_ptr<Capture> capture;
  std::vector<CUgraphNode> tips;
};

// What the legacy stream would do must not depend on a capture: CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, and the
// capture is spoilt.
CUresult legacy_beside_captures(CUcontext context);
// A stream that is being captured cannot be asked about or waited for.
CUresult not_while_captured(CUstream stream);
CUresult none_captured(CUcontext context);
// What could spoil a capture of some thread, and so may not be called then (see
// cuThreadExchangeStreamCaptureMode).
CUresult unsafe();
void abandon_capture(CUstream stream);

CUresult capture_work(CUstream stream, Operation& work);
CUresult capture_record(CUstream stream, CapturedPoint* out);
CUresult capture_wait(CUstream stream, const CapturedPoint& point);
// CUDA_SUCCESS, or why what was captured cannot be used outside of its capture.
CUresult captured_event(const CapturedPoint& point);

}  // namespace standin::driver

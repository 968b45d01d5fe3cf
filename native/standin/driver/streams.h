// Streams: the order of what is submitted to them, and what they wait for.
#pragma once

#include <memory>
#include <vector>

#include "contexts.h"
#include "hosts.h"
#include "queues.h"

namespace standin::driver {
struct Capture;
}

struct CUstream_st {
  enum class Kind { kCreated, kLegacy, kThread };
  Kind kind = Kind::kCreated;
  CUcontext context = nullptr;
  unsigned int flags = 0;
  int priority = 0;
  unsigned long long id = 0;
  standin::driver::Queue* queue = nullptr;
  uint64_t last = 0;          // position of its last piece
  uint64_t after_legacy = 0;  // position of the legacy stream that it comes after
  uint64_t seen_by_legacy = 0;
  standin::driver::Hosts hosts{};  // functions on the host that what comes next must wait for
  std::shared_ptr<standin::driver::Capture> capture{};  // null: it is not being captured
  std::vector<CUgraphNode> tips{};                      // of the capture: what the next node depends on
  CUlaunchAttributeValue policy{}, sync_policy{}, domain{}, domain_map{};
};

namespace standin::driver {

bool blocking(const CUstream_st* stream);
// A handle as the API takes it (null, legacy and per-thread ones too) to the stream; needs a context for
// those.
CUresult find_stream(CUstream handle, CUstream* out);
// The same for what puts work into it: the legacy stream cannot be used beside a capture of a blocking
// stream.
CUresult find_working_stream(CUstream handle, CUstream* out);

CUresult make_stream(CUcontext context, CUstream_st::Kind kind, unsigned int flags, int priority,
                     CUstream* out);
void end_stream(CUstream stream);
CUstream stream_of_thread(CUcontext context);

// Everything in the stream so far; the legacy stream stands for the blocking ones too.
std::vector<Point> points_of(CUstream stream);
bool is_idle(CUstream stream);
void wait_for(CUstream stream);
void wait_for(CUcontext context);

// Submits a piece in the stream's order.
Point submit(CUstream stream, const st_work& work);

}  // namespace standin::driver

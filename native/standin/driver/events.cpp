// Events: a mark in a stream's queue, whose time the timeline knows.
#include "events.h"

#include "handles.h"
#include "implementations.h"
#include "memory.h"

namespace standin::driver {
namespace {

constexpr unsigned int kFlags = CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS;

bool ended(CUevent event) { return event->mark == nullptr || reached(event->mark->point); }

CUresult record_captured(CUstream stream, CUevent event, unsigned int flags) {
  if (flags == CU_EVENT_RECORD_EXTERNAL) {
    Operation work = operation(CU_GRAPH_NODE_TYPE_EVENT_RECORD);
    work.params.eventRecord.event = event;
    return issue(stream, work);
  }
  TRY(capture_record(stream, &event->captured));
  event->in_capture = true;
  return CUDA_SUCCESS;
}

bool can_be_timed(CUevent event) {
  return (event->flags & CU_EVENT_DISABLE_TIMING) == 0 && event->mark != nullptr && !event->in_capture;
}

}  // namespace

CUresult perform_record(CUstream stream, CUevent event) {
  if (!alive(event)) return CUDA_ERROR_INVALID_HANDLE;
  event->mark = mark_at(submit(stream, kMark));
  event->hosts = stream->hosts;
  event->in_capture = false;
  return CUDA_SUCCESS;
}

CUresult perform_wait(CUstream stream, CUevent event) {
  if (!alive(event)) return CUDA_ERROR_INVALID_HANDLE;
  if (event->mark == nullptr || reached(event->mark->point)) return CUDA_SUCCESS;
  follow(stream->queue, event->mark->point);
  merge(stream->hosts, event->hosts);
  // Who waits for the stream now waits for the event too.
  submit(stream, kMark);
  return CUDA_SUCCESS;
}

CUresult event_create(CUevent* phEvent, unsigned int Flags) {
  if (phEvent == nullptr || (Flags & ~kFlags) != 0) return CUDA_ERROR_INVALID_VALUE;
  bool shared = (Flags & CU_EVENT_INTERPROCESS) != 0;
  if (shared && (Flags & CU_EVENT_DISABLE_TIMING) == 0) return CUDA_ERROR_INVALID_VALUE;
  CUcontext context;
  TRY(current(&context));
  *phEvent = enlist(new CUevent_st{.context = context, .flags = Flags});
  return CUDA_SUCCESS;
}

CUresult event_destroy(CUevent hEvent) {
  if (!alive(hEvent)) return CUDA_ERROR_INVALID_HANDLE;
  strike(hEvent);
  return CUDA_SUCCESS;
}

CUresult event_record_with_flags(CUevent hEvent, CUstream hStream, unsigned int flags) {
  if (!alive(hEvent)) return CUDA_ERROR_INVALID_HANDLE;
  if (flags > CU_EVENT_RECORD_EXTERNAL) return CUDA_ERROR_INVALID_VALUE;
  CUstream stream;
  TRY(find_working_stream(hStream, &stream));
  if (!related(stream->context, hEvent->context)) return CUDA_ERROR_INVALID_HANDLE;
  if (stream->capture != nullptr) return record_captured(stream, hEvent, flags);
  if (flags == CU_EVENT_RECORD_EXTERNAL) return CUDA_ERROR_INVALID_VALUE;
  return perform_record(stream, hEvent);
}

CUresult event_record(CUevent hEvent, CUstream hStream) {
  return event_record_with_flags(hEvent, hStream, CU_EVENT_RECORD_DEFAULT);
}

CUresult event_query(CUevent hEvent) {
  if (!alive(hEvent)) return CUDA_ERROR_INVALID_HANDLE;
  TRY(unsafe());
  if (hEvent->in_capture) TRY(captured_event(hEvent->captured));
  return ended(hEvent) ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

CUresult event_synchronize(CUevent hEvent) {
  if (!alive(hEvent)) return CUDA_ERROR_INVALID_HANDLE;
  TRY(unsafe());
  if (hEvent->in_capture) TRY(captured_event(hEvent->captured));
  if (hEvent->mark != nullptr) wait_for(Point(hEvent->mark->point));
  trim_pools();
  return CUDA_SUCCESS;
}

CUresult event_elapsed_time(float* pMilliseconds, CUevent hStart, CUevent hEnd) {
  if (pMilliseconds == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!alive(hStart) || !alive(hEnd)) return CUDA_ERROR_INVALID_HANDLE;
  if (!can_be_timed(hStart) || !can_be_timed(hEnd)) return CUDA_ERROR_INVALID_HANDLE;
  uint64_t from = ended_ns(*hStart->mark), to = ended_ns(*hEnd->mark);
  if (from == 0 || to == 0) return CUDA_ERROR_NOT_READY;
  *pMilliseconds = static_cast<float>(static_cast<double>(static_cast<int64_t>(to - from)) / 1e6);
  return CUDA_SUCCESS;
}

CUresult stream_wait_event(CUstream hStream, CUevent hEvent, unsigned int Flags) {
  if (!alive(hEvent)) return CUDA_ERROR_INVALID_HANDLE;
  if (Flags > CU_EVENT_WAIT_EXTERNAL) return CUDA_ERROR_INVALID_VALUE;
  CUstream stream;
  TRY(find_working_stream(hStream, &stream));
  if (Flags == CU_EVENT_WAIT_EXTERNAL) {
    if (stream->capture == nullptr) return CUDA_ERROR_INVALID_VALUE;
    Operation work = operation(CU_GRAPH_NODE_TYPE_WAIT_EVENT);
    work.params.eventWait.event = hEvent;
    return issue(stream, work);
  }
  if (hEvent->in_capture) return capture_wait(stream, hEvent->captured);
  // What was recorded outside cannot be waited for inside.
  if (stream->capture != nullptr && hEvent->mark != nullptr) return capture_wait(stream, {});
  return perform_wait(stream, hEvent);
}

CUresult ctx_record_event(CUcontext hCtx, CUevent hEvent) {
  if (!is_context(hCtx)) return CUDA_ERROR_INVALID_CONTEXT;
  if (!alive(hEvent) || !related(hEvent->context, hCtx)) return CUDA_ERROR_INVALID_HANDLE;
  TRY(none_captured(hCtx));
  for (CUstream stream : hCtx->streams)
    if (!blocking(stream)) follow(hCtx->legacy->queue, {stream->queue, stream->last});
  return perform_record(hCtx->legacy, hEvent);
}

CUresult ctx_wait_event(CUcontext hCtx, CUevent hEvent) {
  if (!is_context(hCtx)) return CUDA_ERROR_INVALID_CONTEXT;
  if (!alive(hEvent)) return CUDA_ERROR_INVALID_HANDLE;
  TRY(none_captured(hCtx));
  for (CUstream stream : hCtx->streams) TRY(perform_wait(stream, hEvent));
  for (auto& [thread, stream] : hCtx->of_thread) TRY(perform_wait(stream, hEvent));
  return perform_wait(hCtx->legacy, hEvent);
}

}  // namespace standin::driver

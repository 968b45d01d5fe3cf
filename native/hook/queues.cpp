#include "queues.h"

#include "faults.h"
#include "functions.h"

namespace fasthook {

Queue queues[kQueues];
int queue_count = 0;
int capturing = 0;

namespace {

constexpr int kFreeEvents = 256;

struct Pool {
  CUcontext context = nullptr;
  CUevent free[kFreeEvents] = {};
  int count = 0;
};
Pool pools[kContexts];
CUcontext pacer_context = nullptr;

Pool* pool_of(CUcontext context) {
  for (Pool& pool : pools) {
    if (pool.context == nullptr) pool.context = context;
    if (pool.context == context) return &pool;
  }
  return nullptr;
}

QueueKind kind_of(CUstream stream) {
  if (stream == nullptr || stream == CU_STREAM_LEGACY) return QueueKind::kDefault;
  return stream == CU_STREAM_PER_THREAD ? QueueKind::kPerThread : QueueKind::kStream;
}

CUcontext context_of(CUstream stream, QueueKind kind) {
  CUcontext context = nullptr;
  if (kind == QueueKind::kStream && real.cuStreamGetCtx &&
      real.cuStreamGetCtx(stream, &context) == CUDA_SUCCESS)
    return context;
  real.cuCtxGetCurrent(&context);
  return context;
}

// From the pacer's thread the per-thread stream of another is reached through the legacy stream, which waits
// for it.
CUstream handle_for_pacer(const Queue* queue) {
  return queue->kind == QueueKind::kStream ? queue->stream : CU_STREAM_LEGACY;
}

bool may_record(CUstream stream) {
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  return capturing == 0 || (real.cuStreamIsCapturing(stream, &status) == CUDA_SUCCESS &&
                            status == CU_STREAM_CAPTURE_STATUS_NONE);
}

void drop_marks(Queue* queue) {
  for (; queue->count > 0; --queue->count) {
    Mark* mark = &queue->marks[queue->first];
    if (mark->cost != nullptr) mark->cost->being_measured = false;
    *mark = Mark();
    queue->first = (queue->first + 1) % kMarks;
  }
}

void take_measurement(const Mark& mark, CUcontext context) {
  if (mark.before == nullptr) return;
  float ms = 0;
  mark.cost->being_measured = false;
  if (real.cuEventElapsedTime(&ms, mark.before, mark.event) == CUDA_SUCCESS && ms >= 0)
    measured(mark.cost, static_cast<uint64_t>(static_cast<double>(ms) * 1e6));
  give_event(context, mark.before);
}

}  // namespace

Queue* queue_of(CUstream stream, const void* lane) {
  QueueKind kind = kind_of(stream);
  CUcontext context = context_of(stream, kind);
  const void* owner = kind == QueueKind::kPerThread ? lane : nullptr;
  for (int i = 0; i < queue_count; ++i) {
    Queue* queue = &queues[i];
    bool same = queue->kind == kind &&
                (kind == QueueKind::kStream ? queue->stream == stream
                                            : queue->context == context && queue->owner == owner);
    if (!same || !queue->in_use || queue->gone) continue;
    if (queue->idle()) queue->context = context;  // a handle may be given to another stream
    return queue;
  }
  int at = 0;
  while (at < queue_count && queues[at].in_use && !(queues[at].gone && queues[at].idle())) ++at;
  if (at == kQueues) return nullptr;
  if (at == queue_count) ++queue_count;
  Queue* queue = &queues[at];
  *queue = Queue();
  queue->in_use = true;
  queue->stream = stream;
  queue->context = context;
  queue->kind = kind;
  queue->owner = owner;
  return queue;
}

Queue* find_queue(CUstream stream) {
  for (int i = 0; i < queue_count; ++i) {
    Queue* queue = &queues[i];
    if (queue->in_use && !queue->gone && queue->kind == QueueKind::kStream && queue->stream == stream)
      return queue;
  }
  return nullptr;
}

bool is_captured(CUstream stream) {
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  return capturing > 0 && real.cuStreamIsCapturing(stream, &status) == CUDA_SUCCESS &&
         status != CU_STREAM_CAPTURE_STATUS_NONE;
}

void book_launch(Queue* queue, uint64_t ns, uint64_t now) {
  if (queue->idle()) queue->progress_at_ns = now;
  queue->launched_ns += ns;
}

bool push_mark(Queue* queue, const Mark& mark, uint64_t now) {
  if (queue->count == kMarks) return false;
  queue->marks[(queue->first + queue->count++) % kMarks] = mark;
  queue->marked_ns = mark.launched_ns;
  queue->marked_at_ns = now;
  return true;
}

bool look_at(Queue* queue, uint64_t now) {
  bool moved = false;
  while (queue->count > 0) {
    Mark mark = queue->marks[queue->first];
    enter_context(queue->context);
    // With an error its work is over too.
    CUresult result = real.cuEventQuery(mark.event);
    note_fault(result == CUDA_ERROR_NOT_READY ? CUDA_SUCCESS : result);
    if (result == CUDA_ERROR_NOT_READY) {
      queue->unready_at_ns = now;
      break;
    }
    // When it came that far is not known: after the last look, before this one, by estimate when it was due.
    // To take the time of the look would add the delay of every look to those before.
    uint64_t due = queue->progress_at_ns + mark.launched_ns - queue->finished_ns;
    if (due < queue->unready_at_ns) due = queue->unready_at_ns;
    if (result == CUDA_SUCCESS) take_measurement(mark, queue->context);
    give_event(queue->context, mark.event);
    queue->marks[queue->first] = Mark();
    queue->first = (queue->first + 1) % kMarks;
    --queue->count;
    queue->finished_ns = mark.launched_ns;
    queue->progress_at_ns = due < now ? due : now;
    moved = true;
  }
  return moved;
}

bool mark_all(Queue* queue, uint64_t now) {
  CUstream stream = handle_for_pacer(queue);
  enter_context(queue->context);
  if (queue->count == kMarks || !may_record(stream)) return false;
  Mark mark;
  mark.event = take_event(queue->context);
  mark.launched_ns = queue->launched_ns;
  CUresult result = mark.event != nullptr ? real.cuEventRecord(mark.event, stream) : CUDA_SUCCESS;
  note_fault(result);
  if (mark.event == nullptr || result != CUDA_SUCCESS) {
    // Its context is gone or broken, and its work with it.
    give_event(queue->context, mark.event);
    drop_marks(queue);
    queue->finished_ns = queue->marked_ns = queue->launched_ns;
    return true;
  }
  return push_mark(queue, mark, now);
}

void mark_from_here(Queue* queue, uint64_t now) {
  if (queue->launched_ns == queue->marked_ns || queue->count == kMarks || !may_record(queue->stream)) return;
  CUcontext before = nullptr;
  Mark mark;
  mark.launched_ns = queue->launched_ns;
  if (real.cuCtxPushCurrent_v2(queue->context) != CUDA_SUCCESS) return;
  mark.event = take_event(queue->context);
  if (mark.event != nullptr && real.cuEventRecord(mark.event, queue->stream) == CUDA_SUCCESS)
    push_mark(queue, mark, now);
  else
    give_event(queue->context, mark.event);
  real.cuCtxPopCurrent_v2(&before);
}

CUevent take_event(CUcontext context) {
  Pool* pool = pool_of(context);
  if (pool == nullptr) return nullptr;
  if (pool->count > 0) return pool->free[--pool->count];
  CUevent event = nullptr;
  return real.cuEventCreate(&event, CU_EVENT_DEFAULT) == CUDA_SUCCESS ? event : nullptr;
}

void give_event(CUcontext context, CUevent event) {
  Pool* pool = pool_of(context);
  if (event == nullptr) return;
  if (pool != nullptr && pool->count < kFreeEvents)
    pool->free[pool->count++] = event;
  else
    real.cuEventDestroy_v2(event);
}

void enter_context(CUcontext context) {
  if (pacer_context == context) return;
  // What this thread does is no part of what other threads capture, and must not spoil it.
  CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
  real.cuThreadExchangeStreamCaptureMode(&mode);
  pacer_context = real.cuCtxSetCurrent(context) == CUDA_SUCCESS ? context : nullptr;
}

void forget_context(CUcontext context) {
  for (int i = 0; i < queue_count; ++i) {
    Queue* queue = &queues[i];
    if (!queue->in_use || queue->context != context) continue;
    drop_marks(queue);
    if (queue->captures) --capturing;
    queue->captures = false;
    queue->finished_ns = queue->marked_ns = queue->launched_ns;
  }
  for (Pool& pool : pools)
    if (pool.context == context) pool.count = 0;  // they were destroyed with it
  pacer_context = nullptr;
}

void forget_queues() {
  for (int i = 0; i < queue_count; ++i) queues[i] = Queue();
  for (Pool& pool : pools) pool = Pool();
  queue_count = capturing = 0;
  pacer_context = nullptr;
}

}  // namespace fasthook

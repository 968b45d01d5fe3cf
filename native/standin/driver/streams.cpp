// Streams: making and ending them, their order, and the legacy stream's part in it.
#include "streams.h"

#include <algorithm>

#include "captures.h"
#include "handles.h"
#include "implementations.h"
#include "memory.h"

namespace standin::driver {
namespace {

constexpr int kLeastPriority = 0, kGreatestPriority = -5;

// A thread that has used default streams of its own, until it ends.
struct Thread {
  uint64_t id;
  Thread() : id(next()) {}
  ~Thread();
  static uint64_t next() {
    static uint64_t last = 0;
    return ++last;
  }
};

thread_local Thread* thread_ = nullptr;
thread_local struct Reaper {
  ~Reaper() { delete thread_; }
} reaper;

Thread::~Thread() {
  if (!running()) return;
  std::lock_guard<std::mutex> held(lock());
  if (!running()) return;
  for (CUcontext context : std::set<CUcontext>(contexts()))
    if (auto found = context->of_thread.find(id); found != context->of_thread.end())
      end_stream(found->second);
}

uint64_t thread_id() {
  (void)&reaper;  // touched, so that it is destroyed with the thread
  if (thread_ == nullptr) thread_ = new Thread;
  return thread_->id;
}

// A blocking stream comes after what the legacy stream has.
void come_after_legacy(CUstream stream) {
  CUstream legacy = stream->context->legacy;
  if (!blocking(stream) || legacy == nullptr || legacy->last <= stream->after_legacy) return;
  follow(stream->queue, {legacy->queue, legacy->last});
  merge(stream->hosts, legacy->hosts);
  stream->after_legacy = legacy->last;
}

void legacy_comes_after(CUstream legacy, CUstream stream) {
  if (!blocking(stream) || stream->last <= stream->seen_by_legacy) return;
  follow(legacy->queue, {stream->queue, stream->last});
  merge(legacy->hosts, stream->hosts);
  stream->seen_by_legacy = stream->last;
}

template <typename Use>
void for_blocking(CUcontext context, Use use) {
  for (CUstream stream : context->streams)
    if (blocking(stream)) use(stream);
  for (auto& [thread, stream] : context->of_thread) use(stream);
}

void put_in_order(CUstream stream) {
  if (stream->kind != CUstream_st::Kind::kLegacy) return come_after_legacy(stream);
  for_blocking(stream->context, [&](CUstream other) { legacy_comes_after(stream, other); });
}

void list(CUstream stream) {
  CUcontext context = stream->context;
  if (stream->kind == CUstream_st::Kind::kCreated) context->streams.insert(stream);
  if (stream->kind == CUstream_st::Kind::kThread) context->of_thread[thread_id()] = stream;
}

void unlist(CUstream stream) {
  CUcontext context = stream->context;
  context->streams.erase(stream);
  std::erase_if(context->of_thread, [&](const auto& entry) { return entry.second == stream; });
  if (context->legacy == stream) context->legacy = nullptr;
}

void keep_leftover(CUstream stream) {
  std::vector<Point>& leftovers = stream->context->leftovers;
  std::erase_if(leftovers, [](Point point) { return reached(point); });
  leftovers.push_back({stream->queue, stream->last});
}

}  // namespace

bool blocking(const CUstream_st* stream) {
  return stream->kind != CUstream_st::Kind::kLegacy && (stream->flags & CU_STREAM_NON_BLOCKING) == 0;
}

CUresult make_stream(CUcontext context, CUstream_st::Kind kind, unsigned int flags, int priority,
                     CUstream* out) {
  static unsigned long long ids = 0;
  Queue* queue = take_queue(context->member);
  if (queue == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  auto* stream =
      new CUstream_st{.kind = kind, .context = context, .flags = flags, .priority = priority, .id = ++ids};
  stream->queue = queue;
  *out = enlist(stream);
  list(stream);
  return CUDA_SUCCESS;
}

// What is pending goes on in its queue.
void end_stream(CUstream stream) {
  abandon_capture(stream);
  // The legacy stream comes after it still.
  if (blocking(stream) && stream->context->legacy != nullptr)
    legacy_comes_after(stream->context->legacy, stream);
  keep_leftover(stream);
  unlist(stream);
  give_queue(stream->queue);
  strike(stream);
}

CUstream stream_of_thread(CUcontext context) {
  auto found = context->of_thread.find(thread_id());
  if (found != context->of_thread.end()) return found->second;
  CUstream stream = nullptr;
  make_stream(context, CUstream_st::Kind::kThread, CU_STREAM_DEFAULT, 0, &stream);
  return stream;
}

CUresult find_stream(CUstream handle, CUstream* out) {
  bool implicit = handle == nullptr || handle == CU_STREAM_LEGACY || handle == CU_STREAM_PER_THREAD;
  if (!implicit) {
    if (!alive(handle)) return CUDA_ERROR_INVALID_HANDLE;
    *out = handle;
    return CUDA_SUCCESS;
  }
  CUcontext context;
  TRY(current(&context));
  bool per_thread = handle == nullptr ? null_is_per_thread() : handle == CU_STREAM_PER_THREAD;
  *out = per_thread ? stream_of_thread(context) : context->legacy;
  return *out != nullptr ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult find_working_stream(CUstream handle, CUstream* out) {
  TRY(find_stream(handle, out));
  return (*out)->kind == CUstream_st::Kind::kLegacy ? legacy_beside_captures((*out)->context) : CUDA_SUCCESS;
}

std::vector<Point> points_of(CUstream stream) {
  std::vector<Point> points = {{stream->queue, stream->last}};
  if (stream->kind == CUstream_st::Kind::kLegacy)
    for_blocking(stream->context, [&](CUstream other) { points.push_back({other->queue, other->last}); });
  return points;
}

bool is_idle(CUstream stream) {
  std::vector<Point> points = points_of(stream);
  return std::all_of(points.begin(), points.end(), [](Point point) { return reached(point); });
}

void wait_for(CUstream stream) {
  for (Point point : points_of(stream)) wait_for(point);
}

void wait_for(CUcontext context) {
  std::vector<Point> points = context->leftovers;
  for (CUstream stream : context->streams) points.push_back({stream->queue, stream->last});
  for (auto& [thread, stream] : context->of_thread) points.push_back({stream->queue, stream->last});
  points.push_back({context->legacy->queue, context->legacy->last});
  for (Point point : points) wait_for(point);
}

Point submit(CUstream stream, const st_work& work) {
  put_in_order(stream);
  Point point = submit(stream->queue, work);
  stream->last = point.position;
  return point;
}

CUresult stream_create_with_priority(CUstream* phStream, unsigned int flags, int priority) {
  if (phStream == nullptr || (flags & ~static_cast<unsigned int>(CU_STREAM_NON_BLOCKING)) != 0)
    return CUDA_ERROR_INVALID_VALUE;
  CUcontext context;
  TRY(current(&context));
  priority = std::clamp(priority, kGreatestPriority, kLeastPriority);
  return make_stream(context, CUstream_st::Kind::kCreated, flags, priority, phStream);
}

CUresult stream_create(CUstream* phStream, unsigned int Flags) {
  return stream_create_with_priority(phStream, Flags, kLeastPriority);
}

CUresult stream_destroy(CUstream hStream) {
  if (!alive(hStream)) return CUDA_ERROR_INVALID_HANDLE;
  if (hStream->kind != CUstream_st::Kind::kCreated) return CUDA_ERROR_INVALID_HANDLE;
  end_stream(hStream);
  return CUDA_SUCCESS;
}

CUresult stream_query(CUstream hStream) {
  CUstream stream;
  TRY(find_working_stream(hStream, &stream));
  TRY(not_while_captured(stream));
  return is_idle(stream) ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

CUresult stream_synchronize(CUstream hStream) {
  CUstream stream;
  TRY(find_working_stream(hStream, &stream));
  TRY(not_while_captured(stream));
  wait_for(stream);
  trim_pools();
  return CUDA_SUCCESS;
}

CUresult ctx_get_stream_priority_range(int* leastPriority, int* greatestPriority) {
  CUcontext context;
  TRY(current(&context));
  if (leastPriority != nullptr) *leastPriority = kLeastPriority;
  if (greatestPriority != nullptr) *greatestPriority = kGreatestPriority;
  return CUDA_SUCCESS;
}

CUresult stream_get_priority(CUstream hStream, int* priority) {
  CUstream stream;
  TRY(find_stream(hStream, &stream));
  return set(priority, stream->priority);
}

CUresult stream_get_id(CUstream hStream, unsigned long long* streamId) {
  CUstream stream;
  TRY(find_stream(hStream, &stream));
  return set(streamId, stream->id);
}

CUresult stream_get_flags(CUstream hStream, unsigned int* flags) {
  CUstream stream;
  TRY(find_stream(hStream, &stream));
  return set(flags, stream->flags);
}

CUresult stream_get_device(CUstream hStream, CUdevice* device) {
  CUstream stream;
  TRY(find_stream(hStream, &stream));
  return set(device, 0);
}

CUresult stream_get_ctx(CUstream hStream, CUcontext* pCtx, CUgreenCtx* pGreenCtx) {
  CUstream stream;
  TRY(find_stream(hStream, &stream));
  if (pGreenCtx != nullptr) *pGreenCtx = stream->context->green;
  return set(pCtx, stream->context);
}

CUresult stream_get_ctx_v1(CUstream hStream, CUcontext* pctx) {
  return stream_get_ctx(hStream, pctx, nullptr);
}

}  // namespace standin::driver

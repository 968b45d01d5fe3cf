// Captures: begin, end, what becomes a node, and what is not allowed meanwhile.
#include "captures.h"

#include <algorithm>

#include "handles.h"
#include "implementations.h"

namespace standin::driver {
namespace {

using Pointer = std::shared_ptr<Capture>;

thread_local CUstreamCaptureMode thread_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

std::vector<std::weak_ptr<Capture>>& started() {
  static auto* all = new std::vector<std::weak_ptr<Capture>>;
  return *all;
}

std::vector<Pointer> ongoing() {
  std::erase_if(started(), [](const auto& capture) { return capture.expired(); });
  std::vector<Pointer> all;
  for (const auto& capture : started())
    if (Pointer pointer = capture.lock()) all.push_back(pointer);
  return all;
}

uint64_t this_thread() {
  static uint64_t last = 0;
  thread_local uint64_t id = ++last;
  return id;
}

CUresult spoil(const Pointer& capture, CUresult why) {
  capture->valid = false;
  return why;
}

bool forbids(const Capture& capture) {
  if (capture.mode == CU_STREAM_CAPTURE_MODE_RELAXED) return false;
  if (capture.thread == this_thread()) return true;
  return thread_mode == CU_STREAM_CAPTURE_MODE_GLOBAL && capture.mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
}

std::vector<Edge> edges_from(const std::vector<CUgraphNode>& nodes) {
  std::vector<Edge> edges;
  for (CUgraphNode node : nodes) edges.push_back({node, {}});
  return edges;
}

void let_go(const Pointer& capture) {
  for (CUstream stream : capture->streams) {
    stream->capture = nullptr;
    stream->tips.clear();
  }
  capture->streams.clear();
}

// All that was forked from the origin must have come back to it.
bool joined(const Capture& capture) {
  std::set<CUgraphNode> reached(capture.origin->tips.begin(), capture.origin->tips.end());
  std::vector<CUgraphNode> open(reached.begin(), reached.end());
  while (!open.empty()) {
    CUgraphNode node = open.back();
    open.pop_back();
    for (const Edge& edge : node->before)
      if (reached.insert(edge.from).second) open.push_back(edge.from);
  }
  auto back = [&](CUstream stream) {
    return std::all_of(stream->tips.begin(), stream->tips.end(),
                       [&](CUgraphNode tip) { return reached.contains(tip); });
  };
  return std::all_of(capture.streams.begin(), capture.streams.end(), back);
}

CUresult begin(CUstream handle, CUgraph graph, std::vector<CUgraphNode> tips, CUstreamCaptureMode mode) {
  static unsigned long long ids = 0;
  CUstream stream;
  TRY(find_stream(handle, &stream));
  if (stream->kind == CUstream_st::Kind::kLegacy) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (stream->capture != nullptr) return CUDA_ERROR_ILLEGAL_STATE;
  if (mode > CU_STREAM_CAPTURE_MODE_RELAXED) return CUDA_ERROR_INVALID_VALUE;
  auto capture = std::make_shared<Capture>();
  capture->own_graph = graph == nullptr;
  capture->graph = graph != nullptr ? graph : new_graph();
  capture->id = ++ids;
  capture->mode = mode;
  capture->thread = this_thread();
  capture->origin = stream;
  capture->context = stream->context;
  capture->streams = {stream};
  stream->capture = capture;
  stream->tips = std::move(tips);
  started().push_back(capture);
  return CUDA_SUCCESS;
}

CUresult why_not_ended(const Pointer& capture, CUstream stream) {
  if (capture->origin != stream) return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
  if (capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED && capture->thread != this_thread())
    return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
  return CUDA_SUCCESS;
}

CUstreamCaptureStatus status_of(CUstream stream) {
  if (stream->capture == nullptr) return CU_STREAM_CAPTURE_STATUS_NONE;
  return stream->capture->valid ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_INVALIDATED;
}

// Zeroes: ordinary edges, as many as anyone has asked for.
const CUgraphEdgeData* plain_edges(size_t count) {
  static auto* zeroes = new std::vector<std::unique_ptr<CUgraphEdgeData[]>>;
  thread_local size_t size = 0;
  thread_local CUgraphEdgeData* mine = nullptr;
  if (count > size) {
    size = count * 2;
    zeroes->push_back(std::make_unique<CUgraphEdgeData[]>(size));
    mine = zeroes->back().get();
  }
  return mine;
}

bool all_ordinary(const CUgraphEdgeData* data, size_t count) {
  return data == nullptr || std::all_of(data, data + count, [](const CUgraphEdgeData& edge) {
           return edge.type == CU_GRAPH_DEPENDENCY_TYPE_DEFAULT;
         });
}

}  // namespace

CUresult legacy_beside_captures(CUcontext context) {
  CUresult result = CUDA_SUCCESS;
  for (const Pointer& capture : ongoing())
    for (CUstream stream : capture->streams)
      if (stream->context == context && blocking(stream))
        result = spoil(capture, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
  return result;
}

CUresult not_while_captured(CUstream stream) {
  if (stream->capture == nullptr) return CUDA_SUCCESS;
  return spoil(stream->capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
}

CUresult none_captured(CUcontext context) {
  CUresult result = CUDA_SUCCESS;
  for (const Pointer& capture : ongoing())
    if (capture->context == context) result = spoil(capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  return result;
}

CUresult unsafe() {
  if (thread_mode == CU_STREAM_CAPTURE_MODE_RELAXED || started().empty()) return CUDA_SUCCESS;
  CUresult result = CUDA_SUCCESS;
  for (const Pointer& capture : ongoing())
    if (forbids(*capture)) result = spoil(capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  return result;
}

void abandon_capture(CUstream stream) {
  if (stream->capture == nullptr) return;
  Pointer capture = stream->capture;
  capture->valid = false;
  capture->streams.erase(stream);
  if (capture->origin != stream) return;
  let_go(capture);
  if (capture->own_graph) end_graph(capture->graph);
}

CUresult capture_work(CUstream stream, Operation& work) {
  Pointer capture = stream->capture;
  if (!capture->valid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  CUgraphNode node = nullptr;
  CUresult result = add_node(capture->graph, edges_from(stream->tips), work, &node);
  if (result != CUDA_SUCCESS) return spoil(capture, result);
  stream->tips = {node};
  work.params = node->work.params;
  return CUDA_SUCCESS;
}

CUresult capture_record(CUstream stream, CapturedPoint* out) {
  if (!stream->capture->valid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  *out = {stream->capture, stream->tips};
  return CUDA_SUCCESS;
}

CUresult capture_wait(CUstream stream, const CapturedPoint& point) {
  Pointer theirs = point.capture.lock(), ours = stream->capture;
  if (theirs == nullptr)
    return ours != nullptr ? spoil(ours, CUDA_ERROR_STREAM_CAPTURE_ISOLATION) : CUDA_SUCCESS;
  if (!theirs->valid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  if (stream->kind == CUstream_st::Kind::kLegacy) return spoil(theirs, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
  if (ours != nullptr && ours != theirs) {
    spoil(ours, CUDA_SUCCESS);
    return spoil(theirs, CUDA_ERROR_STREAM_CAPTURE_MERGE);
  }
  stream->capture = theirs;
  theirs->streams.insert(stream);
  for (CUgraphNode tip : point.tips)
    if (std::find(stream->tips.begin(), stream->tips.end(), tip) == stream->tips.end())
      stream->tips.push_back(tip);
  return CUDA_SUCCESS;
}

CUresult captured_event(const CapturedPoint& point) {
  Pointer capture = point.capture.lock();
  return capture != nullptr ? spoil(capture, CUDA_ERROR_CAPTURED_EVENT) : CUDA_SUCCESS;
}

CUresult stream_begin_capture(CUstream hStream, CUstreamCaptureMode mode) {
  return begin(hStream, nullptr, {}, mode);
}

CUresult stream_begin_capture_v1(CUstream hStream) {
  return begin(hStream, nullptr, {}, CU_STREAM_CAPTURE_MODE_GLOBAL);
}

CUresult stream_begin_capture_to_graph(CUstream hStream, CUgraph hGraph, const CUgraphNode* dependencies,
                                       const CUgraphEdgeData* dependencyData, size_t numDependencies,
                                       CUstreamCaptureMode mode) {
  if (!alive(hGraph) || (numDependencies > 0 && dependencies == nullptr)) return CUDA_ERROR_INVALID_VALUE;
  if (!all_ordinary(dependencyData, numDependencies)) return CUDA_ERROR_NOT_SUPPORTED;
  std::vector<CUgraphNode> tips(dependencies, dependencies + numDependencies);
  for (CUgraphNode tip : tips)
    if (!has(hGraph, tip)) return CUDA_ERROR_INVALID_VALUE;
  return begin(hStream, hGraph, tips, mode);
}

CUresult stream_end_capture(CUstream hStream, CUgraph* phGraph) {
  if (phGraph == nullptr) return CUDA_ERROR_INVALID_VALUE;
  CUstream stream;
  TRY(find_stream(hStream, &stream));
  Pointer capture = stream->capture;
  if (capture == nullptr) return CUDA_ERROR_ILLEGAL_STATE;
  *phGraph = nullptr;
  TRY(why_not_ended(capture, stream));
  CUresult result = !capture->valid     ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
                    : !joined(*capture) ? CUDA_ERROR_STREAM_CAPTURE_UNJOINED
                                        : CUDA_SUCCESS;
  let_go(capture);
  if (result == CUDA_SUCCESS)
    *phGraph = capture->graph;
  else if (capture->own_graph)
    end_graph(capture->graph);
  return result;
}

CUresult stream_is_capturing(CUstream hStream, CUstreamCaptureStatus* captureStatus) {
  if (captureStatus == nullptr) return CUDA_ERROR_INVALID_VALUE;
  CUstream stream;
  TRY(find_working_stream(hStream, &stream));
  return set(captureStatus, status_of(stream));
}

CUresult stream_get_capture_info(CUstream hStream, CUstreamCaptureStatus* captureStatus_out,
                                 cuuint64_t* id_out, CUgraph* graph_out, const CUgraphNode** dependencies_out,
                                 const CUgraphEdgeData** edgeData_out, size_t* numDependencies_out) {
  if (captureStatus_out == nullptr) return CUDA_ERROR_INVALID_VALUE;
  CUstream stream;
  TRY(find_working_stream(hStream, &stream));
  *captureStatus_out = status_of(stream);
  if (*captureStatus_out != CU_STREAM_CAPTURE_STATUS_ACTIVE) return CUDA_SUCCESS;
  if (id_out != nullptr) *id_out = stream->capture->id;
  if (graph_out != nullptr) *graph_out = stream->capture->graph;
  if (dependencies_out != nullptr) *dependencies_out = stream->tips.data();
  if (edgeData_out != nullptr) *edgeData_out = plain_edges(stream->tips.size());
  if (numDependencies_out != nullptr) *numDependencies_out = stream->tips.size();
  return CUDA_SUCCESS;
}

CUresult stream_get_capture_info_v2(CUstream hStream, CUstreamCaptureStatus* captureStatus_out,
                                    cuuint64_t* id_out, CUgraph* graph_out,
                                    const CUgraphNode** dependencies_out, size_t* numDependencies_out) {
  return stream_get_capture_info(hStream, captureStatus_out, id_out, graph_out, dependencies_out, nullptr,
                                 numDependencies_out);
}

CUresult stream_get_capture_info_v1(CUstream hStream, CUstreamCaptureStatus* captureStatus_out,
                                    cuuint64_t* id_out) {
  return stream_get_capture_info(hStream, captureStatus_out, id_out, nullptr, nullptr, nullptr, nullptr);
}

CUresult stream_update_capture_dependencies(CUstream hStream, CUgraphNode* dependencies,
                                            const CUgraphEdgeData* dependencyData, size_t numDependencies,
                                            unsigned int flags) {
  CUstream stream;
  TRY(find_stream(hStream, &stream));
  if (stream->capture == nullptr) return CUDA_ERROR_ILLEGAL_STATE;
  if (flags > CU_STREAM_SET_CAPTURE_DEPENDENCIES || (numDependencies > 0 && dependencies == nullptr))
    return CUDA_ERROR_INVALID_VALUE;
  if (!all_ordinary(dependencyData, numDependencies)) return CUDA_ERROR_NOT_SUPPORTED;
  std::vector<CUgraphNode> tips;
  if (flags == CU_STREAM_ADD_CAPTURE_DEPENDENCIES) tips = stream->tips;
  for (size_t i = 0; i < numDependencies; ++i) {
    if (!has(stream->capture->graph, dependencies[i])) return CUDA_ERROR_INVALID_VALUE;
    tips.push_back(dependencies[i]);
  }
  stream->tips = tips;
  return CUDA_SUCCESS;
}

CUresult stream_update_capture_dependencies_v1(CUstream hStream, CUgraphNode* dependencies,
                                               size_t numDependencies, unsigned int flags) {
  return stream_update_capture_dependencies(hStream, dependencies, nullptr, numDependencies, flags);
}

CUresult thread_exchange_stream_capture_mode(CUstreamCaptureMode* mode) {
  if (mode == nullptr || *mode > CU_STREAM_CAPTURE_MODE_RELAXED) return CUDA_ERROR_INVALID_VALUE;
  std::swap(*mode, thread_mode);
  return CUDA_SUCCESS;
}

}  // namespace standin::driver

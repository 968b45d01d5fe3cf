// Doing work, and functions on the host.
#include "work.h"

#include "captures.h"
#include "copies.h"
#include "events.h"
#include "handles.h"
#include "implementations.h"

namespace standin::driver {

Operation operation(CUgraphNodeType type) {
  Operation work;
  work.params.type = type;
  return work;
}

CUresult issue(CUstream stream, Operation& work) {
  if (stream->capture == nullptr) return perform(stream, work);
  return capture_work(stream, work);
}

CUresult check(const Operation& work) {
  const CUgraphNodeParams& p = work.params;
  switch (p.type) {
    case CU_GRAPH_NODE_TYPE_KERNEL:
      return check_kernel(work);
    case CU_GRAPH_NODE_TYPE_MEMCPY:
      return check_copy(p.memcpy.copyParams);
    case CU_GRAPH_NODE_TYPE_MEMSET:
      return check_fill(p.memset);
    case CU_GRAPH_NODE_TYPE_HOST:
      return p.host.fn != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    case CU_GRAPH_NODE_TYPE_GRAPH:
      return alive(p.graph.graph) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
      return alive(p.eventWait.event) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
      return alive(p.eventRecord.event) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
      return p.memOp.count > 0 && p.memOp.paramArray != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    case CU_GRAPH_NODE_TYPE_EMPTY:
    case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
    case CU_GRAPH_NODE_TYPE_MEM_FREE:
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_NOT_SUPPORTED;
  }
}

CUresult perform(CUstream stream, const Operation& work) {
  const CUgraphNodeParams& p = work.params;
  switch (p.type) {
    case CU_GRAPH_NODE_TYPE_KERNEL:
      return perform_kernel(stream, work);
    case CU_GRAPH_NODE_TYPE_MEMCPY:
      return perform_copy(stream, p.memcpy.copyParams);
    case CU_GRAPH_NODE_TYPE_MEMSET:
      return perform_fill(stream, p.memset);
    case CU_GRAPH_NODE_TYPE_HOST:
      return perform_host(stream, p.host);
    case CU_GRAPH_NODE_TYPE_GRAPH:
      return perform_graph(stream, work.child);
    case CU_GRAPH_NODE_TYPE_EMPTY:
      return CUDA_SUCCESS;
    case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
      return perform_wait(stream, p.eventWait.event);
    case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
      return perform_record(stream, p.eventRecord.event);
    case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
      return perform_alloc(stream, p.alloc);
    case CU_GRAPH_NODE_TYPE_MEM_FREE:
      return perform_free(stream, p.free.dptr);
    case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
      return perform_values(stream, work);
    default:
      return CUDA_ERROR_NOT_SUPPORTED;
  }
}

// A mark before it tells when all that it comes after has ended.
void submit_host(CUstream stream, std::function<void()> run, std::function<bool()> until) {
  auto task = std::make_shared<HostTask>();
  task->ready = submit(stream, kMark);
  task->place = submit(stream, {ST_HOST, 0, 0, 0, 0});
  task->run = std::move(run);
  task->until = std::move(until);
  forget_done(stream->hosts);
  task->before = stream->hosts;
  stream->hosts = {task};
  enqueue(task);
}

CUresult perform_host(CUstream stream, const CUDA_HOST_NODE_PARAMS_v2& host) {
  submit_host(stream, [host] { host.fn(host.userData); }, nullptr);
  return CUDA_SUCCESS;
}

CUresult launch_host_func(CUstream hStream, CUhostFn fn, void* userData) {
  if (fn == nullptr) return CUDA_ERROR_INVALID_VALUE;
  CUstream stream;
  TRY(find_working_stream(hStream, &stream));
  Operation work = operation(CU_GRAPH_NODE_TYPE_HOST);
  work.params.host = {fn, userData};
  return issue(stream, work);
}

CUresult stream_add_callback(CUstream hStream, CUstreamCallback callback, void* userData,
                             unsigned int flags) {
  if (callback == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  CUstream stream;
  TRY(find_working_stream(hStream, &stream));
  TRY(not_while_captured(stream));
  submit_host(stream, [=] { callback(hStream, CUDA_SUCCESS, userData); }, nullptr);
  return CUDA_SUCCESS;
}

}  // namespace standin::driver

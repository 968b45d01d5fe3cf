// Launching graphs: the nodes go into the stream one after the other, each after those that it depends on.
// Branches that a GPU would run side by side run in turn here, so a graph never takes less than the sum of
// its nodes.
#include "executions.h"

#include <algorithm>

#include "captures.h"
#include "handles.h"
#include "implementations.h"
#include "pools.h"

namespace standin::driver {
namespace {

constexpr unsigned long long kFlags = CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH |
                                      CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD |
                                      CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY;

CUresult instantiate(CUgraph graph, unsigned long long flags, CUgraphExec* out) {
  if (out == nullptr || !alive(graph)) return CUDA_ERROR_INVALID_VALUE;
  if ((flags & CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH) != 0) return CUDA_ERROR_NOT_SUPPORTED;
  if ((flags & ~kFlags) != 0) return CUDA_ERROR_INVALID_VALUE;
  CUgraph copy = clone(graph);
  std::vector<CUgraphNode> order = in_order(copy);
  if (order.size() != copy->nodes.size()) {  // a circle
    end_graph(copy);
    return CUDA_ERROR_INVALID_VALUE;
  }
  CUgraphExec made = enlist(new CUgraphExec_st{.graph = copy, .order = std::move(order), .flags = flags});
  for (const auto& node : copy->nodes) made->of_original[node->original] = node.get();
  for (auto& [object, count] : graph->objects) {
    object->references += count;
    copy->objects.push_back({object, count});
  }
  *out = made;
  return CUDA_SUCCESS;
}

CUresult instantiate_old(CUgraphExec* out, CUgraph graph, CUgraphNode* error, char* log, size_t size) {
  if (error != nullptr) *error = nullptr;
  if (log != nullptr && size > 0) *log = 0;
  return instantiate(graph, 0, out);
}

CUresult launch(CUgraphExec execution, CUstream stream) {
  if ((execution->flags & CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH) != 0) free_left(execution->order);
  follow(stream->queue, execution->last);
  merge(stream->hosts, execution->hosts);
  CUresult result = CUDA_SUCCESS;
  for (CUgraphNode node : execution->order)
    if (result == CUDA_SUCCESS && node->enabled) result = perform(stream, node->work);
  execution->last = {stream->queue, stream->last};
  execution->hosts = stream->hosts;
  return result;
}

// Nodes correspond by the order in which they were made.
CUgraphExecUpdateResult compare(CUgraph ours, CUgraph theirs, CUgraphNode* error) {
  *error = nullptr;
  if (ours->nodes.size() != theirs->nodes.size()) return CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
  std::unordered_map<CUgraphNode, size_t> at, their_at;
  for (size_t i = 0; i < ours->nodes.size(); ++i)
    at[ours->nodes[i].get()] = their_at[theirs->nodes[i].get()] = i;
  for (size_t i = 0; i < ours->nodes.size(); ++i) {
    const CUgraphNode_st& one = *ours->nodes[i];
    const CUgraphNode_st& other = *theirs->nodes[i];
    *error = theirs->nodes[i].get();
    if (one.work.params.type != other.work.params.type) return CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED;
    auto same = [&](const Edge& a, const Edge& b) { return at.at(a.from) == their_at.at(b.from); };
    if (!std::equal(one.before.begin(), one.before.end(), other.before.begin(), other.before.end(), same))
      return CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
  }
  *error = nullptr;
  return CU_GRAPH_EXEC_UPDATE_SUCCESS;
}

void take_over(CUgraph ours, CUgraph theirs) {
  for (size_t i = 0; i < ours->nodes.size(); ++i) {
    Operation& work = ours->nodes[i]->work;
    CUgraph child = work.child;
    work = theirs->nodes[i]->work;
    if (child == nullptr) continue;
    end_graph(child);
    work.child = clone(work.child);
    work.child->is_child = true;
    work.params.graph.graph = work.child;
  }
}

CUresult update(CUgraphExec execution, CUgraph graph, CUgraphNode* error, CUgraphExecUpdateResult* result) {
  if (!alive(execution) || !alive(graph)) return CUDA_ERROR_INVALID_VALUE;
  *result = compare(execution->graph, graph, error);
  if (*result != CU_GRAPH_EXEC_UPDATE_SUCCESS) return CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
  take_over(execution->graph, graph);
  return CUDA_SUCCESS;
}

}  // namespace

CUgraphNode find_in(CUgraphExec execution, CUgraphNode original) {
  auto found = execution->of_original.find(original);
  return found != execution->of_original.end() ? found->second : nullptr;
}

CUresult graph_instantiate_with_flags(CUgraphExec* phGraphExec, CUgraph hGraph, unsigned long long flags) {
  return instantiate(hGraph, flags, phGraphExec);
}

CUresult graph_instantiate(CUgraphExec* phGraphExec, CUgraph hGraph, CUgraphNode* phErrorNode,
                           char* logBuffer, size_t bufferSize) {
  return instantiate_old(phGraphExec, hGraph, phErrorNode, logBuffer, bufferSize);
}

CUresult graph_instantiate_with_params(CUgraphExec* phGraphExec, CUgraph hGraph,
                                       CUDA_GRAPH_INSTANTIATE_PARAMS* instantiateParams) {
  if (instantiateParams == nullptr) return CUDA_ERROR_INVALID_VALUE;
  instantiateParams->hErrNode_out = nullptr;
  instantiateParams->result_out = CUDA_GRAPH_INSTANTIATE_ERROR;
  TRY(instantiate(hGraph, instantiateParams->flags, phGraphExec));
  instantiateParams->result_out = CUDA_GRAPH_INSTANTIATE_SUCCESS;
  return CUDA_SUCCESS;
}

CUresult graph_exec_get_flags(CUgraphExec hGraphExec, cuuint64_t* flags) {
  return alive(hGraphExec) ? set(flags, hGraphExec->flags) : CUDA_ERROR_INVALID_VALUE;
}

CUresult graph_upload(CUgraphExec hGraphExec, CUstream hStream) {
  CUstream stream;
  TRY(find_working_stream(hStream, &stream));
  TRY(not_while_captured(stream));
  return alive(hGraphExec) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult graph_launch(CUgraphExec hGraphExec, CUstream hStream) {
  if (!alive(hGraphExec)) return CUDA_ERROR_INVALID_VALUE;
  CUstream stream;
  TRY(find_working_stream(hStream, &stream));
  if (stream->capture == nullptr) return launch(hGraphExec, stream);
  Operation work = operation(CU_GRAPH_NODE_TYPE_GRAPH);
  work.params.graph.graph = hGraphExec->graph;
  return issue(stream, work);
}

CUresult graph_exec_destroy(CUgraphExec hGraphExec) {
  if (!alive(hGraphExec)) return CUDA_ERROR_INVALID_VALUE;
  end_graph(hGraphExec->graph);
  strike(hGraphExec);
  return CUDA_SUCCESS;
}

CUresult graph_exec_update(CUgraphExec hGraphExec, CUgraph hGraph, CUgraphExecUpdateResultInfo* resultInfo) {
  if (resultInfo == nullptr) return CUDA_ERROR_INVALID_VALUE;
  resultInfo->errorFromNode = nullptr;
  return update(hGraphExec, hGraph, &resultInfo->errorNode, &resultInfo->result);
}

CUresult graph_exec_update_v1(CUgraphExec hGraphExec, CUgraph hGraph, CUgraphNode* hErrorNode_out,
                              CUgraphExecUpdateResult* updateResult_out) {
  if (hErrorNode_out == nullptr || updateResult_out == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return update(hGraphExec, hGraph, hErrorNode_out, updateResult_out);
}

CUresult graph_node_set_enabled(CUgraphExec hGraphExec, CUgraphNode hNode, unsigned int isEnabled) {
  if (!alive(hGraphExec)) return CUDA_ERROR_INVALID_VALUE;
  CUgraphNode node = find_in(hGraphExec, hNode);
  if (node == nullptr) return CUDA_ERROR_INVALID_VALUE;
  CUgraphNodeType type = node->work.params.type;
  bool may = type == CU_GRAPH_NODE_TYPE_KERNEL || type == CU_GRAPH_NODE_TYPE_MEMSET ||
             type == CU_GRAPH_NODE_TYPE_MEMCPY;
  if (!may) return CUDA_ERROR_INVALID_VALUE;
  node->enabled = isEnabled != 0;
  return CUDA_SUCCESS;
}

CUresult graph_node_get_enabled(CUgraphExec hGraphExec, CUgraphNode hNode, unsigned int* isEnabled) {
  CUgraphNode node = alive(hGraphExec) ? find_in(hGraphExec, hNode) : nullptr;
  return node != nullptr ? set(isEnabled, node->enabled ? 1 : 0) : CUDA_ERROR_INVALID_VALUE;
}

}  // namespace standin::driver

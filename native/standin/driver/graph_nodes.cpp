// Nodes of each kind: added, asked for their parameters, given others. The API has three names for each.
#include <algorithm>

#include "executions.h"
#include "handles.h"
#include "implementations.h"
#include "modules.h"

namespace standin::driver {
namespace {

using Params = CUgraphNodeParams;

CUresult edges_of(const CUgraphNode* nodes, const CUgraphEdgeData* data, size_t count,
                  std::vector<Edge>* out) {
  if (count > 0 && nodes == nullptr) return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < count; ++i)
    out->push_back({nodes[i], data != nullptr ? data[i] : CUgraphEdgeData{}});
  return CUDA_SUCCESS;
}

CUresult add_work(CUgraphNode* out, CUgraph graph, const CUgraphNode* before, const CUgraphEdgeData* data,
                  size_t count, const Operation& work) {
  std::vector<Edge> edges;
  if (out == nullptr || !alive(graph)) return CUDA_ERROR_INVALID_VALUE;
  TRY(edges_of(before, data, count, &edges));
  return add_node(graph, edges, work, out);
}

// `place` is where the parameters of a kind of node lie in CUgraphNodeParams.
template <typename P>
Operation work_with(CUgraphNodeType type, P Params::* place, const P& params) {
  Operation work = operation(type);
  work.params.*place = params;
  return work;
}

template <typename P>
CUresult add(CUgraphNode* out, CUgraph graph, const CUgraphNode* before, size_t count, CUgraphNodeType type,
             P Params::* place, const P& params) {
  return add_work(out, graph, before, nullptr, count, work_with(type, place, params));
}

template <typename P>
CUresult get(CUgraphNode node, CUgraphNodeType type, P Params::* place, P* out) {
  if (out == nullptr || !alive(node) || node->work.params.type != type) return CUDA_ERROR_INVALID_VALUE;
  *out = node->work.params.*place;
  return CUDA_SUCCESS;
}

CUresult replace(CUgraphNode node, Operation work) {
  bool fixed =
      work.params.type == CU_GRAPH_NODE_TYPE_MEM_ALLOC || work.params.type == CU_GRAPH_NODE_TYPE_MEM_FREE;
  if (fixed || node->work.params.type != work.params.type) return CUDA_ERROR_INVALID_VALUE;
  TRY(check(work));
  work.attributes = node->work.attributes;
  CUgraph old = node->work.child;
  TRY(settle(work));
  node->work = work;
  point_to_own(node);
  if (old != nullptr) end_graph(old);
  return CUDA_SUCCESS;
}

template <typename P>
CUresult put(CUgraphNode node, CUgraphNodeType type, P Params::* place, const P& params) {
  return alive(node) ? replace(node, work_with(type, place, params)) : CUDA_ERROR_INVALID_VALUE;
}

CUresult ready_node(CUgraphExec execution, CUgraphNode original, CUgraphNode* out) {
  *out = alive(execution) ? find_in(execution, original) : nullptr;
  return *out != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

template <typename P>
CUresult put_ready(CUgraphExec execution, CUgraphNode original, CUgraphNodeType type, P Params::* place,
                   const P& params) {
  CUgraphNode node;
  TRY(ready_node(execution, original, &node));
  return replace(node, work_with(type, place, params));
}

CUDA_KERNEL_NODE_PARAMS_v3 newest(const CUDA_KERNEL_NODE_PARAMS_v2& p) {
  return {p.func,      p.gridDimX,       p.gridDimY,     p.gridDimZ, p.blockDimX, p.blockDimY,
          p.blockDimZ, p.sharedMemBytes, p.kernelParams, p.extra,    p.kern,      p.ctx};
}

CUDA_KERNEL_NODE_PARAMS_v3 newest(const CUDA_KERNEL_NODE_PARAMS_v1& p) {
  return {p.func,      p.gridDimX,       p.gridDimY,     p.gridDimZ, p.blockDimX, p.blockDimY,
          p.blockDimZ, p.sharedMemBytes, p.kernelParams, p.extra,    nullptr,     nullptr};
}

CUDA_MEMSET_NODE_PARAMS_v2 newest(const CUDA_MEMSET_NODE_PARAMS& p, CUcontext context) {
  return {p.dst, p.pitch, p.value, p.elementSize, p.width, p.height, context};
}

CUDA_BATCH_MEM_OP_NODE_PARAMS_v2 newest(const CUDA_BATCH_MEM_OP_NODE_PARAMS& p) {
  return {p.ctx, p.count, p.paramArray, p.flags};
}

constexpr auto kKernel = CU_GRAPH_NODE_TYPE_KERNEL;
constexpr auto kMemcpy = CU_GRAPH_NODE_TYPE_MEMCPY;
constexpr auto kMemset = CU_GRAPH_NODE_TYPE_MEMSET;
constexpr auto kHost = CU_GRAPH_NODE_TYPE_HOST;
constexpr auto kGraph = CU_GRAPH_NODE_TYPE_GRAPH;
constexpr auto kRecord = CU_GRAPH_NODE_TYPE_EVENT_RECORD;
constexpr auto kWait = CU_GRAPH_NODE_TYPE_WAIT_EVENT;
constexpr auto kBatch = CU_GRAPH_NODE_TYPE_BATCH_MEM_OP;

#define NEEDS(pointer) \
  if ((pointer) == nullptr) return CUDA_ERROR_INVALID_VALUE

}  // namespace

// --- kernels

CUresult graph_add_kernel_node(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                               size_t numDependencies, const CUDA_KERNEL_NODE_PARAMS* nodeParams) {
  NEEDS(nodeParams);
  return add(phGraphNode, hGraph, dependencies, numDependencies, kKernel, &Params::kernel,
             newest(*nodeParams));
}

CUresult graph_add_kernel_node_v1(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                                  size_t numDependencies, const CUDA_KERNEL_NODE_PARAMS_v1* nodeParams) {
  NEEDS(nodeParams);
  return add(phGraphNode, hGraph, dependencies, numDependencies, kKernel, &Params::kernel,
             newest(*nodeParams));
}

CUresult graph_kernel_node_get_params(CUgraphNode hNode, CUDA_KERNEL_NODE_PARAMS* nodeParams) {
  CUDA_KERNEL_NODE_PARAMS_v3 p;
  NEEDS(nodeParams);
  TRY(get(hNode, kKernel, &Params::kernel, &p));
  *nodeParams = {p.func,      p.gridDimX,       p.gridDimY,     p.gridDimZ, p.blockDimX, p.blockDimY,
                 p.blockDimZ, p.sharedMemBytes, p.kernelParams, p.extra,    p.kern,      p.ctx};
  return CUDA_SUCCESS;
}

CUresult graph_kernel_node_get_params_v1(CUgraphNode hNode, CUDA_KERNEL_NODE_PARAMS_v1* nodeParams) {
  CUDA_KERNEL_NODE_PARAMS_v3 p;
  NEEDS(nodeParams);
  TRY(get(hNode, kKernel, &Params::kernel, &p));
  *nodeParams = {p.func,      p.gridDimX,  p.gridDimY,       p.gridDimZ,     p.blockDimX,
                 p.blockDimY, p.blockDimZ, p.sharedMemBytes, p.kernelParams, p.extra};
  return CUDA_SUCCESS;
}

CUresult graph_kernel_node_set_params(CUgraphNode hNode, const CUDA_KERNEL_NODE_PARAMS* nodeParams) {
  NEEDS(nodeParams);
  return put(hNode, kKernel, &Params::kernel, newest(*nodeParams));
}

CUresult graph_kernel_node_set_params_v1(CUgraphNode hNode, const CUDA_KERNEL_NODE_PARAMS_v1* nodeParams) {
  NEEDS(nodeParams);
  return put(hNode, kKernel, &Params::kernel, newest(*nodeParams));
}

CUresult graph_exec_kernel_node_set_params(CUgraphExec hGraphExec, CUgraphNode hNode,
                                           const CUDA_KERNEL_NODE_PARAMS* nodeParams) {
  NEEDS(nodeParams);
  return put_ready(hGraphExec, hNode, kKernel, &Params::kernel, newest(*nodeParams));
}

CUresult graph_exec_kernel_node_set_params_v1(CUgraphExec hGraphExec, CUgraphNode hNode,
                                              const CUDA_KERNEL_NODE_PARAMS_v1* nodeParams) {
  NEEDS(nodeParams);
  return put_ready(hGraphExec, hNode, kKernel, &Params::kernel, newest(*nodeParams));
}

CUresult graph_kernel_node_get_attribute(CUgraphNode hNode, CUkernelNodeAttrID attr,
                                         CUkernelNodeAttrValue* value_out) {
  NEEDS(value_out);
  if (!alive(hNode) || hNode->work.params.type != kKernel) return CUDA_ERROR_INVALID_VALUE;
  auto found = hNode->work.attributes.find(attr);
  *value_out = found != hNode->work.attributes.end() ? found->second : CUkernelNodeAttrValue{};
  return CUDA_SUCCESS;
}

CUresult graph_kernel_node_set_attribute(CUgraphNode hNode, CUkernelNodeAttrID attr,
                                         const CUkernelNodeAttrValue* value) {
  NEEDS(value);
  if (!alive(hNode) || hNode->work.params.type != kKernel) return CUDA_ERROR_INVALID_VALUE;
  hNode->work.attributes[attr] = *value;
  return CUDA_SUCCESS;
}

CUresult graph_kernel_node_copy_attributes(CUgraphNode dst, CUgraphNode src) {
  if (!alive(dst) || !alive(src)) return CUDA_ERROR_INVALID_VALUE;
  if (dst->work.params.type != kKernel || src->work.params.type != kKernel) return CUDA_ERROR_INVALID_VALUE;
  dst->work.attributes = src->work.attributes;
  return CUDA_SUCCESS;
}

// --- copies and fills

CUresult graph_add_memcpy_node(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                               size_t numDependencies, const CUDA_MEMCPY3D* copyParams, CUcontext ctx) {
  NEEDS(copyParams);
  return add(phGraphNode, hGraph, dependencies, numDependencies, kMemcpy, &Params::memcpy,
             {0, 0, ctx, *copyParams});
}

CUresult graph_memcpy_node_get_params(CUgraphNode hNode, CUDA_MEMCPY3D* nodeParams) {
  CUDA_MEMCPY_NODE_PARAMS p;
  NEEDS(nodeParams);
  TRY(get(hNode, kMemcpy, &Params::memcpy, &p));
  return set(nodeParams, p.copyParams);
}

CUresult graph_memcpy_node_set_params(CUgraphNode hNode, const CUDA_MEMCPY3D* nodeParams) {
  CUDA_MEMCPY_NODE_PARAMS p;
  NEEDS(nodeParams);
  TRY(get(hNode, kMemcpy, &Params::memcpy, &p));
  p.copyParams = *nodeParams;
  return put(hNode, kMemcpy, &Params::memcpy, p);
}

CUresult graph_exec_memcpy_node_set_params(CUgraphExec hGraphExec, CUgraphNode hNode,
                                           const CUDA_MEMCPY3D* copyParams, CUcontext ctx) {
  NEEDS(copyParams);
  return put_ready(hGraphExec, hNode, kMemcpy, &Params::memcpy, {0, 0, ctx, *copyParams});
}

CUresult graph_add_memset_node(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                               size_t numDependencies, const CUDA_MEMSET_NODE_PARAMS* memsetParams,
                               CUcontext ctx) {
  NEEDS(memsetParams);
  return add(phGraphNode, hGraph, dependencies, numDependencies, kMemset, &Params::memset,
             newest(*memsetParams, ctx));
}

CUresult graph_memset_node_get_params(CUgraphNode hNode, CUDA_MEMSET_NODE_PARAMS* nodeParams) {
  CUDA_MEMSET_NODE_PARAMS_v2 p;
  NEEDS(nodeParams);
  TRY(get(hNode, kMemset, &Params::memset, &p));
  *nodeParams = {p.dst, p.pitch, p.value, p.elementSize, p.width, p.height};
  return CUDA_SUCCESS;
}

CUresult graph_memset_node_set_params(CUgraphNode hNode, const CUDA_MEMSET_NODE_PARAMS* nodeParams) {
  NEEDS(nodeParams);
  return put(hNode, kMemset, &Params::memset, newest(*nodeParams, nullptr));
}

CUresult graph_exec_memset_node_set_params(CUgraphExec hGraphExec, CUgraphNode hNode,
                                           const CUDA_MEMSET_NODE_PARAMS* memsetParams, CUcontext ctx) {
  NEEDS(memsetParams);
  return put_ready(hGraphExec, hNode, kMemset, &Params::memset, newest(*memsetParams, ctx));
}

// --- the host

CUresult graph_add_host_node(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                             size_t numDependencies, const CUDA_HOST_NODE_PARAMS* nodeParams) {
  NEEDS(nodeParams);
  return add(phGraphNode, hGraph, dependencies, numDependencies, kHost, &Params::host,
             {nodeParams->fn, nodeParams->userData});
}

CUresult graph_host_node_get_params(CUgraphNode hNode, CUDA_HOST_NODE_PARAMS* nodeParams) {
  CUDA_HOST_NODE_PARAMS_v2 p;
  NEEDS(nodeParams);
  TRY(get(hNode, kHost, &Params::host, &p));
  *nodeParams = {p.fn, p.userData};
  return CUDA_SUCCESS;
}

CUresult graph_host_node_set_params(CUgraphNode hNode, const CUDA_HOST_NODE_PARAMS* nodeParams) {
  NEEDS(nodeParams);
  return put(hNode, kHost, &Params::host, {nodeParams->fn, nodeParams->userData});
}

CUresult graph_exec_host_node_set_params(CUgraphExec hGraphExec, CUgraphNode hNode,
                                         const CUDA_HOST_NODE_PARAMS* nodeParams) {
  NEEDS(nodeParams);
  return put_ready(hGraphExec, hNode, kHost, &Params::host, {nodeParams->fn, nodeParams->userData});
}

// --- graphs in graphs, and nodes that do nothing

CUresult graph_add_child_graph_node(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                                    size_t numDependencies, CUgraph childGraph) {
  return add(phGraphNode, hGraph, dependencies, numDependencies, kGraph, &Params::graph,
             {childGraph, CU_GRAPH_CHILD_GRAPH_OWNERSHIP_CLONE});
}

CUresult graph_child_graph_node_get_graph(CUgraphNode hNode, CUgraph* phGraph) {
  NEEDS(phGraph);
  if (!alive(hNode) || hNode->work.params.type != kGraph) return CUDA_ERROR_INVALID_VALUE;
  return set(phGraph, hNode->work.child);
}

CUresult graph_exec_child_graph_node_set_params(CUgraphExec hGraphExec, CUgraphNode hNode,
                                                CUgraph childGraph) {
  return put_ready(hGraphExec, hNode, kGraph, &Params::graph,
                   {childGraph, CU_GRAPH_CHILD_GRAPH_OWNERSHIP_CLONE});
}

CUresult graph_add_empty_node(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                              size_t numDependencies) {
  return add_work(phGraphNode, hGraph, dependencies, nullptr, numDependencies,
                  operation(CU_GRAPH_NODE_TYPE_EMPTY));
}

// --- events

CUresult graph_add_event_record_node(CUgraphNode* phGraphNode, CUgraph hGraph,
                                     const CUgraphNode* dependencies, size_t numDependencies, CUevent event) {
  return add(phGraphNode, hGraph, dependencies, numDependencies, kRecord, &Params::eventRecord, {event});
}

CUresult graph_event_record_node_get_event(CUgraphNode hNode, CUevent* event_out) {
  CUDA_EVENT_RECORD_NODE_PARAMS p;
  NEEDS(event_out);
  TRY(get(hNode, kRecord, &Params::eventRecord, &p));
  return set(event_out, p.event);
}

CUresult graph_event_record_node_set_event(CUgraphNode hNode, CUevent event) {
  return put(hNode, kRecord, &Params::eventRecord, {event});
}

CUresult graph_exec_event_record_node_set_event(CUgraphExec hGraphExec, CUgraphNode hNode, CUevent event) {
  return put_ready(hGraphExec, hNode, kRecord, &Params::eventRecord, {event});
}

CUresult graph_add_event_wait_node(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                                   size_t numDependencies, CUevent event) {
  return add(phGraphNode, hGraph, dependencies, numDependencies, kWait, &Params::eventWait, {event});
}

CUresult graph_event_wait_node_get_event(CUgraphNode hNode, CUevent* event_out) {
  CUDA_EVENT_WAIT_NODE_PARAMS p;
  NEEDS(event_out);
  TRY(get(hNode, kWait, &Params::eventWait, &p));
  return set(event_out, p.event);
}

CUresult graph_event_wait_node_set_event(CUgraphNode hNode, CUevent event) {
  return put(hNode, kWait, &Params::eventWait, {event});
}

CUresult graph_exec_event_wait_node_set_event(CUgraphExec hGraphExec, CUgraphNode hNode, CUevent event) {
  return put_ready(hGraphExec, hNode, kWait, &Params::eventWait, {event});
}

// --- values in memory

CUresult graph_add_batch_mem_op_node(CUgraphNode* phGraphNode, CUgraph hGraph,
                                     const CUgraphNode* dependencies, size_t numDependencies,
                                     const CUDA_BATCH_MEM_OP_NODE_PARAMS* nodeParams) {
  NEEDS(nodeParams);
  return add(phGraphNode, hGraph, dependencies, numDependencies, kBatch, &Params::memOp, newest(*nodeParams));
}

CUresult graph_batch_mem_op_node_get_params(CUgraphNode hNode,
                                            CUDA_BATCH_MEM_OP_NODE_PARAMS* nodeParams_out) {
  CUDA_BATCH_MEM_OP_NODE_PARAMS_v2 p;
  NEEDS(nodeParams_out);
  TRY(get(hNode, kBatch, &Params::memOp, &p));
  *nodeParams_out = {p.ctx, p.count, p.paramArray, p.flags};
  return CUDA_SUCCESS;
}

CUresult graph_batch_mem_op_node_set_params(CUgraphNode hNode,
                                            const CUDA_BATCH_MEM_OP_NODE_PARAMS* nodeParams) {
  NEEDS(nodeParams);
  return put(hNode, kBatch, &Params::memOp, newest(*nodeParams));
}

CUresult graph_exec_batch_mem_op_node_set_params(CUgraphExec hGraphExec, CUgraphNode hNode,
                                                 const CUDA_BATCH_MEM_OP_NODE_PARAMS* nodeParams) {
  NEEDS(nodeParams);
  return put_ready(hGraphExec, hNode, kBatch, &Params::memOp, newest(*nodeParams));
}

// --- memory

CUresult graph_add_mem_alloc_node(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                                  size_t numDependencies, CUDA_MEM_ALLOC_NODE_PARAMS* nodeParams) {
  NEEDS(nodeParams);
  Operation work = operation(CU_GRAPH_NODE_TYPE_MEM_ALLOC);
  work.params.alloc.poolProps = nodeParams->poolProps;
  work.params.alloc.bytesize = nodeParams->bytesize;
  TRY(add_work(phGraphNode, hGraph, dependencies, nullptr, numDependencies, work));
  nodeParams->dptr = (*phGraphNode)->work.params.alloc.dptr;
  return CUDA_SUCCESS;
}

CUresult graph_mem_alloc_node_get_params(CUgraphNode hNode, CUDA_MEM_ALLOC_NODE_PARAMS* params_out) {
  CUDA_MEM_ALLOC_NODE_PARAMS_v2 p;
  NEEDS(params_out);
  TRY(get(hNode, CU_GRAPH_NODE_TYPE_MEM_ALLOC, &Params::alloc, &p));
  *params_out = {p.poolProps, p.accessDescs, p.accessDescCount, p.bytesize, p.dptr};
  return CUDA_SUCCESS;
}

CUresult graph_add_mem_free_node(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                                 size_t numDependencies, CUdeviceptr dptr) {
  return add(phGraphNode, hGraph, dependencies, numDependencies, CU_GRAPH_NODE_TYPE_MEM_FREE, &Params::free,
             {dptr});
}

CUresult graph_mem_free_node_get_params(CUgraphNode hNode, CUdeviceptr* dptr_out) {
  CUDA_MEM_FREE_NODE_PARAMS p;
  NEEDS(dptr_out);
  TRY(get(hNode, CU_GRAPH_NODE_TYPE_MEM_FREE, &Params::free, &p));
  return set(dptr_out, p.dptr);
}

// --- of any kind

CUresult graph_add_node(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                        const CUgraphEdgeData* dependencyData, size_t numDependencies,
                        CUgraphNodeParams* nodeParams) {
  NEEDS(nodeParams);
  Operation work;
  work.params = *nodeParams;
  TRY(add_work(phGraphNode, hGraph, dependencies, dependencyData, numDependencies, work));
  const Params& p = (*phGraphNode)->work.params;
  if (p.type == CU_GRAPH_NODE_TYPE_MEM_ALLOC) nodeParams->alloc.dptr = p.alloc.dptr;
  if (p.type == CU_GRAPH_NODE_TYPE_GRAPH) nodeParams->graph.graph = p.graph.graph;
  return CUDA_SUCCESS;
}

CUresult graph_add_node_v1(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                           size_t numDependencies, CUgraphNodeParams* nodeParams) {
  return graph_add_node(phGraphNode, hGraph, dependencies, nullptr, numDependencies, nodeParams);
}

CUresult graph_node_set_params(CUgraphNode hNode, CUgraphNodeParams* nodeParams) {
  NEEDS(nodeParams);
  Operation work;
  work.params = *nodeParams;
  return alive(hNode) ? replace(hNode, work) : CUDA_ERROR_INVALID_VALUE;
}

CUresult graph_exec_node_set_params(CUgraphExec hGraphExec, CUgraphNode hNode,
                                    CUgraphNodeParams* nodeParams) {
  CUgraphNode node;
  NEEDS(nodeParams);
  TRY(ready_node(hGraphExec, hNode, &node));
  Operation work;
  work.params = *nodeParams;
  return replace(node, work);
}

}  // namespace standin::driver

// Nodes of graphs by what they do.
#include "copies.h"

namespace standin_runtime {
namespace {

cudaError_t describe(const cudaKernelNodeParams& node, CUDA_KERNEL_NODE_PARAMS* out) {
  *out = {};
  out->gridDimX = node.gridDim.x;
  out->gridDimY = node.gridDim.y;
  out->gridDimZ = node.gridDim.z;
  out->blockDimX = node.blockDim.x;
  out->blockDimY = node.blockDim.y;
  out->blockDimZ = node.blockDim.z;
  out->sharedMemBytes = node.sharedMemBytes;
  out->kernelParams = node.kernelParams;
  out->extra = node.extra;
  return kernel_of(node.func, &out->func);
}

// The handle stands for the function: the program can pass it wherever it passed its own.
void describe(const CUDA_KERNEL_NODE_PARAMS& node, cudaKernelNodeParams* out) {
  out->func = node.kern != nullptr ? static_cast<void*>(node.kern) : static_cast<void*>(node.func);
  out->gridDim = dim3(node.gridDimX, node.gridDimY, node.gridDimZ);
  out->blockDim = dim3(node.blockDimX, node.blockDimY, node.blockDimZ);
  out->sharedMemBytes = node.sharedMemBytes;
  out->kernelParams = node.kernelParams;
  out->extra = node.extra;
  know_kernel(static_cast<CUkernel>(out->func));
}

cudaError_t current_context(CUcontext* out) {
  cudaError_t result = prepare();
  return result != cudaSuccess ? result : try_call(&Driver::cuCtxGetCurrent, out);
}

cudaMemcpy3DParms line(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  cudaMemcpy3DParms copy = {};
  copy.srcPtr = {const_cast<void*>(from), bytes, bytes, 1};
  copy.dstPtr = {to, bytes, bytes, 1};
  copy.extent = {bytes, 1, 1};
  copy.kind = kind;
  return copy;
}

}  // namespace
}  // namespace standin_runtime

using namespace standin_runtime;

// --- kernels
// ---------------------------------------------------------------------------------------------------------

cudaError_t cudaGraphAddKernelNode(cudaGraphNode_t* node, cudaGraph_t graph, const cudaGraphNode_t* before,
                                   size_t count, const cudaKernelNodeParams* parameters) {
  if (parameters == nullptr) return keep(cudaErrorInvalidValue);
  CUDA_KERNEL_NODE_PARAMS theirs;
  cudaError_t result = describe(*parameters, &theirs);
  if (result != cudaSuccess) return keep(result);
  return call(&Driver::cuGraphAddKernelNode, node, graph, before, count, &theirs);
}

cudaError_t cudaGraphKernelNodeGetParams(cudaGraphNode_t node, cudaKernelNodeParams* out) {
  if (out == nullptr) return keep(cudaErrorInvalidValue);
  CUDA_KERNEL_NODE_PARAMS theirs = {};
  cudaError_t result = call(&Driver::cuGraphKernelNodeGetParams, node, &theirs);
  if (result == cudaSuccess) describe(theirs, out);
  return result;
}

cudaError_t cudaGraphKernelNodeSetParams(cudaGraphNode_t node, const cudaKernelNodeParams* parameters) {
  if (parameters == nullptr) return keep(cudaErrorInvalidValue);
  CUDA_KERNEL_NODE_PARAMS theirs;
  cudaError_t result = describe(*parameters, &theirs);
  return result != cudaSuccess ? keep(result) : call(&Driver::cuGraphKernelNodeSetParams, node, &theirs);
}

cudaError_t cudaGraphExecKernelNodeSetParams(cudaGraphExec_t exec, cudaGraphNode_t node,
                                             const cudaKernelNodeParams* parameters) {
  if (parameters == nullptr) return keep(cudaErrorInvalidValue);
  CUDA_KERNEL_NODE_PARAMS theirs;
  cudaError_t result = describe(*parameters, &theirs);
  if (result != cudaSuccess) return keep(result);
  return call(&Driver::cuGraphExecKernelNodeSetParams, exec, node, &theirs);
}

cudaError_t cudaGraphKernelNodeCopyAttributes(cudaGraphNode_t to, cudaGraphNode_t from) {
  return call(&Driver::cuGraphKernelNodeCopyAttributes, to, from);
}

cudaError_t cudaGraphKernelNodeGetAttribute(cudaGraphNode_t node, cudaKernelNodeAttrID attribute,
                                            cudaKernelNodeAttrValue* value) {
  return call(&Driver::cuGraphKernelNodeGetAttribute, node, attribute, value);
}

cudaError_t cudaGraphKernelNodeSetAttribute(cudaGraphNode_t node, cudaKernelNodeAttrID attribute,
                                            const cudaKernelNodeAttrValue* value) {
  return call(&Driver::cuGraphKernelNodeSetAttribute, node, attribute, value);
}

// --- copies
// ----------------------------------------------------------------------------------------------------------

cudaError_t cudaGraphAddMemcpyNode(cudaGraphNode_t* node, cudaGraph_t graph, const cudaGraphNode_t* before,
                                   size_t count, const cudaMemcpy3DParms* copy) {
  if (copy == nullptr) return keep(cudaErrorInvalidValue);
  CUcontext context = nullptr;
  CUDA_MEMCPY3D theirs;
  cudaError_t result = current_context(&context);
  if (result == cudaSuccess) result = describe(*copy, &theirs);
  if (result != cudaSuccess) return keep(result);
  return call(&Driver::cuGraphAddMemcpyNode, node, graph, before, count, &theirs, context);
}

cudaError_t cudaGraphAddMemcpyNode1D(cudaGraphNode_t* node, cudaGraph_t graph, const cudaGraphNode_t* before,
                                     size_t count, void* to, const void* from, size_t bytes,
                                     cudaMemcpyKind kind) {
  cudaMemcpy3DParms copy = line(to, from, bytes, kind);
  return cudaGraphAddMemcpyNode(node, graph, before, count, &copy);
}

cudaError_t cudaGraphMemcpyNodeSetParams(cudaGraphNode_t node, const cudaMemcpy3DParms* copy) {
  if (copy == nullptr) return keep(cudaErrorInvalidValue);
  CUDA_MEMCPY3D theirs;
  cudaError_t result = describe(*copy, &theirs);
  return result != cudaSuccess ? keep(result) : call(&Driver::cuGraphMemcpyNodeSetParams, node, &theirs);
}

cudaError_t cudaGraphMemcpyNodeSetParams1D(cudaGraphNode_t node, void* to, const void* from, size_t bytes,
                                           cudaMemcpyKind kind) {
  cudaMemcpy3DParms copy = line(to, from, bytes, kind);
  return cudaGraphMemcpyNodeSetParams(node, &copy);
}

cudaError_t cudaGraphExecMemcpyNodeSetParams(cudaGraphExec_t exec, cudaGraphNode_t node,
                                             const cudaMemcpy3DParms* copy) {
  if (copy == nullptr) return keep(cudaErrorInvalidValue);
  CUcontext context = nullptr;
  CUDA_MEMCPY3D theirs;
  cudaError_t result = current_context(&context);
  if (result == cudaSuccess) result = describe(*copy, &theirs);
  if (result != cudaSuccess) return keep(result);
  return call(&Driver::cuGraphExecMemcpyNodeSetParams, exec, node, &theirs, context);
}

cudaError_t cudaGraphExecMemcpyNodeSetParams1D(cudaGraphExec_t exec, cudaGraphNode_t node, void* to,
                                               const void* from, size_t bytes, cudaMemcpyKind kind) {
  cudaMemcpy3DParms copy = line(to, from, bytes, kind);
  return cudaGraphExecMemcpyNodeSetParams(exec, node, &copy);
}

// --- memory set
// ------------------------------------------------------------------------------------------------------

cudaError_t cudaGraphAddMemsetNode(cudaGraphNode_t* node, cudaGraph_t graph, const cudaGraphNode_t* before,
                                   size_t count, const cudaMemsetParams* parameters) {
  static_assert(sizeof(cudaMemsetParams) == sizeof(CUDA_MEMSET_NODE_PARAMS));
  CUcontext context = nullptr;
  cudaError_t result = current_context(&context);
  if (result != cudaSuccess) return keep(result);
  return call(&Driver::cuGraphAddMemsetNode, node, graph, before, count, parameters, context);
}

cudaError_t cudaGraphMemsetNodeGetParams(cudaGraphNode_t node, cudaMemsetParams* out) {
  return call(&Driver::cuGraphMemsetNodeGetParams, node, out);
}

cudaError_t cudaGraphMemsetNodeSetParams(cudaGraphNode_t node, const cudaMemsetParams* parameters) {
  return call(&Driver::cuGraphMemsetNodeSetParams, node, parameters);
}

cudaError_t cudaGraphExecMemsetNodeSetParams(cudaGraphExec_t exec, cudaGraphNode_t node,
                                             const cudaMemsetParams* parameters) {
  CUcontext context = nullptr;
  cudaError_t result = current_context(&context);
  if (result != cudaSuccess) return keep(result);
  return call(&Driver::cuGraphExecMemsetNodeSetParams, exec, node, parameters, context);
}

// --- functions on the host
// -------------------------------------------------------------------------------------------

cudaError_t cudaGraphAddHostNode(cudaGraphNode_t* node, cudaGraph_t graph, const cudaGraphNode_t* before,
                                 size_t count, const cudaHostNodeParams* parameters) {
  static_assert(sizeof(cudaHostNodeParams) == sizeof(CUDA_HOST_NODE_PARAMS));
  return call(&Driver::cuGraphAddHostNode, node, graph, before, count, parameters);
}

cudaError_t cudaGraphHostNodeGetParams(cudaGraphNode_t node, cudaHostNodeParams* out) {
  return call(&Driver::cuGraphHostNodeGetParams, node, out);
}

cudaError_t cudaGraphHostNodeSetParams(cudaGraphNode_t node, const cudaHostNodeParams* parameters) {
  return call(&Driver::cuGraphHostNodeSetParams, node, parameters);
}

cudaError_t cudaGraphExecHostNodeSetParams(cudaGraphExec_t exec, cudaGraphNode_t node,
                                           const cudaHostNodeParams* parameters) {
  return call(&Driver::cuGraphExecHostNodeSetParams, exec, node, parameters);
}

// --- graphs in graphs, events, memory, nothing
// -----------------------------------------------------------------------

cudaError_t cudaGraphAddChildGraphNode(cudaGraphNode_t* node, cudaGraph_t graph,
                                       const cudaGraphNode_t* before, size_t count, cudaGraph_t child) {
  return call(&Driver::cuGraphAddChildGraphNode, node, graph, before, count, child);
}

cudaError_t cudaGraphChildGraphNodeGetGraph(cudaGraphNode_t node, cudaGraph_t* graph) {
  return call(&Driver::cuGraphChildGraphNodeGetGraph, node, graph);
}

cudaError_t cudaGraphExecChildGraphNodeSetParams(cudaGraphExec_t exec, cudaGraphNode_t node,
                                                 cudaGraph_t child) {
  return call(&Driver::cuGraphExecChildGraphNodeSetParams, exec, node, child);
}

cudaError_t cudaGraphAddEmptyNode(cudaGraphNode_t* node, cudaGraph_t graph, const cudaGraphNode_t* before,
                                  size_t count) {
  return call(&Driver::cuGraphAddEmptyNode, node, graph, before, count);
}

cudaError_t cudaGraphAddEventRecordNode(cudaGraphNode_t* node, cudaGraph_t graph,
                                        const cudaGraphNode_t* before, size_t count, cudaEvent_t event) {
  return call(&Driver::cuGraphAddEventRecordNode, node, graph, before, count, event);
}

cudaError_t cudaGraphEventRecordNodeGetEvent(cudaGraphNode_t node, cudaEvent_t* event) {
  return call(&Driver::cuGraphEventRecordNodeGetEvent, node, event);
}

cudaError_t cudaGraphEventRecordNodeSetEvent(cudaGraphNode_t node, cudaEvent_t event) {
  return call(&Driver::cuGraphEventRecordNodeSetEvent, node, event);
}

cudaError_t cudaGraphExecEventRecordNodeSetEvent(cudaGraphExec_t exec, cudaGraphNode_t node,
                                                 cudaEvent_t event) {
  return call(&Driver::cuGraphExecEventRecordNodeSetEvent, exec, node, event);
}

cudaError_t cudaGraphAddEventWaitNode(cudaGraphNode_t* node, cudaGraph_t graph, const cudaGraphNode_t* before,
                                      size_t count, cudaEvent_t event) {
  return call(&Driver::cuGraphAddEventWaitNode, node, graph, before, count, event);
}

cudaError_t cudaGraphEventWaitNodeGetEvent(cudaGraphNode_t node, cudaEvent_t* event) {
  return call(&Driver::cuGraphEventWaitNodeGetEvent, node, event);
}

cudaError_t cudaGraphEventWaitNodeSetEvent(cudaGraphNode_t node, cudaEvent_t event) {
  return call(&Driver::cuGraphEventWaitNodeSetEvent, node, event);
}

cudaError_t cudaGraphExecEventWaitNodeSetEvent(cudaGraphExec_t exec, cudaGraphNode_t node,
                                               cudaEvent_t event) {
  return call(&Driver::cuGraphExecEventWaitNodeSetEvent, exec, node, event);
}

cudaError_t cudaGraphAddMemAllocNode(cudaGraphNode_t* node, cudaGraph_t graph, const cudaGraphNode_t* before,
                                     size_t count, cudaMemAllocNodeParams* parameters) {
  static_assert(sizeof(cudaMemAllocNodeParams) == sizeof(CUDA_MEM_ALLOC_NODE_PARAMS));
  return call(&Driver::cuGraphAddMemAllocNode, node, graph, before, count, parameters);
}

cudaError_t cudaGraphMemAllocNodeGetParams(cudaGraphNode_t node, cudaMemAllocNodeParams* out) {
  return call(&Driver::cuGraphMemAllocNodeGetParams, node, out);
}

cudaError_t cudaGraphAddMemFreeNode(cudaGraphNode_t* node, cudaGraph_t graph, const cudaGraphNode_t* before,
                                    size_t count, void* address) {
  return call(&Driver::cuGraphAddMemFreeNode, node, graph, before, count, address);
}

cudaError_t cudaGraphMemFreeNodeGetParams(cudaGraphNode_t node, void* out) {
  return call(&Driver::cuGraphMemFreeNodeGetParams, node, out);
}

// --- any
// -------------------------------------------------------------------------------------------------------------

namespace {

cudaKernelNodeParams kernel_of_any(const cudaKernelNodeParamsV2& any) {
  return {any.func, any.gridDim, any.blockDim, any.sharedMemBytes, any.kernelParams, any.extra};
}

cudaError_t add_any(cudaGraphNode_t* node, cudaGraph_t graph, const cudaGraphNode_t* before, size_t count,
                    cudaGraphNodeParams* any) {
  switch (any->type) {
    case cudaGraphNodeTypeKernel: {
      cudaKernelNodeParams kernel = kernel_of_any(any->kernel);
      return cudaGraphAddKernelNode(node, graph, before, count, &kernel);
    }
    case cudaGraphNodeTypeMemcpy:
      return cudaGraphAddMemcpyNode(node, graph, before, count, &any->memcpy.copyParams);
    case cudaGraphNodeTypeMemset:
      return cudaGraphAddMemsetNode(node, graph, before, count,
                                    reinterpret_cast<cudaMemsetParams*>(&any->memset));
    case cudaGraphNodeTypeHost:
      return cudaGraphAddHostNode(node, graph, before, count,
                                  reinterpret_cast<cudaHostNodeParams*>(&any->host));
    case cudaGraphNodeTypeGraph:
      return cudaGraphAddChildGraphNode(node, graph, before, count, any->graph.graph);
    case cudaGraphNodeTypeEmpty:
      return cudaGraphAddEmptyNode(node, graph, before, count);
    case cudaGraphNodeTypeWaitEvent:
      return cudaGraphAddEventWaitNode(node, graph, before, count, any->eventWait.event);
    case cudaGraphNodeTypeEventRecord:
      return cudaGraphAddEventRecordNode(node, graph, before, count, any->eventRecord.event);
    case cudaGraphNodeTypeMemAlloc:
      return cudaGraphAddMemAllocNode(node, graph, before, count,
                                      reinterpret_cast<cudaMemAllocNodeParams*>(&any->alloc));
    case cudaGraphNodeTypeMemFree:
      return cudaGraphAddMemFreeNode(node, graph, before, count, any->free.dptr);
    default:
      return keep(cudaErrorNotSupported);
  }
}

}  // namespace

cudaError_t cudaGraphAddNode(cudaGraphNode_t* node, cudaGraph_t graph, const cudaGraphNode_t* before,
                             const cudaGraphEdgeData* edges, size_t count, cudaGraphNodeParams* parameters) {
  if (parameters == nullptr) return keep(cudaErrorInvalidValue);
  if (edges != nullptr) return keep(cudaErrorNotSupported);  // only whole nodes wait for whole nodes
  return add_any(node, graph, before, count, parameters);
}

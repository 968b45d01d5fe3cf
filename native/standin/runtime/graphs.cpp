// Graphs as a whole: made, instantiated, launched, changed.
#include "driver.h"

using namespace standin_runtime;

cudaError_t cudaGraphCreate(cudaGraph_t* graph, unsigned flags) {
  return call(&Driver::cuGraphCreate, graph, flags);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return call(&Driver::cuGraphDestroy, graph); }

cudaError_t cudaGraphClone(cudaGraph_t* clone, cudaGraph_t graph) {
  return call(&Driver::cuGraphClone, clone, graph);
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* out, cudaGraph_t graph, unsigned long long flags) {
  return call(&Driver::cuGraphInstantiateWithFlags, out, graph, flags);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* out, cudaGraph_t graph, unsigned long long flags) {
  return cudaGraphInstantiateWithFlags(out, graph, flags);
}

cudaError_t cudaGraphInstantiateWithParams(cudaGraphExec_t* out, cudaGraph_t graph,
                                           cudaGraphInstantiateParams* parameters) {
  static_assert(sizeof(cudaGraphInstantiateParams) == sizeof(CUDA_GRAPH_INSTANTIATE_PARAMS));
  return call(&Driver::cuGraphInstantiateWithParams, out, graph, parameters);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) { return call(&Driver::cuGraphExecDestroy, exec); }

cudaError_t cudaGraphExecGetFlags(cudaGraphExec_t exec, unsigned long long* flags) {
  return call(&Driver::cuGraphExecGetFlags, exec, flags);
}

cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph,
                                cudaGraphExecUpdateResultInfo* result) {
  static_assert(sizeof(cudaGraphExecUpdateResultInfo) == sizeof(CUgraphExecUpdateResultInfo));
  return call(&Driver::cuGraphExecUpdate, exec, graph, result);
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream) {
  return call(&Driver::cuGraphUpload, exec, stream);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  return call(&Driver::cuGraphLaunch, exec, stream);
}

// --- nodes and edges
// -------------------------------------------------------------------------------------------------

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  return call(&Driver::cuGraphGetNodes, graph, nodes, count);
}

cudaError_t cudaGraphGetRootNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  return call(&Driver::cuGraphGetRootNodes, graph, nodes, count);
}

cudaError_t cudaGraphGetEdges(cudaGraph_t graph, cudaGraphNode_t* from, cudaGraphNode_t* to,
                              cudaGraphEdgeData* edges, size_t* count) {
  return call(&Driver::cuGraphGetEdges, graph, from, to, edges, count);
}

cudaError_t cudaGraphNodeGetDependencies(cudaGraphNode_t node, cudaGraphNode_t* before,
                                         cudaGraphEdgeData* edges, size_t* count) {
  return call(&Driver::cuGraphNodeGetDependencies, node, before, edges, count);
}

cudaError_t cudaGraphNodeGetDependentNodes(cudaGraphNode_t node, cudaGraphNode_t* after,
                                           cudaGraphEdgeData* edges, size_t* count) {
  return call(&Driver::cuGraphNodeGetDependentNodes, node, after, edges, count);
}

cudaError_t cudaGraphAddDependencies(cudaGraph_t graph, const cudaGraphNode_t* from,
                                     const cudaGraphNode_t* to, const cudaGraphEdgeData* edges,
                                     size_t count) {
  return call(&Driver::cuGraphAddDependencies, graph, from, to, edges, count);
}

cudaError_t cudaGraphRemoveDependencies(cudaGraph_t graph, const cudaGraphNode_t* from,
                                        const cudaGraphNode_t* to, const cudaGraphEdgeData* edges,
                                        size_t count) {
  return call(&Driver::cuGraphRemoveDependencies, graph, from, to, edges, count);
}

cudaError_t cudaGraphNodeGetType(cudaGraphNode_t node, cudaGraphNodeType* type) {
  return call(&Driver::cuGraphNodeGetType, node, type);
}

cudaError_t cudaGraphNodeFindInClone(cudaGraphNode_t* found, cudaGraphNode_t original, cudaGraph_t clone) {
  return call(&Driver::cuGraphNodeFindInClone, found, original, clone);
}

cudaError_t cudaGraphNodeSetEnabled(cudaGraphExec_t exec, cudaGraphNode_t node, unsigned enabled) {
  return call(&Driver::cuGraphNodeSetEnabled, exec, node, enabled);
}

cudaError_t cudaGraphNodeGetEnabled(cudaGraphExec_t exec, cudaGraphNode_t node, unsigned* enabled) {
  return call(&Driver::cuGraphNodeGetEnabled, exec, node, enabled);
}

cudaError_t cudaGraphDestroyNode(cudaGraphNode_t node) { return call(&Driver::cuGraphDestroyNode, node); }

cudaError_t cudaGraphDebugDotPrint(cudaGraph_t graph, const char* path, unsigned flags) {
  return call(&Driver::cuGraphDebugDotPrint, graph, path, flags);
}

// --- memory and objects that belong to graphs
// ------------------------------------------------------------------------

cudaError_t cudaDeviceGraphMemTrim(int device) { return ask(&Driver::cuDeviceGraphMemTrim, device); }

cudaError_t cudaDeviceGetGraphMemAttribute(int device, cudaGraphMemAttributeType attribute, void* value) {
  return ask(&Driver::cuDeviceGetGraphMemAttribute, device, attribute, value);
}

cudaError_t cudaDeviceSetGraphMemAttribute(int device, cudaGraphMemAttributeType attribute, void* value) {
  return ask(&Driver::cuDeviceSetGraphMemAttribute, device, attribute, value);
}

cudaError_t cudaUserObjectCreate(cudaUserObject_t* object, void* data, cudaHostFn_t destroy, unsigned count,
                                 unsigned flags) {
  return call(&Driver::cuUserObjectCreate, object, data, destroy, count, flags);
}

cudaError_t cudaUserObjectRetain(cudaUserObject_t object, unsigned count) {
  return call(&Driver::cuUserObjectRetain, object, count);
}

cudaError_t cudaUserObjectRelease(cudaUserObject_t object, unsigned count) {
  return call(&Driver::cuUserObjectRelease, object, count);
}

cudaError_t cudaGraphRetainUserObject(cudaGraph_t graph, cudaUserObject_t object, unsigned count,
                                      unsigned flags) {
  return call(&Driver::cuGraphRetainUserObject, graph, object, count, flags);
}

cudaError_t cudaGraphReleaseUserObject(cudaGraph_t graph, cudaUserObject_t object, unsigned count) {
  return call(&Driver::cuGraphReleaseUserObject, graph, object, count);
}

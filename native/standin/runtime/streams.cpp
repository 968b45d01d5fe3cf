// Streams and events. The runtime's are the driver's.
#include "driver.h"

using namespace standin_runtime;

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return call(&Driver::cuStreamCreate, stream, flags);
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
  return call(&Driver::cuStreamCreateWithPriority, stream, flags, priority);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) { return call(&Driver::cuStreamDestroy, stream); }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return call(&Driver::cuStreamSynchronize, stream); }
cudaError_t cudaStreamQuery(cudaStream_t stream) { return call(&Driver::cuStreamQuery, stream); }

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
  return call(&Driver::cuStreamWaitEvent, stream, event, flags);
}

cudaError_t cudaStreamGetFlags(cudaStream_t stream, unsigned* flags) {
  return call(&Driver::cuStreamGetFlags, stream, flags);
}

cudaError_t cudaStreamGetPriority(cudaStream_t stream, int* priority) {
  return call(&Driver::cuStreamGetPriority, stream, priority);
}

cudaError_t cudaStreamGetId(cudaStream_t stream, unsigned long long* id) {
  return call(&Driver::cuStreamGetId, stream, id);
}

cudaError_t cudaStreamGetDevice(cudaStream_t stream, int* device) {
  return call(&Driver::cuStreamGetDevice, stream, device);
}

cudaError_t cudaStreamCopyAttributes(cudaStream_t target, cudaStream_t source) {
  return call(&Driver::cuStreamCopyAttributes, target, source);
}

cudaError_t cudaStreamGetAttribute(cudaStream_t stream, cudaStreamAttrID attribute,
                                   cudaStreamAttrValue* value) {
  return call(&Driver::cuStreamGetAttribute, stream, attribute, value);
}

cudaError_t cudaStreamSetAttribute(cudaStream_t stream, cudaStreamAttrID attribute,
                                   const cudaStreamAttrValue* value) {
  return call(&Driver::cuStreamSetAttribute, stream, attribute, value);
}

cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t callback, void* data,
                                  unsigned flags) {
  return call(&Driver::cuStreamAddCallback, stream, callback, data, flags);
}

cudaError_t cudaStreamAttachMemAsync(cudaStream_t stream, void* address, size_t bytes, unsigned flags) {
  return call(&Driver::cuStreamAttachMemAsync, stream, address, bytes, flags);
}

// --- capture
// ---------------------------------------------------------------------------------------------------------

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  return call(&Driver::cuStreamBeginCapture, stream, mode);
}

cudaError_t cudaStreamBeginCaptureToGraph(cudaStream_t stream, cudaGraph_t graph,
                                          const cudaGraphNode_t* before, const cudaGraphEdgeData* edges,
                                          size_t count, cudaStreamCaptureMode mode) {
  return call(&Driver::cuStreamBeginCaptureToGraph, stream, graph, before, edges, count, mode);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  return call(&Driver::cuStreamEndCapture, stream, graph);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  return call(&Driver::cuStreamIsCapturing, stream, status);
}

cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus* status,
                                     unsigned long long* id, cudaGraph_t* graph,
                                     const cudaGraphNode_t** before, const cudaGraphEdgeData** edges,
                                     size_t* count) {
  return call(&Driver::cuStreamGetCaptureInfo, stream, status, id, graph, before, edges, count);
}

cudaError_t cudaStreamUpdateCaptureDependencies(cudaStream_t stream, cudaGraphNode_t* before,
                                                const cudaGraphEdgeData* edges, size_t count,
                                                unsigned flags) {
  return call(&Driver::cuStreamUpdateCaptureDependencies, stream, before, edges, count, flags);
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  return ask(&Driver::cuThreadExchangeStreamCaptureMode, mode);
}

// --- events
// ----------------------------------------------------------------------------------------------------------

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  return call(&Driver::cuEventCreate, event, flags);
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }
cudaError_t cudaEventDestroy(cudaEvent_t event) { return call(&Driver::cuEventDestroy, event); }

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return call(&Driver::cuEventRecord, event, stream);
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
  return call(&Driver::cuEventRecordWithFlags, event, stream, flags);
}

cudaError_t cudaEventQuery(cudaEvent_t event) { return call(&Driver::cuEventQuery, event); }
cudaError_t cudaEventSynchronize(cudaEvent_t event) { return call(&Driver::cuEventSynchronize, event); }

cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t start, cudaEvent_t end) {
  return call(&Driver::cuEventElapsedTime, ms, start, end);
}

cudaError_t cudaIpcGetEventHandle(cudaIpcEventHandle_t* handle, cudaEvent_t event) {
  return call(&Driver::cuIpcGetEventHandle, handle, event);
}

cudaError_t cudaIpcOpenEventHandle(cudaEvent_t* event, cudaIpcEventHandle_t handle) {
  CUipcEventHandle theirs;
  static_assert(sizeof(theirs) == sizeof(handle));
  __builtin_memcpy(&theirs, &handle, sizeof(theirs));
  return call(&Driver::cuIpcOpenEventHandle, event, theirs);
}

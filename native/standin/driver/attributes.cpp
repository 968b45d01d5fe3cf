// Attributes of streams: kept, and given back; none changes what the timeline does.
#include "implementations.h"
#include "streams.h"

namespace standin::driver {
namespace {

CUlaunchAttributeValue* place(CUstream stream, CUstreamAttrID attribute) {
  switch (attribute) {
    case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:
      return &stream->policy;
    case CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY:
      return &stream->sync_policy;
    case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN:
      return &stream->domain;
    case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
      return &stream->domain_map;
    default:
      return nullptr;
  }
}

}  // namespace

CUresult stream_copy_attributes(CUstream dst, CUstream src) {
  CUstream to, from;
  TRY(find_stream(dst, &to));
  TRY(find_stream(src, &from));
  to->policy = from->policy;
  to->sync_policy = from->sync_policy;
  to->domain = from->domain;
  to->domain_map = from->domain_map;
  return CUDA_SUCCESS;
}

CUresult stream_get_attribute(CUstream hStream, CUstreamAttrID attr, CUstreamAttrValue* value_out) {
  CUstream stream;
  TRY(find_stream(hStream, &stream));
  if (value_out == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (attr == CU_LAUNCH_ATTRIBUTE_PRIORITY) return set(&value_out->priority, stream->priority);
  const CUlaunchAttributeValue* found = place(stream, attr);
  return found != nullptr ? set(value_out, *found) : CUDA_ERROR_INVALID_VALUE;
}

CUresult stream_set_attribute(CUstream hStream, CUstreamAttrID attr, const CUstreamAttrValue* value) {
  CUstream stream;
  TRY(find_stream(hStream, &stream));
  if (value == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (attr == CU_LAUNCH_ATTRIBUTE_PRIORITY) return set(&stream->priority, value->priority);
  CUlaunchAttributeValue* found = place(stream, attr);
  return found != nullptr ? set(found, *value) : CUDA_ERROR_INVALID_VALUE;
}

}  // namespace standin::driver

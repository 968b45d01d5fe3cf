// Green contexts: parts of the device's SMs, each a context of its own on the timeline.
#include <set>
#include <vector>

#include "contexts.h"
#include "implementations.h"
#include "streams.h"

struct CUgreenCtx_st {
  CUcontext context = nullptr;
  unsigned int sms = 0;
};

struct CUdevResourceDesc_st {
  unsigned int sms = 0;
};

namespace standin::driver {
namespace {

// As on Hopper: no fewer than this, and in steps of it.
constexpr unsigned int kStep = 8;

struct Green {
  std::set<CUgreenCtx> contexts;
  std::set<CUdevResourceDesc> descriptions;
};

Green& all() {
  static auto* one = new Green;
  return *one;
}

bool is_green(CUgreenCtx green) { return all().contexts.contains(green); }

CUdevResource resource_of(unsigned int sms) {
  CUdevResource resource = {};
  resource.type = CU_DEV_RESOURCE_TYPE_SM;
  resource.sm.smCount = sms;
  resource.sm.minSmPartitionSize = kStep;
  resource.sm.smCoscheduledAlignment = kStep;
  return resource;
}

CUresult give(CUdevResource* out, CUdevResourceType type, unsigned int sms) {
  if (out == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (type != CU_DEV_RESOURCE_TYPE_SM) return CUDA_ERROR_INVALID_RESOURCE_TYPE;
  *out = resource_of(sms);
  return CUDA_SUCCESS;
}

}  // namespace

CUresult device_get_dev_resource(CUdevice device, CUdevResource* resource, CUdevResourceType type) {
  if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
  return give(resource, type, visible_sms());
}

CUresult ctx_get_dev_resource(CUcontext hCtx, CUdevResource* resource, CUdevResourceType type) {
  if (!is_context(hCtx)) return CUDA_ERROR_INVALID_CONTEXT;
  return give(resource, type, hCtx->sms);
}

CUresult green_ctx_get_dev_resource(CUgreenCtx hCtx, CUdevResource* resource, CUdevResourceType type) {
  if (!is_green(hCtx)) return CUDA_ERROR_INVALID_CONTEXT;
  return give(resource, type, hCtx->sms);
}

CUresult dev_sm_resource_split_by_count(CUdevResource* result, unsigned int* nbGroups,
                                        const CUdevResource* input, CUdevResource* remaining,
                                        unsigned int useFlags, unsigned int minCount) {
  if (nbGroups == nullptr || input == nullptr || useFlags != 0) return CUDA_ERROR_INVALID_VALUE;
  if (input->type != CU_DEV_RESOURCE_TYPE_SM) return CUDA_ERROR_INVALID_RESOURCE_TYPE;
  unsigned int each = minCount == 0 ? kStep : (minCount + kStep - 1) / kStep * kStep;
  unsigned int possible = input->sm.smCount / each;
  if (possible == 0) return CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION;
  unsigned int groups = result == nullptr ? possible : *nbGroups < possible ? *nbGroups : possible;
  for (unsigned int i = 0; result != nullptr && i < groups; ++i) result[i] = resource_of(each);
  *nbGroups = groups;
  if (remaining == nullptr) return CUDA_SUCCESS;
  *remaining = resource_of(input->sm.smCount - groups * each);
  if (remaining->sm.smCount == 0) remaining->type = CU_DEV_RESOURCE_TYPE_INVALID;
  return CUDA_SUCCESS;
}

CUresult dev_resource_generate_desc(CUdevResourceDesc* phDesc, CUdevResource* resources,
                                    unsigned int nbResources) {
  if (phDesc == nullptr || resources == nullptr || nbResources == 0) return CUDA_ERROR_INVALID_VALUE;
  unsigned int sms = 0;
  for (unsigned int i = 0; i < nbResources; ++i) {
    if (resources[i].type != CU_DEV_RESOURCE_TYPE_SM) return CUDA_ERROR_INVALID_RESOURCE_TYPE;
    sms += resources[i].sm.smCount;
  }
  auto* made = new CUdevResourceDesc_st{sms};
  all().descriptions.insert(made);
  *phDesc = made;
  return CUDA_SUCCESS;
}

CUresult green_ctx_create(CUgreenCtx* phCtx, CUdevResourceDesc desc, CUdevice dev, unsigned int flags) {
  if (phCtx == nullptr || flags != CU_GREEN_CTX_DEFAULT_STREAM) return CUDA_ERROR_INVALID_VALUE;
  if (dev != 0) return CUDA_ERROR_INVALID_DEVICE;
  if (!all().descriptions.contains(desc)) return CUDA_ERROR_INVALID_VALUE;
  CUcontext primary;
  TRY(device_primary_ctx_retain(&primary, dev));
  auto* green = new CUgreenCtx_st;
  green->sms = desc->sms;
  TRY(make_context(desc->sms, &green->context));
  green->context->green = green;
  all().contexts.insert(green);
  *phCtx = green;
  return CUDA_SUCCESS;
}

CUresult green_ctx_destroy(CUgreenCtx hCtx) {
  if (!is_green(hCtx)) return CUDA_ERROR_INVALID_CONTEXT;
  all().contexts.erase(hCtx);
  end_context(hCtx->context);
  return device_primary_ctx_release(0);
}

CUresult ctx_from_green_ctx(CUcontext* pContext, CUgreenCtx hCtx) {
  if (!is_green(hCtx)) return CUDA_ERROR_INVALID_CONTEXT;
  return set(pContext, hCtx->context);
}

CUresult green_ctx_get_id(CUgreenCtx greenCtx, unsigned long long* greenCtxId) {
  if (!is_green(greenCtx)) return CUDA_ERROR_INVALID_CONTEXT;
  return set(greenCtxId, greenCtx->context->id);
}

CUresult green_ctx_stream_create(CUstream* phStream, CUgreenCtx greenCtx, unsigned int flags, int priority) {
  if (!is_green(greenCtx)) return CUDA_ERROR_INVALID_CONTEXT;
  if (phStream == nullptr || flags != CU_STREAM_NON_BLOCKING) return CUDA_ERROR_INVALID_VALUE;
  return make_stream(greenCtx->context, CUstream_st::Kind::kCreated, flags, priority, phStream);
}

CUresult green_ctx_record_event(CUgreenCtx hCtx, CUevent hEvent) {
  if (!is_green(hCtx)) return CUDA_ERROR_INVALID_CONTEXT;
  return ctx_record_event(hCtx->context, hEvent);
}

CUresult green_ctx_wait_event(CUgreenCtx hCtx, CUevent hEvent) {
  if (!is_green(hCtx)) return CUDA_ERROR_INVALID_CONTEXT;
  return ctx_wait_event(hCtx->context, hEvent);
}

CUresult stream_get_green_ctx(CUstream hStream, CUgreenCtx* phCtx) {
  CUstream stream;
  TRY(find_stream(hStream, &stream));
  return set(phCtx, stream->context->green);
}

}  // namespace standin::driver

// What can be asked of a context and set.
#include "captures.h"
#include "contexts.h"
#include "implementations.h"
#include "memory.h"
#include "streams.h"

namespace standin::driver {
namespace {

size_t first_limit(CUlimit limit) {
  switch (limit) {
    case CU_LIMIT_STACK_SIZE:
      return 1024;
    case CU_LIMIT_PRINTF_FIFO_SIZE:
      return 1 << 20;
    case CU_LIMIT_MALLOC_HEAP_SIZE:
      return 8 << 20;
    case CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH:
      return 2;
    case CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT:
      return 2048;
    case CU_LIMIT_MAX_L2_FETCH_GRANULARITY:
      return 64;
    default:
      return 0;
  }
}

CUresult synchronise(CUcontext context) {
  TRY(none_captured(context));
  wait_for(context);
  trim_pools();
  return CUDA_SUCCESS;
}

}  // namespace

CUresult ctx_get_device(CUdevice* device, CUcontext ctx) {
  if (ctx != nullptr && !is_context(ctx)) return CUDA_ERROR_INVALID_CONTEXT;
  if (ctx == nullptr) TRY(current(&ctx));
  return set(device, 0);
}

CUresult ctx_get_device_v1(CUdevice* device) { return ctx_get_device(device, nullptr); }

CUresult ctx_get_flags(unsigned int* flags) {
  CUcontext context;
  TRY(current(&context));
  return set(flags, context->flags);
}

CUresult ctx_set_flags(unsigned int flags) {
  if ((flags & ~static_cast<unsigned int>(CU_CTX_FLAGS_MASK)) != 0) return CUDA_ERROR_INVALID_VALUE;
  CUcontext context;
  TRY(current(&context));
  context->flags = flags;
  return CUDA_SUCCESS;
}

CUresult ctx_get_id(CUcontext ctx, unsigned long long* ctxId) {
  if (ctx != nullptr && !is_context(ctx)) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
  if (ctx == nullptr) TRY(current(&ctx));
  return set(ctxId, ctx->id);
}

CUresult ctx_synchronize(CUcontext ctx) {
  if (ctx != nullptr && !is_context(ctx)) return CUDA_ERROR_INVALID_CONTEXT;
  if (ctx == nullptr) TRY(current(&ctx));
  return synchronise(ctx);
}

CUresult ctx_synchronize_v1() { return ctx_synchronize(nullptr); }

CUresult ctx_set_limit(CUlimit limit, size_t value) {
  CUcontext context;
  TRY(current(&context));
  if (limit >= CU_LIMIT_MAX) return CUDA_ERROR_UNSUPPORTED_LIMIT;
  context->limits[limit] = value;
  return CUDA_SUCCESS;
}

CUresult ctx_get_limit(size_t* pvalue, CUlimit limit) {
  CUcontext context;
  TRY(current(&context));
  if (limit >= CU_LIMIT_MAX) return CUDA_ERROR_UNSUPPORTED_LIMIT;
  auto found = context->limits.find(limit);
  return set(pvalue, found != context->limits.end() ? found->second : first_limit(limit));
}

CUresult ctx_get_cache_config(CUfunc_cache* pconfig) {
  CUcontext context;
  TRY(current(&context));
  return set(pconfig, context->cache);
}

CUresult ctx_set_cache_config(CUfunc_cache config) {
  CUcontext context;
  TRY(current(&context));
  context->cache = config;
  return CUDA_SUCCESS;
}

CUresult ctx_get_shared_mem_config(CUsharedconfig* pConfig) {
  CUcontext context;
  TRY(current(&context));
  return set(pConfig, context->shared);
}

CUresult ctx_set_shared_mem_config(CUsharedconfig config) {
  CUcontext context;
  TRY(current(&context));
  context->shared = config;
  return CUDA_SUCCESS;
}

CUresult ctx_get_api_version(CUcontext ctx, unsigned int* version) {
  if (ctx != nullptr && !is_context(ctx)) return CUDA_ERROR_INVALID_CONTEXT;
  if (ctx == nullptr) TRY(current(&ctx));
  return set(version, ctx->version);
}

CUresult ctx_reset_persisting_l2_cache() {
  CUcontext context;
  return current(&context);
}

CUresult ctx_get_exec_affinity(CUexecAffinityParam* pExecAffinity, CUexecAffinityType type) {
  if (pExecAffinity == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (type != CU_EXEC_AFFINITY_TYPE_SM_COUNT) return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
  CUcontext context;
  TRY(current(&context));
  pExecAffinity->type = type;
  pExecAffinity->param.smCount.val = context->sms;
  return CUDA_SUCCESS;
}

CUresult ctx_enable_peer_access(CUcontext peerContext, unsigned int Flags) {
  CUcontext context;
  TRY(current(&context));
  if (Flags != 0) return CUDA_ERROR_INVALID_VALUE;
  return is_context(peerContext) ? CUDA_ERROR_PEER_ACCESS_UNSUPPORTED : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult ctx_disable_peer_access(CUcontext peerContext) {
  CUcontext context;
  TRY(current(&context));
  return is_context(peerContext) ? CUDA_ERROR_PEER_ACCESS_NOT_ENABLED : CUDA_ERROR_INVALID_CONTEXT;
}

}  // namespace standin::driver

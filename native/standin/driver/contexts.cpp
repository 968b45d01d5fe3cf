// Contexts: the primary one, created ones, and each thread's stack of them.
#include "contexts.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "implementations.h"
#include "memory.h"
#include "modules.h"
#include "mps.h"
#include "streams.h"

namespace standin::driver {
namespace {

constexpr uint32_t kFull = 100'000;  // milli-percent

thread_local std::vector<CUcontext> stack;

struct Contexts {
  std::set<CUcontext> live;
  CUctx_st primary;
  unsigned long long next_id = 1;
  Member* shared = nullptr;  // of all contexts that ask for nothing else
};

Contexts& all() {
  static auto* one = new Contexts;
  return *one;
}

// What MPS lets a process have; anything that is no percentage counts as nothing said, as MPS has it.
uint32_t mps_millipercent() {
  if (!mps().there) return kFull;
  const char* text = getenv("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE");
  char* end = nullptr;
  double percent = text != nullptr ? strtod(text, &end) : 100;
  if (text != nullptr && (end == text || !(percent > 0 && percent <= 100))) percent = 100;
  uint32_t own = std::max<uint32_t>(1, static_cast<uint32_t>(std::lround(percent * 1000)));
  return mps().sm_millipercent != 0 ? std::min(own, mps().sm_millipercent) : own;
}

}  // namespace

uint32_t visible_sms() {
  if (!mps().there || mps().assumed) return settings().sms;
  uint64_t part = uint64_t{settings().sms} * mps_millipercent();
  return static_cast<uint32_t>((part + kFull - 1) / kFull);
}

namespace {

uint32_t sms_of(const Member* member) {
  st_usage usage;
  return st_usage_of(device(), member->process, &usage, now_ns()) == 0 ? usage.sms : settings().sms;
}

// Rounded down: the timeline rounds up to whole SMs.
uint32_t millipercent_of(unsigned int sms) {
  st_config config;
  st_describe(device(), &config);
  return static_cast<uint32_t>(std::min<uint64_t>(kFull, uint64_t{sms} * kFull / config.sms));
}

CUresult find_member(CUcontext context, unsigned int sms) {
  context->own_member = sms != 0;
  if (sms == 0) TRY(join_shared());
  context->member = sms == 0 ? all().shared : join(std::min(millipercent_of(sms), mps_millipercent()));
  if (context->member == nullptr) return CUDA_ERROR_MPS_MAX_CLIENTS_REACHED;
  context->sms = sms_of(context->member);
  return CUDA_SUCCESS;
}

CUresult start(CUcontext context, unsigned int flags, unsigned int sms) {
  TRY(find_member(context, sms));
  context->flags = flags;
  context->id = all().next_id++;
  TRY(make_stream(context, CUstream_st::Kind::kLegacy, CU_STREAM_DEFAULT, 0, &context->legacy));
  context->live = true;
  all().live.insert(context);
  return CUDA_SUCCESS;
}

// The handle stays known, so that who still has it hears that the context is destroyed.
void end(CUcontext context) {
  wait_for(context);
  context->live = false;
  all().live.erase(context);
  unload_all(context);
  free_all(context);
  for (CUstream stream : std::set<CUstream>(context->streams)) end_stream(stream);
  for (auto& [thread, stream] : std::map<uint64_t, CUstream>(context->of_thread)) end_stream(stream);
  end_stream(context->legacy);
  if (context->own_member) leave(context->member);
}

constexpr unsigned int kFlags = CU_CTX_FLAGS_MASK;

CUresult create(CUcontext* out, unsigned int flags, CUdevice dev, unsigned int sms, unsigned int version) {
  if (out == nullptr || (flags & ~kFlags) != 0) return CUDA_ERROR_INVALID_VALUE;
  if (dev != 0) return CUDA_ERROR_INVALID_DEVICE;
  auto* context = new CUctx_st;
  context->version = version;
  context->users = 1;
  TRY(start(context, flags, sms));
  stack.push_back(context);
  *out = context;
  return CUDA_SUCCESS;
}

CUresult read_affinity(const CUexecAffinityParam* params, int count, unsigned int* sms) {
  if (count < 0 || (count > 0 && params == nullptr)) return CUDA_ERROR_INVALID_VALUE;
  for (int i = 0; i < count; ++i) {
    if (params[i].type != CU_EXEC_AFFINITY_TYPE_SM_COUNT) return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
    *sms = params[i].param.smCount.val;
    if (*sms == 0) return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}

}  // namespace

CUresult join_shared() {
  Member*& shared = all().shared;
  if (shared == nullptr) shared = join(mps_millipercent());
  return shared != nullptr ? CUDA_SUCCESS : CUDA_ERROR_MPS_MAX_CLIENTS_REACHED;
}

CUresult make_context(unsigned int sms, CUcontext* out) {
  auto* context = new CUctx_st;
  context->users = 1;
  TRY(start(context, 0, sms));
  *out = context;
  return CUDA_SUCCESS;
}

void end_context(CUcontext context) { end(context); }

const std::set<CUcontext>& contexts() { return all().live; }

bool is_context(CUcontext context) { return all().live.contains(context); }

bool related(CUcontext one, CUcontext other) {
  auto of_primary = [](CUcontext context) { return context->primary || context->green != nullptr; };
  return one == other || (of_primary(one) && of_primary(other));
}

CUresult current(CUcontext* out) {
  if (stack.empty() || stack.back() == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  *out = stack.back();
  return (*out)->live ? CUDA_SUCCESS : CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

CUresult device_primary_ctx_retain(CUcontext* pctx, CUdevice dev) {
  if (pctx == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (dev != 0) return CUDA_ERROR_INVALID_DEVICE;
  CUcontext primary = &all().primary;
  if (!primary->live) TRY(start(primary, primary->flags, 0));
  primary->primary = true;
  ++primary->users;
  *pctx = primary;
  return CUDA_SUCCESS;
}

CUresult device_primary_ctx_release(CUdevice dev) {
  if (dev != 0) return CUDA_ERROR_INVALID_DEVICE;
  CUcontext primary = &all().primary;
  if (primary->users == 0) return CUDA_ERROR_INVALID_CONTEXT;
  if (--primary->users == 0 && primary->live) end(primary);
  return CUDA_SUCCESS;
}

CUresult device_primary_ctx_reset(CUdevice dev) {
  if (dev != 0) return CUDA_ERROR_INVALID_DEVICE;
  CUcontext primary = &all().primary;
  if (!primary->live) return CUDA_SUCCESS;
  end(primary);
  // Those who hold it keep it: it comes back, empty.
  return primary->users > 0 ? start(primary, primary->flags, 0) : CUDA_SUCCESS;
}

CUresult device_primary_ctx_set_flags(CUdevice dev, unsigned int flags) {
  if (dev != 0) return CUDA_ERROR_INVALID_DEVICE;
  if ((flags & ~kFlags) != 0) return CUDA_ERROR_INVALID_VALUE;
  all().primary.flags = flags;
  return CUDA_SUCCESS;
}

CUresult device_primary_ctx_get_state(CUdevice dev, unsigned int* flags, int* active) {
  if (dev != 0) return CUDA_ERROR_INVALID_DEVICE;
  TRY(set(flags, all().primary.flags));
  return set(active, all().primary.live ? 1 : 0);
}

CUresult ctx_create_v2(CUcontext* pctx, unsigned int flags, CUdevice dev) {
  return create(pctx, flags, dev, 0, 3020);
}

CUresult ctx_create_v3(CUcontext* pctx, CUexecAffinityParam* paramsArray, int numParams, unsigned int flags,
                       CUdevice dev) {
  unsigned int sms = 0;
  TRY(read_affinity(paramsArray, numParams, &sms));
  return create(pctx, flags, dev, sms, 3020);
}

CUresult ctx_create(CUcontext* pctx, CUctxCreateParams* ctxCreateParams, unsigned int flags, CUdevice dev) {
  unsigned int sms = 0;
  if (ctxCreateParams != nullptr) {
    if (ctxCreateParams->cigParams != nullptr) return CUDA_ERROR_NOT_SUPPORTED;
    TRY(read_affinity(ctxCreateParams->execAffinityParams, ctxCreateParams->numExecAffinityParams, &sms));
  }
  return create(pctx, flags, dev, sms, 3020);
}

CUresult ctx_destroy(CUcontext ctx) {
  if (!is_context(ctx) || ctx->primary) return CUDA_ERROR_INVALID_CONTEXT;
  if (!stack.empty() && stack.back() == ctx) stack.pop_back();
  end(ctx);
  return CUDA_SUCCESS;
}

CUresult ctx_attach(CUcontext* pctx, unsigned int flags) {
  if (pctx == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  TRY(current(pctx));
  ++(*pctx)->users;
  return CUDA_SUCCESS;
}

CUresult ctx_detach(CUcontext ctx) {
  if (!is_context(ctx) || ctx->primary) return CUDA_ERROR_INVALID_CONTEXT;
  if (--ctx->users > 0) return CUDA_SUCCESS;
  return ctx_destroy(ctx);
}

CUresult ctx_push_current(CUcontext ctx) {
  if (ctx == nullptr || !is_context(ctx)) return CUDA_ERROR_INVALID_CONTEXT;
  stack.push_back(ctx);
  return CUDA_SUCCESS;
}

CUresult ctx_pop_current(CUcontext* pctx) {
  if (stack.empty()) return CUDA_ERROR_INVALID_CONTEXT;
  if (pctx != nullptr) *pctx = stack.back();
  stack.pop_back();
  return CUDA_SUCCESS;
}

CUresult ctx_set_current(CUcontext ctx) {
  if (ctx != nullptr && !is_context(ctx)) return CUDA_ERROR_INVALID_CONTEXT;
  if (!stack.empty()) stack.pop_back();
  if (ctx != nullptr) stack.push_back(ctx);
  return CUDA_SUCCESS;
}

CUresult ctx_get_current(CUcontext* pctx) { return set(pctx, stack.empty() ? nullptr : stack.back()); }

}  // namespace standin::driver

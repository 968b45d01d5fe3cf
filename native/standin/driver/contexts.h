// Contexts, and which one a thread has.
#pragma once

#include <map>
#include <set>
#include <vector>

#include "api.h"
#include "queues.h"

struct CUctx_st {
  unsigned long long id = 0;
  bool primary = false;
  bool live = false;  // a primary context comes back to life under the same handle
  unsigned int flags = 0;
  unsigned int version = 3020;  // of the API that it was made for
  int users = 0;                // of a primary context, or cuCtxAttach
  standin::driver::Member* member = nullptr;
  bool own_member = false;
  CUgreenCtx green = nullptr;  // that it is the context of
  unsigned int sms = 0;        // that it may use
  CUstream legacy = nullptr;
  std::map<uint64_t, CUstream> of_thread;         // default streams of threads
  std::set<CUstream> streams;                     // created ones
  std::vector<standin::driver::Point> leftovers;  // of streams that were destroyed before they had run out
  std::set<CUmodule> modules;
  std::map<CUlibrary, CUmodule> libraries;
  std::map<CUlimit, size_t> limits;
  CUfunc_cache cache = CU_FUNC_CACHE_PREFER_NONE;
  CUsharedconfig shared = CU_SHARED_MEM_CONFIG_DEFAULT_BANK_SIZE;
};

namespace standin::driver {

// SMs that the device says it has: as many as MPS lets the process have, if MPS is real here.
uint32_t visible_sms();

// The context of this thread; CUDA_ERROR_INVALID_CONTEXT without one, ..._IS_DESTROYED if it is no more.
CUresult current(CUcontext* out);
bool is_context(CUcontext context);
// Whether they are the same, or both of the device's primary context, as green ones are.
bool related(CUcontext one, CUcontext other);
// The process takes part in the device even if it has no context yet.
CUresult join_shared();
// One with SMs of its own, which no thread has yet; and its end.
CUresult make_context(unsigned int sms, CUcontext* out);
void end_context(CUcontext context);
// All that are alive.
const std::set<CUcontext>& contexts();

}  // namespace standin::driver

// What the parts of the interposer need of each other.
//
// Nothing here throws, exits, or takes a lock where a launch passes.
#pragma once

#define __CUDA_API_VERSION_INTERNAL  // all versions of all functions under their own names
#include <cuda.h>

#include "fastgate.h"

namespace fasthook {

// --- settings.cpp: what the environment says, read once
// --------------------------------------------------------------

struct Settings {
  bool configured = false;        // FASTGSHARE_SOCKET is set: else everything passes through
  bool refuses = true;            // FASTGSHARE_IF_UNENFORCED: refuse (default) or pass
  char socket[108] = {};          // FASTGSHARE_SOCKET: the node daemon's
  char instance[112] = {};        // FASTGSHARE_INSTANCE: the id it was admitted by
  const char* problem = nullptr;  // one sentence if it is set wrongly; then nothing can be enforced
};
const Settings& settings();

// One line on stderr, "fastgshare: ...", the first time that `said` is given.
void say_once(bool* said, const char* text, const char* detail = "");

// --- functions.cpp: the driver's own
// -----------------------------------------------------------------------------------

// The real functions, by their exported names; null where the driver has none. See hooked.def.
struct Real;
extern Real real;
// Finds libcuda.so.1 and fills `real`, once; false if there is none.
bool find_real();

// --- pace.cpp: tokens
// --------------------------------------------------------------------------------------------------

enum class Enforcement {
  kNone,      // not configured: pass everything through
  kEnforced,  // the daemon has let us in
  kRefused,   // it cannot be enforced, and is configured to refuse then: CUDA_ERROR_NOT_PERMITTED
  kPassed,    // it cannot be enforced, and is configured to pass then
};
// Decides on the first call, which may wait for the daemon; then costs a load.
Enforcement enforcement();
// The gate of this process; null unless enforced. Any thread may ask it about memory, only the pacer for
// tokens.
fg_gate* gate();

// A graph or kernel is gone, and its handle may be given to another; null: many are. cuGraphExecDestroy says
// it.
void forget_launch(const void* what);

// --- memory.cpp
// --------------------------------------------------------------------------------------------------------

// A context is gone, and with it what was allocated in it. streams.cpp says it, from the contexts' wrappers.
void forget_memory_of(CUcontext context);

// --- forks
// --------------------------------------------------------------------------------------------------------------

// In the child of a fork nothing is known and no thread runs: all begins anew.
void forget_after_fork();

}  // namespace fasthook

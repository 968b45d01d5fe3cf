// A process whose work has failed: hardly any call works any more.
#pragma once

#include "api.h"

namespace standin::driver {

// What a call of that name returns in a process that is broken; CUDA_SUCCESS if it is not, or if the call
// touches no work.
CUresult broken_for(const char* name);

}  // namespace standin::driver

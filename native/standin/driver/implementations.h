// The implementations of the calls, declared by their rows. All of them run with the driver's lock held.
#pragma once

#include "api.h"

namespace standin::driver {

#define CALL(name, version, streams, symbol, implementation, parameters, arguments) \
  CUresult implementation parameters;
#define EARLY(name, version, streams, symbol, implementation, parameters, arguments) \
  CUresult implementation parameters;
#define QUICK(name, version, streams, symbol, implementation, nothing, parameters, arguments) \
  CUresult implementation parameters;
#include "calls.h"

}  // namespace standin::driver

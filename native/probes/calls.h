// The driver's calls as a probe found them, and the ways to find them.
#pragma once

#define __CUDA_API_VERSION_INTERNAL  // all versions of all functions under their own names
#include <cuda.h>

#include <string>

namespace probe {

struct Calls {
#define CALL(symbol, name, since, until) decltype(&::symbol) symbol = nullptr;
#include "calls.def"
#undef CALL
};

// What all of the program calls through.
extern Calls cu;

// Fills `cu`. Ways: linked, next, dlsym, default, plugin, deepbind, proc:VERSION, proc2:VERSION,
// proc-of-proc, runtime. False: there is no such way here, and `why` says it.
bool find_calls(const std::string& way, std::string* why);

// Whether the way could have found `symbol` at all: cuGetProcAddress knows no function that is newer than it
// is told.
bool within_version(const std::string& symbol);

// linked.cpp, in what is linked to the driver: the calls as the dynamic linker bound them.
const Calls* linked_calls();

}  // namespace probe

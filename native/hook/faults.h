// Faults: errors after which nothing that this process does on the device works any more.
#pragma once

#include "hook.h"

namespace fasthook {

// Looks at what a call of the driver returned. The first fault is told the pacer, and by it the node daemon.
// Any thread; costs nothing where there is none.
void note_fault(CUresult result);
// The first that there was; 0: none.
uint32_t fault();
void forget_fault();

}  // namespace fasthook

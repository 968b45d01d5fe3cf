// When a token expires, on the clock and on the processor's counter.
#pragma once

#include "gate_state.h"

namespace fastgate {

bool read_both(uint64_t* ticks, uint64_t* ns);
void set_expiry(fg_gate* g, uint64_t expiry_ns);

}  // namespace fastgate

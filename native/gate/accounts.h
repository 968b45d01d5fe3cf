// What an instance has held: booked, settled cycle by cycle, and written to its page.
#pragma once

#include "gate_state.h"

namespace fastgate {

void settle(fg_gate* g, uint64_t now);
void record_hold(fg_gate* g, uint64_t start, uint64_t end, bool loan);
void turn_into(fg_gate* g, bool loan, uint64_t now);
void charge(fg_gate* g, uint64_t now);

}  // namespace fastgate

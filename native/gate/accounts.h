// What an instance has held: booked, settled cycle by cycle, and written to its page.
#pragma once

#include "gate_state.h"

namespace fastgate {

void settle(fg_gate* g, uint64_t now);
void turn_into(fg_gate* g, bool loan, uint64_t now);
void charge(fg_gate* g, uint64_t now);

// The range is held from `now` on, or no longer. Who reads the page sees a hold as the present one or in the
// ring, never as both.
void begin_hold(fg_gate* g, uint64_t range, bool loan, uint64_t now, uint64_t latency_ns);
void end_hold(fg_gate* g, uint64_t now);

}  // namespace fastgate

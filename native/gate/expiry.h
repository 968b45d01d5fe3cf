// When a token expires, on the clock and on the processor's counter.
#pragma once

#include "gate_state.h"

namespace fastgate {

void watch_counter(fg_gate* g);
void set_expiry(fg_gate* g, uint64_t expiry_ns);
void end_expiry(fg_gate* g);

// A counter that was set back, as by a machine that slept, ends the token: the difference is huge then.
inline bool in_time(const fg_gate* g) {
  uint64_t ticks;
  if (g->valid_ticks != 0 && read_ticks(&ticks)) return ticks - g->granted_ticks < g->valid_ticks;
  return now_ns() < g->expiry_ns;
}

}  // namespace fastgate

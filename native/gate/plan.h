// The plan an instance follows: its cell of the board, and where a time lies in it.
#pragma once

#include "gate_state.h"

namespace fastgate {

uint64_t slot_length(const fg_gate* g);
int64_t debt_bound(const fg_gate* g);
int64_t cycle_at(const fg_gate* g, uint64_t now);
int64_t window_at(const fg_gate* g, uint64_t now);
uint64_t window_start(const fg_gate* g, int64_t window);
void read_plan(fg_gate* g);

}  // namespace fastgate

// The plan an instance follows: its cell of the board, and where a time lies in it.
#pragma once

#include "atoms.h"
#include "gate_state.h"

namespace fastgate {

// Windows are of this length; anything else on a board is nonsense, and never divided by.
constexpr uint64_t kLongestWindowNs = 3'600'000'000'000;
inline bool is_window(uint64_t ns) { return ns != 0 && ns <= kLongestWindowNs; }

uint64_t slot_length(const fg_gate* g);
int64_t debt_bound(const fg_gate* g);
int64_t cycle_at(const fg_gate* g, uint64_t now);
int64_t window_at(const fg_gate* g, uint64_t now);
uint64_t window_start(const fg_gate* g, int64_t window);
uint64_t cycle_start(const fg_gate* g, int64_t cycle);
void forget_plan(fg_gate* g);
void read_plan(fg_gate* g);

// Whether two sequence numbers are of the same content: it counts until its successor is written whole.
inline bool same_plan(uint32_t a, uint32_t b) { return (a | 1) == (b | 1); }
inline bool plan_stands(const fg_gate* g) {
  return same_plan(load(&g->map.board->cell[g->map.index].seq), g->plan.seq);
}

}  // namespace fastgate

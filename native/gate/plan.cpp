// Reading the cell, and where a time lies in the plan.
#include "plan.h"

#include <string.h>

namespace fastgate {

constexpr uint64_t kAnyWindowNs = 1'000'000'000;

uint64_t slot_length(const fg_gate* g) { return g->plan.slot_end_ns - g->plan.slot_start_ns; }
// The most that is remembered of what is owed. The same for all on a device, so that claims can be compared.
int64_t debt_bound(const fg_gate* g) {
  uint64_t quarter = g->plan.window_ns / 4;
  return static_cast<int64_t>(g->plan.burst_ns > quarter ? g->plan.burst_ns : quarter);
}
int64_t cycle_at(const fg_gate* g, uint64_t now) {
  return floor_div(static_cast<int64_t>(now - g->plan.epoch_ns - g->plan.slot_start_ns),
                   static_cast<int64_t>(g->plan.window_ns));
}
int64_t window_at(const fg_gate* g, uint64_t now) {
  return floor_div(static_cast<int64_t>(now - g->plan.epoch_ns), static_cast<int64_t>(g->plan.window_ns));
}
uint64_t window_start(const fg_gate* g, int64_t window) {
  return g->plan.epoch_ns + static_cast<uint64_t>(window * static_cast<int64_t>(g->plan.window_ns));
}
uint64_t cycle_start(const fg_gate* g, int64_t cycle) {
  return window_start(g, cycle) + g->plan.slot_start_ns;
}

// Copies a cell whole. False if its writer does not come to an end: it may have died in the middle.
static bool copy_whole(const Cell* cell, Cell* copy, uint32_t* seq) {
  for (int spins = 0; spins < 1000; ++spins, relax()) {
    *seq = load(&cell->seq);
    if (*seq & 1) continue;
    memcpy(copy, cell, sizeof(Cell));
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (load(&cell->seq) == *seq) return true;
  }
  return false;
}

// No slot and no loans, until a plan can be read.
void forget_plan(fg_gate* g) {
  g->plan = Cell();
  g->plan.seq = ~0U;
  g->plan.window_ns = kAnyWindowNs;
}

// Copies the cell if it has changed and can be read; else the last plan goes on. A new timetable starts a new
// cycle; what is owed stays owed.
void read_plan(fg_gate* g) {
  const Cell* cell = &g->map.board->cell[g->map.index];
  if (load(&cell->seq) == g->plan.seq) return;
  Cell old = g->plan, next;
  uint32_t seq;
  if (!copy_whole(cell, &next, &seq)) {
    g->plan.seq = seq | 1;
    return;
  }
  g->plan = next;
  g->plan.seq = seq;
  if (!is_window(g->plan.window_ns)) {
    g->plan.window_ns = kAnyWindowNs;
    g->plan.slot_start_ns = g->plan.slot_end_ns = 0;
  }
  if (g->plan.loan_count > kLoans) g->plan.loan_count = 0;
  if (old.epoch_ns != g->plan.epoch_ns || old.window_ns != g->plan.window_ns ||
      old.slot_start_ns != g->plan.slot_start_ns || old.slot_end_ns != g->plan.slot_end_ns) {
    uint64_t now = now_ns();
    g->cycle = cycle_at(g, now);
    // Nothing is owed for a part of a slot that lies before this timetable.
    g->cycle_own_ns = least(now - cycle_start(g, g->cycle), slot_length(g));
    g->cycle_loan_ns = 0;
    g->window = window_at(g, now);
    g->window_used_ns = 0;
  }
}

}  // namespace fastgate

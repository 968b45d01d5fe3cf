// Reading the cell, and where a time lies in the plan.
#include "plan.h"

#include <string.h>

#include "atoms.h"

namespace fastgate {

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

// Copies the cell if it has changed. A new timetable starts a new cycle; what is owed stays owed.
void read_plan(fg_gate* g) {
  const Cell* cell = &g->map.board->cell[g->map.index];
  if (load(&cell->seq) == g->plan.seq) return;
  Cell old = g->plan;
  uint32_t before;
  do {
    while ((before = load(&cell->seq)) & 1) __builtin_ia32_pause();
    memcpy(&g->plan, cell, sizeof(Cell));
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
  } while (load(&cell->seq) != before);
  g->plan.seq = before;
  if (g->plan.window_ns == 0) g->plan.window_ns = 1'000'000'000;  // never divide by a page we do not own
  if (g->plan.loan_count > kLoans) g->plan.loan_count = 0;
  if (old.epoch_ns != g->plan.epoch_ns || old.window_ns != g->plan.window_ns ||
      old.slot_start_ns != g->plan.slot_start_ns || old.slot_end_ns != g->plan.slot_end_ns) {
    uint64_t now = now_ns();
    g->cycle = cycle_at(g, now);
    g->cycle_own_ns = g->cycle_loan_ns = 0;
    g->window = window_at(g, now);
    g->window_used_ns = 0;
  }
}

}  // namespace fastgate

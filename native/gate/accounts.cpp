// Booking what is held: for the limit, for what is owed, and for the daemon's ledger.
#include "accounts.h"

#include "atoms.h"
#include "plan.h"
#include "siblings.h"

namespace fastgate {

namespace {

// Who holds the token next goes on from here. Called while the page is being written.
void pass_on(fg_gate* g, uint64_t now) {
  g->stamp_ns = now > g->stamp_ns ? now : g->stamp_ns + 1;
  Account* account = &g->map.page->account;
  account->cycle_start_ns = cycle_start(g, g->cycle);
  account->own_ns = g->cycle_own_ns;
  account->loan_ns = g->cycle_loan_ns;
  account->window_start_ns = window_start(g, g->window);
  account->window_used_ns = g->window_used_ns;
  store(&account->stamp_ns, g->stamp_ns);
}

void use_window(fg_gate* g, uint64_t held, uint64_t now) {
  int64_t window = window_at(g, now);
  if (window == g->window) {
    g->window_used_ns += held;
    return;
  }
  g->window = window;
  g->window_used_ns = g->holding ? least(held, now - window_start(g, window)) : 0;
}

// Books the time held since the last call, as what the hold is.
void book(fg_gate* g, uint64_t now) {
  Page* page = g->map.page;
  uint64_t held = g->holding ? now - page->charged_ns : 0;
  use_window(g, held, now);
  if (!g->holding) return;
  (g->loan ? g->cycle_loan_ns : g->cycle_own_ns) += held;
  PageWrite write(page);
  page->held_ns += held;
  if (g->loan) page->loan_ns += held;
  page->charged_ns = now;
  pass_on(g, now);
}

// The hold that is not in the ring yet goes there, up to `end`.
void append_hold(Page* page, uint64_t end, bool loan) {
  page->holds[page->hold_count % kHolds] = {page->hold_start_ns, (end & ~1ULL) | (loan ? 1 : 0)};
  ++page->hold_count;
}

}  // namespace

// Closes the cycles that have passed: what was overrun is a debt, what a backlogged owner missed is owed to
// it.
void settle(fg_gate* g, uint64_t now) {
  int64_t cycle = cycle_at(g, now);
  int64_t length = static_cast<int64_t>(slot_length(g));
  if (cycle <= g->cycle || length == 0) return;
  Page* page = g->map.page;
  int64_t missed = length - static_cast<int64_t>(g->cycle_own_ns);
  int64_t skipped = clamp(cycle - g->cycle - 1, 0, 1000) * length;
  bool backlogged = wanting_since(g) <= cycle_start(g, g->cycle);
  int64_t owed = page->owed_ns;
  if (missed < 0) {
    owed += missed;
    if (backlogged || owed < 0) owed += backlogged ? skipped : least(skipped, static_cast<uint64_t>(-owed));
  } else if (backlogged) {
    int64_t lacking = missed - static_cast<int64_t>(g->cycle_loan_ns);
    owed += (lacking > 0 ? lacking : owed < 0 ? least(missed, static_cast<uint64_t>(-owed)) : 0) + skipped;
  } else {
    owed = clamp(owed + missed + skipped, owed < 0 ? owed : 0, 0);  // who had no work has no claim
  }
  int64_t bound = debt_bound(g);
  PageWrite write(page);
  store(&page->owed_ns, clamp(owed, -4 * bound, bound));
  g->cycle = cycle;
  g->cycle_own_ns = g->cycle_loan_ns = 0;
  if (g->holding) pass_on(g, now);
}

// The hold is of another kind from `now` on.
void turn_into(fg_gate* g, bool loan, uint64_t now) {
  if (loan == g->loan) return;
  Page* page = g->map.page;
  PageWrite write(page);
  append_hold(page, now, g->loan);
  page->hold_start_ns = now;
  page->hold_is_loan = loan;
  g->loan = loan;
}

// Books the time held. A burst that goes on beyond the time it was lent uses its instance's own: the slot
// that follows, or else it is a debt.
void charge(fg_gate* g, uint64_t now) {
  if (g->holding && g->loan && now > g->loan_end_ns && g->loan_end_ns > g->map.page->charged_ns) {
    book(g, g->loan_end_ns);
    settle(g, g->loan_end_ns);
    turn_into(g, false, g->loan_end_ns);
  }
  book(g, now);
}

void begin_hold(fg_gate* g, uint64_t range, bool loan, uint64_t now, uint64_t latency_ns) {
  Page* page = g->map.page;
  PageWrite write(page);
  page->hold_start_ns = page->burst_start_ns = page->charged_ns = now;
  page->hold_is_loan = loan;
  page->latency_ns = latency_ns;
  ++page->grants;
  store(&page->word, range);
  g->holding = true;
  g->loan = loan;
}

void end_hold(fg_gate* g, uint64_t now) {
  Page* page = g->map.page;
  PageWrite write(page);
  append_hold(page, now, g->loan);
  store(&page->word, pack(kIdle, 0, 0));
  g->holding = false;
}

}  // namespace fastgate

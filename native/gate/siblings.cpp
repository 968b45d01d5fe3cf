// The processes of one instance: they share its slot and its account, and take turns.
#include "siblings.h"

#include <string.h>

#include "plan.h"

namespace fastgate {
namespace {

// How long the next in turn is waited for: it may have to wake up first, and it may be stopped.
constexpr uint64_t kPatienceNs = 500'000;
// A turn is a part of the slot, so that all come to theirs, but no shorter than handing the token over is
// worth.
constexpr uint64_t kTurnsInSlot = 4;
constexpr uint64_t kShortestTurnNs = 1'000'000;

template <typename Visit>
void for_each(uint64_t mask, Visit visit) {
  for (; mask; mask &= mask - 1) visit(__builtin_ctzll(mask));
}

// Copies a page's account whole; false if its writer does not come to an end: it may have died in the middle.
bool read_account(const Page* page, Account* account, int64_t* owed) {
  for (int spins = 0; spins < 1000; ++spins, relax()) {
    uint32_t before = load(&page->seq);
    if (before & 1) continue;
    memcpy(account, &page->account, sizeof(*account));
    *owed = load(&page->owed_ns);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (load(&page->seq) == before) return true;
  }
  return false;
}

// Cycles and windows of another timetable mean nothing in this one: only what is owed stays owed.
void go_on_from(fg_gate* g, const Account& account, int64_t owed) {
  g->stamp_ns = account.stamp_ns;
  g->cycle = cycle_at(g, account.cycle_start_ns);
  bool same_cycles = cycle_start(g, g->cycle) == account.cycle_start_ns;
  if (!same_cycles) g->cycle = cycle_at(g, now_ns());
  g->cycle_own_ns = same_cycles ? account.own_ns : 0;
  g->cycle_loan_ns = same_cycles ? account.loan_ns : 0;
  g->window = window_at(g, account.window_start_ns);
  bool same_windows = window_start(g, g->window) == account.window_start_ns;
  if (!same_windows) g->window = window_at(g, now_ns());
  g->window_used_ns = same_windows ? account.window_used_ns : 0;
  store(&g->map.page->owed_ns, clamp(owed, -4 * debt_bound(g), debt_bound(g)));
}

uint64_t turn_length(const fg_gate* g) {
  uint64_t part = slot_length(g) / kTurnsInSlot;
  return part > kShortestTurnNs ? part : kShortestTurnNs;
}

}  // namespace

uint64_t wanting_since(const fg_gate* g) {
  uint64_t since = kForever;
  for_each(living_siblings(g) | 1ULL << g->map.index, [&](int index) {
    uint64_t at = load(&page_of(g->map, index)->demand_since_ns);
    if (at != 0) since = least(since, at);
  });
  return since;
}

bool go_on_from_latest(fg_gate* g) {
  bool found = false;
  for_each(g->plan.siblings & ~(1ULL << g->map.index), [&](int peer) {
    Account account;
    int64_t owed;
    if (load(&page_of(g->map, peer)->account.stamp_ns) <= g->stamp_ns) return;
    if (!read_account(page_of(g->map, peer), &account, &owed) || account.stamp_ns <= g->stamp_ns) return;
    go_on_from(g, account, owed);
    found = true;
  });
  return found;
}

// Of those with work, who has been without the token for longest goes first: until when that one is waited
// for.
uint64_t others_turn_until(const fg_gate* g, const Choice& choice) {
  uint64_t mine = g->map.page->account.stamp_ns;
  uint64_t free_since = choice.catch_up || choice.due_ns < mine ? mine : choice.due_ns;
  bool held = false, behind = false;
  for_each(living_siblings(g), [&](int peer) {
    const Page* page = page_of(g->map, peer);
    uint64_t theirs = load(&page->account.stamp_ns);
    held |= state_of(load(&page->word)) == kHold;  // it will wake those who wait for it
    behind |= load(&page->demand) && (theirs < mine || (theirs == mine && peer < g->map.index));
    if (theirs > free_since) free_since = theirs;
  });
  return behind && !held ? free_since + kPatienceNs : 0;
}

bool turn_is_over(const fg_gate* g, uint64_t now) {
  if (now - g->turn_start_ns < turn_length(g)) return false;
  bool wanted = false;
  for_each(living_siblings(g), [&](int peer) { wanted |= load(&page_of(g->map, peer)->demand) != 0; });
  return wanted;
}

uint64_t turn_end(const fg_gate* g, uint64_t expiry_ns, uint64_t now) {
  return living_siblings(g) ? least(expiry_ns, now + turn_length(g)) : expiry_ns;
}

}  // namespace fastgate

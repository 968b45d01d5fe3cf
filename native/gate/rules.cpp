// The rules of who may work when: in one's own slot, in time that is lent, in time that nobody needs.
#include "rules.h"

#include "plan.h"
#include "siblings.h"

namespace fastgate {
namespace {

constexpr uint64_t kWorthwhileNs = 100'000;  // waking up for less costs more than it brings

// Where a peer's slot lies around `now`.
struct Occurrence {
  bool matters = false;                              // it has a slot in which we cannot be at work too
  uint64_t start_ns = 0, end_ns = 0, window_ns = 0;  // the latest one that has begun
  uint64_t owners = 0;                               // the processes whose slot it is, if they are several
};

Occurrence slot_of(const fg_gate* g, int index, uint64_t now) {
  const Cell* cell = &g->map.board->cell[index];
  for (int attempt = 0; attempt < 100; ++attempt) {
    uint32_t seq = load(&cell->seq);
    uint64_t epoch = cell->epoch_ns, window = cell->window_ns, start = cell->slot_start_ns,
             end = cell->slot_end_ns, owners = cell->siblings;
    uint64_t theirs = pack(kHold, cell->sm_offset, cell->sm_offset + cell->sm);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if ((seq & 1) || load(&cell->seq) != seq) continue;
    uint64_t ours = pack(kHold, g->plan.sm_offset, g->plan.sm_offset + g->plan.sm);
    bool apart = !overlap(theirs, ours) && !(g->plan.strangers >> index & 1);
    if (!is_window(window) || start >= end || apart) return {};
    int64_t cycle = floor_div(static_cast<int64_t>(now - epoch - start), static_cast<int64_t>(window));
    uint64_t begin = epoch + start + static_cast<uint64_t>(cycle * static_cast<int64_t>(window));
    return {true, begin, begin + end - start, window, owners};
  }
  return {true, now, now + g->plan.window_ns, g->plan.window_ns,
          0};  // being rewritten all the time: in the way
}

// All that count, but for this process and its siblings.
template <typename Visit>
void for_each_peer(const fg_gate* g, Visit visit) {
  uint64_t own = g->plan.siblings | 1ULL << g->map.index;
  for (uint64_t rest = load(&g->map.board->alive) & ~own; rest; rest &= rest - 1)
    visit(__builtin_ctzll(rest));
}

// Whether a slot's owner has said that it will begin nothing more in it. Of several processes those with work
// say it.
bool has_passed(const fg_gate* g, int peer, const Occurrence& slot) {
  auto passed = [&](int index) { return load(&page_of(g->map, index)->passed_until_ns) >= slot.end_ns; };
  if (passed(peer) || load(&page_of(g->map, peer)->demand)) return passed(peer);
  for (uint64_t rest = slot.owners & load(&g->map.board->alive); rest; rest &= rest - 1)
    if (passed(__builtin_ctzll(rest))) return true;
  return false;
}

// Whether no other process of the same instance has held the token later: that one knows what is owed to it.
bool knows_latest(const fg_gate* g, int peer, uint64_t owners) {
  uint64_t stamp = load(&page_of(g->map, peer)->account.stamp_ns);
  for (; owners; owners &= owners - 1)
    if (load(&page_of(g->map, __builtin_ctzll(owners))->account.stamp_ns) > stamp) return false;
  return true;
}

// What is owed to those whose slots a burst until `finish` would run into: the most of any of them.
int64_t claims_before(const fg_gate* g, uint64_t slot_end, uint64_t finish) {
  int64_t most = 0;
  for_each_peer(g, [&](int peer) {
    Occurrence slot = slot_of(g, peer, finish);
    if (!slot.matters || slot.start_ns + 1'000'000 < slot_end || !knows_latest(g, peer, slot.owners)) return;
    int64_t owed = load(&page_of(g->map, peer)->owed_ns);
    if (owed > most) most = owed;
  });
  return most;
}

// The owner's right: a burst may start in the slot if half of it fits, plus what is owed, less what is owed
// to those it would keep waiting. What was overrun before makes the slot shorter.
void choose_own(const fg_gate* g, uint64_t now, uint64_t burst, bool daemon_alive, Choice* choice) {
  if (slot_length(g) == 0 || (!daemon_alive && !(g->plan.flags & kCertified))) return;
  int64_t owed = g->map.page->owed_ns, debt = owed < 0 ? -owed : 0;
  uint64_t start = cycle_start(g, cycle_at(g, now));
  uint64_t end = start + slot_length(g);
  uint64_t paid_end =
      static_cast<uint64_t>(debt) < slot_length(g) ? end - static_cast<uint64_t>(debt) : start;
  choice->next_ns = least(choice->next_ns, start + g->plan.window_ns);
  if (now >= end) return;
  if (burst != 0 && now + burst > paid_end) {
    int64_t more = claims_before(g, end, now + burst) - (owed > 0 ? owed : 0) - static_cast<int64_t>(burst);
    int64_t room = static_cast<int64_t>(end - now) + owed - clamp(2 * more, 0, debt_bound(g));
    if (room < static_cast<int64_t>(burst / 2)) return;
  }
  if (burst == 0 && now >= paid_end) return;
  choice->ok = true;
  choice->due_ns = start;
  choice->expiry_ns = paid_end > now ? paid_end : now;
  choice->sm_offset = g->plan.sm_offset;
}

bool lenders_idle(const fg_gate* g, uint64_t lenders) {
  for (; lenders; lenders &= lenders - 1) {
    const Page* peer = page_of(g->map, __builtin_ctzll(lenders));
    if (load(&peer->demand)) return false;
  }
  return true;
}

// Time of others: only what ends before they need it, and within the limit, the own slot to come included.
void choose_loan(const fg_gate* g, uint64_t now, uint64_t burst, Choice* choice) {
  uint64_t base = window_start(g, window_at(g, now));
  uint64_t slot_end = base + g->plan.slot_end_ns;
  uint64_t own_to_come = slot_end > now ? least(slot_end - now, slot_length(g)) : 0;
  uint64_t used = g->window_used_ns + own_to_come;
  // Who may use all of the window can only be stopped by others.
  bool unlimited = g->plan.limit_ns >= g->plan.window_ns;
  uint64_t left = unlimited ? g->plan.window_ns : g->plan.limit_ns > used ? g->plan.limit_ns - used : 0;
  for (uint32_t i = 0; i < g->plan.loan_count; ++i) {
    const Loan& loan = g->plan.loans[i];
    uint64_t start = base + loan.start_ns, end = base + loan.end_ns, until = base + loan.until_ns;
    choice->next_ns = least(choice->next_ns, now < start ? start : start + g->plan.window_ns);
    bool within = unlimited || (left > 0 && burst <= left);
    if (now < start || now >= end || !within || now + burst > until) continue;
    if (!lenders_idle(g, loan.lenders)) continue;
    choice->ok = choice->loan = true;
    choice->due_ns = start;
    choice->expiry_ns = least(end, now + left);
    choice->loan_end_ns = end;
    choice->sm_offset = loan.sm_offset;
    return;
  }
}

bool daemon_alive(const fg_gate* g, uint64_t now) {
  return now < load(&g->map.board->heartbeat_ns) + g->map.board->lend_valid_ns;
}

// Who is owed time may take what nobody needs: gaps of the timetable, and what is left of a slot when its
// owner's next burst would not fit. So it comes to even what the overruns of others have cost.
void choose_catch_up(const fg_gate* g, uint64_t now, uint64_t burst, bool daemon_alive, Choice* choice) {
  Page* page = g->map.page;
  int64_t balance = page->owed_ns + static_cast<int64_t>(slot_length(g)) -
                    static_cast<int64_t>(g->cycle_own_ns) - static_cast<int64_t>(g->cycle_loan_ns);
  uint64_t cycle_began = cycle_start(g, g->cycle);
  bool backlogged = wanting_since(g) <= cycle_began;
  bool certified = daemon_alive || (g->plan.flags & kCertified);
  if (slot_length(g) == 0 || !certified || !backlogged || now < cycle_began + slot_length(g)) return;
  if (balance <= static_cast<int64_t>(burst == 0 ? kWorthwhileNs : burst / 2)) return;
  uint64_t until = cycle_began + g->plan.window_ns, blocked_until = 0;  // until its own slot begins, at most
  store(&page->awaits_pass, 1U);
  full_fence();
  for_each_peer(g, [&](int peer) {
    Occurrence slot = slot_of(g, peer, now);
    if (!slot.matters) return;
    bool over = slot.end_ns <= now || has_passed(g, peer, slot);
    if (!over && slot.end_ns > blocked_until) blocked_until = slot.end_ns;
    until = least(until, slot.start_ns + slot.window_ns);
  });
  if (blocked_until != 0) {
    choice->next_ns = least(choice->next_ns, blocked_until);
    choice->awaits_pass = true;
    return;
  }
  if (until < now + (burst == 0 ? kWorthwhileNs : burst)) return;
  choice->ok = choice->catch_up = true;
  choice->due_ns = now;
  // Who has one token for many bursts is even when it expires.
  choice->expiry_ns =
      least(until, now + (static_cast<uint64_t>(balance) > burst ? static_cast<uint64_t>(balance) : burst));
  choice->sm_offset = g->plan.sm_offset;
}

// An owner that cannot begin another burst in its slot says so, for those who are owed time.
void pass(const fg_gate* g, uint64_t now) {
  uint64_t end = cycle_start(g, cycle_at(g, now)) + slot_length(g);
  Page* page = g->map.page;
  if (now >= end || page->passed_until_ns >= end || slot_length(g) == 0) return;
  store(&page->passed_until_ns, end);
  full_fence();
  for (uint64_t rest = load(&g->map.board->alive); rest; rest &= rest - 1) {
    int peer = __builtin_ctzll(rest);
    if (load(&page_of(g->map, peer)->awaits_pass)) wake(&g->map.board->cell[peer].seq);
  }
}

}  // namespace

Choice choose(const fg_gate* g, uint64_t now, uint64_t burst) {
  Choice choice;
  bool alive = daemon_alive(g, now);
  choose_own(g, now, burst, alive, &choice);
  if (!choice.ok && alive) choose_loan(g, now, burst, &choice);
  if (!choice.ok) choose_catch_up(g, now, burst, alive, &choice);
  if (!choice.awaits_pass) store(&g->map.page->awaits_pass, 0U);
  if (!choice.ok) pass(g, now);
  return choice;
}

}  // namespace fastgate

// Tokens: when may a burst start, who stands in the way, what was received.
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "gate_state.h"

namespace fastgate {
namespace {

constexpr uint64_t kForever = ~0ULL;
constexpr uint64_t kBlockedPollNs = 500'000;  // a peer that dies wakes nobody: look again this often
constexpr uint64_t kKickGapNs = 1'000'000;
constexpr uint64_t kLateNs = 1'000'000;      // who wakes up that late is not worth the daemon's attention
constexpr uint64_t kWorthwhileNs = 100'000;  // waking up for less costs more than it brings
constexpr uint64_t kSpinNs = 30'000;         // waking up from a timer takes about this long

template <typename T>
T load(const T* at) {
  return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}
template <typename T>
void store(T* at, T value) {
  __atomic_store_n(at, value, __ATOMIC_RELEASE);
}
void full_fence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }
uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }
int64_t clamp(int64_t value, int64_t low, int64_t high) {
  return value < low ? low : value > high ? high : value;
}

// Sleeps while *word == value, until `until_ns` at the latest.
void futex_wait(const uint32_t* word, uint32_t value, uint64_t until_ns) {
  timespec at = {static_cast<time_t>(until_ns / 1'000'000'000), static_cast<long>(until_ns % 1'000'000'000)};
  syscall(SYS_futex, word, FUTEX_WAIT_BITSET, value, until_ns == kForever ? nullptr : &at, nullptr,
          FUTEX_BITSET_MATCH_ANY);
}

// The kernel rounds sleeps of ordinary threads up by 50 us, more than a token is worth.
void sleep_exactly() {
  static thread_local bool done = false;
  if (!done) prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
  done = true;
}

// Sleeps on the instance's cell until `until_ns`, the last stretch awake, or until the daemon changes the
// cell.
void wait_for_plan(const fg_gate* g, uint64_t until_ns) {
  const uint32_t* seq = &g->map.board->cell[g->map.index].seq;
  uint64_t sleep_until = until_ns == kForever ? kForever : until_ns - kSpinNs;
  if (now_ns() < sleep_until) futex_wait(seq, g->plan.seq, sleep_until);
  while (load(seq) == g->plan.seq && now_ns() < until_ns && now_ns() >= sleep_until) __builtin_ia32_pause();
}

struct PageWrite {
  explicit PageWrite(Page* p) : page(p) {
    __atomic_fetch_add(&page->seq, 1, __ATOMIC_ACQ_REL);
    __atomic_thread_fence(__ATOMIC_RELEASE);
  }
  ~PageWrite() { __atomic_fetch_add(&page->seq, 1, __ATOMIC_ACQ_REL); }
  Page* page;
};

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

// Books the time held since the last call, as what the hold is.
void book(fg_gate* g, uint64_t now) {
  int64_t window = window_at(g, now);
  uint64_t held = 0;
  if (g->holding) {
    Page* page = g->map.page;
    held = now - page->charged_ns;
    (g->loan ? g->cycle_loan_ns : g->cycle_own_ns) += held;
    PageWrite write(page);
    page->held_ns += held;
    if (g->loan) page->loan_ns += held;
    page->charged_ns = now;
  }
  if (window != g->window) {
    g->window = window;
    g->window_used_ns = g->holding ? least(held, now - window_start(g, window)) : 0;
  } else {
    g->window_used_ns += held;
  }
}

// Closes the cycles that have passed: what was overrun is a debt, what a backlogged owner missed is owed to
// it.
void settle(fg_gate* g, uint64_t now) {
  int64_t cycle = cycle_at(g, now);
  int64_t length = static_cast<int64_t>(slot_length(g));
  if (cycle <= g->cycle || length == 0) return;
  Page* page = g->map.page;
  int64_t missed = length - static_cast<int64_t>(g->cycle_own_ns);
  int64_t skipped = clamp(cycle - g->cycle - 1, 0, 1000) * length;
  uint64_t slot_start = g->plan.epoch_ns + g->plan.slot_start_ns +
                        static_cast<uint64_t>(g->cycle * static_cast<int64_t>(g->plan.window_ns));
  bool backlogged = page->demand_since_ns != 0 && page->demand_since_ns <= slot_start;
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
  store(&page->owed_ns, clamp(owed, -4 * bound, bound));
  g->cycle = cycle;
  g->cycle_own_ns = g->cycle_loan_ns = 0;
}

void record_hold(fg_gate* g, uint64_t start, uint64_t end, bool loan) {
  Page* page = g->map.page;
  PageWrite write(page);
  page->holds[page->hold_count % kHolds] = {start, (end & ~1ULL) | (loan ? 1 : 0)};
  ++page->hold_count;
}

// The hold is of another kind from `now` on.
void turn_into(fg_gate* g, bool loan, uint64_t now) {
  if (loan == g->loan) return;
  Page* page = g->map.page;
  record_hold(g, page->hold_start_ns, now, g->loan);
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

struct Choice {
  bool ok = false;
  bool loan = false;
  uint64_t due_ns = 0;  // since when this token could be had
  uint64_t expiry_ns = 0;
  uint64_t loan_end_ns = 0;
  uint32_t sm_offset = 0;
  uint64_t next_ns = kForever;  // when to look again
};

// Where a peer's slot lies around `now`.
struct Occurrence {
  bool matters = false;                              // it has a slot, on SMs that overlap ours
  uint64_t start_ns = 0, end_ns = 0, window_ns = 0;  // the latest one that has begun
};

Occurrence slot_of(const fg_gate* g, int index, uint64_t now) {
  const Cell* cell = &g->map.board->cell[index];
  for (int attempt = 0; attempt < 100; ++attempt) {
    uint32_t seq = load(&cell->seq);
    uint64_t epoch = cell->epoch_ns, window = cell->window_ns, start = cell->slot_start_ns,
             end = cell->slot_end_ns;
    uint64_t theirs = pack(kHold, cell->sm_offset, cell->sm_offset + cell->sm);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if ((seq & 1) || load(&cell->seq) != seq) continue;
    uint64_t ours = pack(kHold, g->plan.sm_offset, g->plan.sm_offset + g->plan.sm);
    if (window == 0 || start >= end || !overlap(theirs, ours)) return {};
    int64_t cycle = floor_div(static_cast<int64_t>(now - epoch - start), static_cast<int64_t>(window));
    uint64_t begin = epoch + start + static_cast<uint64_t>(cycle * static_cast<int64_t>(window));
    return {true, begin, begin + end - start, window};
  }
  return {true, now, now + g->plan.window_ns, g->plan.window_ns};  // being rewritten all the time: in the way
}

template <typename Visit>
void for_each_peer(const fg_gate* g, Visit visit) {
  for (uint64_t rest = load(&g->map.board->alive); rest; rest &= rest - 1) {
    int peer = __builtin_ctzll(rest);
    if (peer != g->map.index) visit(peer);
  }
}

// What is owed to those whose slots a burst until `finish` would run into: the most of any of them.
int64_t claims_before(const fg_gate* g, uint64_t slot_end, uint64_t finish) {
  int64_t most = 0;
  for_each_peer(g, [&](int peer) {
    Occurrence slot = slot_of(g, peer, finish);
    if (!slot.matters || slot.start_ns + 1'000'000 < slot_end) return;
    int64_t owed = load(&g->map.peers[peer]->owed_ns);
    if (owed > most) most = owed;
  });
  return most;
}

// The owner's right: a burst may start in the slot if half of it fits, plus what is owed, less what is owed
// to those it would keep waiting.
void choose_own(const fg_gate* g, uint64_t now, uint64_t burst, bool daemon_alive, Choice* choice) {
  if (slot_length(g) == 0 || (!daemon_alive && !(g->plan.flags & kCertified))) return;
  uint64_t start = g->plan.epoch_ns + g->plan.slot_start_ns +
                   static_cast<uint64_t>(cycle_at(g, now) * static_cast<int64_t>(g->plan.window_ns));
  uint64_t end = start + slot_length(g);
  choice->next_ns = least(choice->next_ns, start + g->plan.window_ns);
  if (now >= end) return;
  if (burst != 0 && now + burst > end) {
    int64_t owed = g->map.page->owed_ns;
    int64_t more = claims_before(g, end, now + burst) - (owed > 0 ? owed : 0) - static_cast<int64_t>(burst);
    int64_t room = static_cast<int64_t>(end - now) + owed - clamp(2 * more, 0, debt_bound(g));
    if (room < static_cast<int64_t>(burst / 2)) return;
  }
  choice->ok = true;
  choice->due_ns = start;
  choice->expiry_ns = end;
  choice->sm_offset = g->plan.sm_offset;
}

bool lenders_idle(const fg_gate* g, uint64_t lenders) {
  for (; lenders; lenders &= lenders - 1) {
    const Page* peer = g->map.peers[__builtin_ctzll(lenders)];
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
  uint64_t left = g->plan.limit_ns > used ? g->plan.limit_ns - used : 0;
  for (uint32_t i = 0; i < g->plan.loan_count; ++i) {
    const Loan& loan = g->plan.loans[i];
    uint64_t start = base + loan.start_ns, end = base + loan.end_ns, until = base + loan.until_ns;
    choice->next_ns = least(choice->next_ns, now < start ? start : start + g->plan.window_ns);
    if (now < start || now >= end || left == 0 || burst > left || now + burst > until) continue;
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
  uint64_t cycle_start = g->plan.epoch_ns + g->plan.slot_start_ns +
                         static_cast<uint64_t>(g->cycle * static_cast<int64_t>(g->plan.window_ns));
  bool backlogged = page->demand_since_ns != 0 && page->demand_since_ns <= cycle_start;
  bool certified = daemon_alive || (g->plan.flags & kCertified);
  if (slot_length(g) == 0 || !certified || !backlogged || now < cycle_start + slot_length(g)) return;
  if (balance <= static_cast<int64_t>(burst == 0 ? kWorthwhileNs : burst / 2)) return;
  uint64_t until = cycle_start + g->plan.window_ns, blocked_until = 0;  // until its own slot begins, at most
  store(&page->awaits_pass, 1U);
  full_fence();
  for_each_peer(g, [&](int peer) {
    Occurrence slot = slot_of(g, peer, now);
    if (!slot.matters) return;
    bool over = slot.end_ns <= now || load(&g->map.peers[peer]->passed_until_ns) >= slot.end_ns;
    if (!over && slot.end_ns > blocked_until) blocked_until = slot.end_ns;
    until = least(until, slot.start_ns + slot.window_ns);
  });
  if (blocked_until != 0) {
    choice->next_ns = least(choice->next_ns, blocked_until);
    return;
  }
  if (until < now + (burst == 0 ? kWorthwhileNs : burst)) return;
  choice->ok = true;
  choice->due_ns = now;
  choice->expiry_ns = least(until, burst == 0 ? now + static_cast<uint64_t>(balance) : until);
  choice->sm_offset = g->plan.sm_offset;
}

// An owner that cannot begin another burst in its slot says so, for those who are owed time.
void pass(const fg_gate* g, uint64_t now) {
  uint64_t end = g->plan.epoch_ns + g->plan.slot_end_ns +
                 static_cast<uint64_t>(cycle_at(g, now) * static_cast<int64_t>(g->plan.window_ns));
  Page* page = g->map.page;
  if (now >= end || page->passed_until_ns >= end || slot_length(g) == 0) return;
  store(&page->passed_until_ns, end);
  full_fence();
  for (uint64_t rest = load(&g->map.board->alive); rest; rest &= rest - 1) {
    int peer = __builtin_ctzll(rest);
    if (load(&g->map.peers[peer]->awaits_pass)) wake(&g->map.board->cell[peer].seq);
  }
}

Choice choose(const fg_gate* g, uint64_t now, uint64_t burst) {
  Choice choice;
  bool alive = daemon_alive(g, now);
  choose_own(g, now, burst, alive, &choice);
  if (!choice.ok && alive) choose_loan(g, now, burst, &choice);
  if (!choice.ok) choose_catch_up(g, now, burst, alive, &choice);
  if (!choice.ok) pass(g, now);
  return choice;
}

// Takes the range unless somebody is still at work in it; returns that peer, or -1. Two that want overlapping
// ranges at once each see the other's intent: the lower index goes first.
int take_range(fg_gate* g, uint32_t lo, uint32_t hi) {
  Page* page = g->map.page;
  store(&page->word, pack(kIntent, lo, hi));
  full_fence();
  uint64_t mine = pack(kHold, lo, hi);
  for (uint64_t rest = load(&g->map.board->alive); rest; rest &= rest - 1) {
    int peer = __builtin_ctzll(rest);
    if (peer == g->map.index) continue;
    uint64_t word = load(&g->map.peers[peer]->word);
    for (int spins = 0;
         state_of(word) == kIntent && peer > g->map.index && overlap(word, mine) && spins < 20'000; ++spins) {
      __builtin_ia32_pause();
      word = load(&g->map.peers[peer]->word);
    }
    if (state_of(word) != kIdle && overlap(word, mine)) {
      store(&page->word, pack(kIdle, 0, 0));
      return peer;
    }
  }
  store(&page->word, mine);
  return -1;
}

void wake_waiting(const fg_gate* g) {
  Page* page = g->map.page;
  __atomic_fetch_add(&page->release_seq, 1, __ATOMIC_ACQ_REL);
  full_fence();
  for (uint64_t rest = load(&g->map.board->alive); rest; rest &= rest - 1) {
    if (load(&g->map.peers[__builtin_ctzll(rest)]->waiting_for) == g->map.index) {
      wake(&page->release_seq);
      return;
    }
  }
}

void kick_gently(fg_gate* g, uint64_t now) {
  if (now - g->kicked_ns < kKickGapNs) return;
  g->kicked_ns = now;
  kick(g);
}

// Sleeps until `peer` has returned its token. Tells the daemon if that takes longer than the peer's longest
// burst.
void wait_for_peer(fg_gate* g, int peer, uint64_t blocked_since, uint64_t until_ns) {
  const Page* other = g->map.peers[peer];
  Page* page = g->map.page;
  uint32_t seq = load(&other->release_seq);
  store(&page->waiting_for, peer);
  full_fence();
  uint64_t now = now_ns();
  if (state_of(load(&other->word)) != kIdle)
    futex_wait(&other->release_seq, seq, least(until_ns, now + kBlockedPollNs));
  store(&page->waiting_for, -1);
  if (now - blocked_since > load(&g->map.board->cell[peer].burst_ns) + kLateNs) kick_gently(g, now);
}

// Counter and clock at the same moment; false if something came between the two readings.
bool read_both(uint64_t* ticks, uint64_t* ns) {
  constexpr uint64_t kTogether = 20'000;
  for (int attempt = 0; attempt < 3; ++attempt) {
    uint64_t after;
    if (!read_ticks(ticks)) return false;
    *ns = now_ns();
    if (read_ticks(&after) && after - *ticks < kTogether) return true;
  }
  return false;
}

// Sets when the token expires, on the processor's counter too once it has been watched for long enough.
void set_expiry(fg_gate* g, uint64_t expiry_ns) {
  constexpr uint64_t kWatchedNs = 5'000'000;
  uint64_t ticks, ns;
  g->expiry_ns = expiry_ns;
  g->expiry_ticks = 0;
  store(&g->map.page->expiry_ns, expiry_ns);
  if (g->ticks_at_open == 0 || !read_both(&ticks, &ns) || ns - g->ns_at_open < kWatchedNs) return;
  double per_ns = static_cast<double>(ticks - g->ticks_at_open) / static_cast<double>(ns - g->ns_at_open);
  uint64_t left = expiry_ns > ns ? expiry_ns - ns : 0;
  g->expiry_ticks = ticks + static_cast<uint64_t>(static_cast<double>(left) * per_ns);
}

void begin_hold(fg_gate* g, const Choice& choice, uint64_t requested, uint64_t now) {
  g->holding = true;
  g->loan = choice.loan;
  g->loan_end_ns = choice.loan_end_ns;
  set_expiry(g, choice.expiry_ns);
  Page* page = g->map.page;
  store(&page->awaits_pass, 0U);
  uint64_t due = requested > choice.due_ns ? requested : choice.due_ns;
  PageWrite write(page);
  page->hold_start_ns = page->burst_start_ns = page->charged_ns = now;
  page->hold_is_loan = choice.loan;
  page->latency_ns = now > due ? now - due : 0;
  ++page->grants;
}

// Moves to a new set of pages if the daemon has handed one out. Only while no token is held.
void adopt_successor(fg_gate* g) {
  Mapping* next = __atomic_exchange_n(&g->successor, nullptr, __ATOMIC_ACQ_REL);
  if (next == nullptr) return;
  next->page->demand = g->map.page->demand;
  next->page->demand_since_ns = g->map.page->demand_since_ns;
  next->page->longest_burst_ns = g->map.page->longest_burst_ns;
  unmap_all(&g->map);
  g->map = *next;
  free(next);
  g->plan.seq = 1;  // odd: never equal to a stable cell's
  read_plan(g);
}

void raise_demand(fg_gate* g, uint64_t now) {
  Page* page = g->map.page;
  if (page->demand) return;
  PageWrite write(page);
  page->demand_since_ns = now;
  store(&page->demand, 1U);
}

void drop_demand(fg_gate* g, uint64_t now) {
  Page* page = g->map.page;
  PageWrite write(page);
  if (page->demand_since_ns) page->demand_ns += now - page->demand_since_ns;
  page->demand_since_ns = 0;
  store(&page->demand, 0U);
}

}  // namespace

}  // namespace fastgate

using namespace fastgate;

fg_gate* fg_open(const char* socket_path, const char* instance_id, uint64_t timeout_ns, char* error,
                 size_t error_size) {
  if (strlen(socket_path) >= sizeof(fg_gate::path) || strlen(instance_id) >= sizeof(fg_gate::instance_id)) {
    say(error, error_size, "the socket's path or the instance's id is too long: ", socket_path);
    return nullptr;
  }
  int fds[kCells + 2];
  Answer answer;
  int socket =
      introduce(socket_path, kRegister, instance_id, nullptr, timeout_ns, &answer, fds, error, error_size);
  if (socket < 0) return nullptr;
  void* memory = calloc(1, sizeof(fg_gate));
  fg_gate* g = static_cast<fg_gate*>(memory);
  if (g == nullptr || answer.status != kWelcome || !map_all(&g->map, fds, static_cast<int>(answer.index))) {
    say(error, error_size, "the daemon did not hand out its pages: ", answer.reason);
    close(socket);
    free(memory);
    return nullptr;
  }
  strcpy(g->path, socket_path);
  strcpy(g->instance_id, instance_id);
  g->socket = socket;
  if (!ticks_are_steady() || !read_both(&g->ticks_at_open, &g->ns_at_open)) g->ticks_at_open = 0;
  g->plan.seq = 1;
  g->map.page->waiting_for = -1;
  read_plan(g);
  if (!start_keeper(g)) {
    say(error, error_size, "no thread could be started", "");
    fg_close(g);
    return nullptr;
  }
  return g;
}

void fg_close(fg_gate* g) {
  if (g->holding) fg_release(g, 0);
  leave(g);
  stop_keeper(g);
  adopt_successor(g);
  if (g->socket >= 0) close(g->socket);
  unmap_all(&g->map);
  free(g);
}

int fg_try_acquire(fg_gate* g, uint64_t burst_ns, uint64_t requested_ns, fg_wait* wait) {
  if (g->holding) return FG_MISUSE;
  adopt_successor(g);
  uint64_t now = now_ns();
  raise_demand(g, now);
  read_plan(g);
  if (load(&g->evicted) || (g->plan.flags & kEvicted)) return FG_EVICTED;
  charge(g, now);
  settle(g, now);
  Choice choice = choose(g, now, burst_ns);
  *wait = {choice.next_ns, -1};
  if (choice.ok) {
    wait->peer = take_range(g, choice.sm_offset, choice.sm_offset + g->plan.sm);
    if (wait->peer >= 0) return FG_TIMEOUT;
    begin_hold(g, choice, requested_ns, now_ns());
    return FG_OK;
  }
  if (!(load(&g->map.board->wanting) >> g->map.index & 1)) kick_gently(g, now);
  return FG_TIMEOUT;
}

int fg_acquire(fg_gate* g, uint64_t burst_ns, uint64_t timeout_ns) {
  sleep_exactly();
  const uint64_t requested = now_ns();
  const uint64_t deadline = timeout_ns > kForever - requested ? kForever : requested + timeout_ns;
  uint64_t blocked_since = 0;
  for (;;) {
    fg_wait wait;
    int result = fg_try_acquire(g, burst_ns, requested, &wait);
    if (result != FG_TIMEOUT) return result;
    uint64_t now = now_ns();
    if (now >= deadline) return FG_TIMEOUT;
    if (wait.peer >= 0) {
      if (blocked_since == 0) blocked_since = now;
      wait_for_peer(g, wait.peer, blocked_since, deadline);
    } else {
      blocked_since = 0;
      // The daemon may be gone and come back, which nothing announces: never sleep for longer than a window.
      wait_for_plan(g, least(least(wait.until_ns, deadline), now + g->plan.window_ns));
    }
  }
}

int fg_continue(fg_gate* g, uint64_t burst_ns) {
  if (!g->holding) return FG_MISUSE;
  uint64_t now = now_ns();
  Page* page = g->map.page;
  charge(g, now);
  read_plan(g);
  if ((g->plan.flags & kEvicted) || load(&g->successor) != nullptr) return FG_TIMEOUT;
  settle(g, now);
  Choice choice = choose(g, now, burst_ns);
  uint64_t range = pack(kHold, choice.sm_offset, choice.sm_offset + g->plan.sm);
  if (!choice.ok || range != page->word) return FG_TIMEOUT;
  turn_into(g, choice.loan, now);
  g->loan_end_ns = choice.loan_end_ns;
  set_expiry(g, choice.expiry_ns);
  page->burst_start_ns = now;
  return FG_OK;
}

void fg_release(fg_gate* g, int more) {
  if (!g->holding) return;
  uint64_t now = now_ns();
  Page* page = g->map.page;
  charge(g, now);
  record_hold(g, page->hold_start_ns, now, g->loan);
  g->holding = false;
  g->expiry_ns = g->expiry_ticks = 0;
  store(&page->word, pack(kIdle, 0, 0));
  wake_waiting(g);
  if (!more) {
    drop_demand(g, now);
    if (load(&g->map.board->hungry)) kick_gently(g, now);
  }
}

int fg_checkpoint(fg_gate* g, uint64_t burst_ns, uint64_t timeout_ns) {
  int result = fg_continue(g, burst_ns);
  if (result != FG_TIMEOUT) return result;
  fg_release(g, 1);
  return fg_acquire(g, burst_ns, timeout_ns);
}

int fg_valid(const fg_gate* g) {
  uint64_t ticks;
  bool in_time =
      g->expiry_ticks != 0 && read_ticks(&ticks) ? ticks < g->expiry_ticks : now_ns() < g->expiry_ns;
  return in_time && load(&g->map.board->cell[g->map.index].seq) == g->plan.seq;
}

void fg_hold(fg_gate* g) {
  while (fg_valid(g)) wait_for_plan(g, g->expiry_ns);
}

void fg_report_burst(fg_gate* g, uint64_t burst_ns) {
  Page* page = g->map.page;
  if (burst_ns > page->longest_burst_ns) store(&page->longest_burst_ns, burst_ns);
}

uint64_t fg_expiry_ns(const fg_gate* g) { return g->expiry_ns; }
uint64_t fg_latency_ns(const fg_gate* g) { return g->map.page->latency_ns; }

#define FG_AT(type, field) static_cast<uint32_t>(offsetof(type, field))
size_t fg_layout(uint32_t* out, size_t capacity) {
  const uint32_t values[] = {
      kVersion,
      kCells,
      kLoans,
      kHolds,
      sizeof(Board),
      sizeof(Cell),
      sizeof(Loan),
      sizeof(Page),
      FG_AT(Board, heartbeat_ns),
      FG_AT(Board, alive),
      FG_AT(Board, wanting),
      FG_AT(Board, hungry),
      FG_AT(Board, cell),
      FG_AT(Cell, flags),
      FG_AT(Cell, sm_offset),
      FG_AT(Cell, loans),
      FG_AT(Page, word),
      FG_AT(Page, hold_start_ns),
      FG_AT(Page, owed_ns),
      FG_AT(Page, hold_count),
      FG_AT(Page, burst_start_ns),
      FG_AT(Page, held_ns),
      FG_AT(Page, holds),
      sizeof(Hello),
      sizeof(Answer),
  };
  size_t count = sizeof(values) / sizeof(values[0]);
  for (size_t i = 0; i < count && i < capacity; ++i) out[i] = values[i];
  return count;
}

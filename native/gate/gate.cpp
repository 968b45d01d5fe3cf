// The C ABI: opening a gate, acquiring, continuing and returning tokens.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <new>

#include "accounts.h"
#include "atoms.h"
#include "expiry.h"
#include "gate_state.h"
#include "plan.h"
#include "rules.h"
#include "siblings.h"
#include "sleep.h"

namespace fastgate {
namespace {

// Who passes changes no word that we sleep on, so its call may come just before we do: look again this often.
constexpr uint64_t kPassPollNs = 1'000'000;

// Claims the range for begin_hold, unless somebody is still at work in it; returns that peer, or -1. Two that
// want overlapping ranges at once each see the other's intent: the lower index goes first.
int claim_range(fg_gate* g, uint32_t lo, uint32_t hi) {
  Page* page = g->map.page;
  store(&page->word, pack(kIntent, lo, hi));
  full_fence();
  uint64_t mine = pack(kHold, lo, hi);
  for (uint64_t rest = load(&g->map.board->alive); rest; rest &= rest - 1) {
    int peer = __builtin_ctzll(rest);
    if (peer == g->map.index) continue;
    bool anywhere = (g->plan.siblings | g->plan.strangers) >> peer & 1;  // one at a time, whatever their SMs
    auto in_the_way = [&](uint64_t theirs) { return anywhere || overlap(theirs, mine); };
    uint64_t word = load(&page_of(g->map, peer)->word);
    for (int spins = 0;
         state_of(word) == kIntent && peer > g->map.index && in_the_way(word) && spins < 20'000; ++spins) {
      relax();
      word = load(&page_of(g->map, peer)->word);
    }
    if (state_of(word) != kIdle && in_the_way(word)) {
      store(&page->word, pack(kIdle, 0, 0));
      return peer;
    }
  }
  return -1;
}

void hold(fg_gate* g, const Choice& choice, uint64_t requested) {
  uint64_t now = now_ns();
  uint64_t due = requested > choice.due_ns ? requested : choice.due_ns;
  g->loan_end_ns = choice.loan_end_ns;
  g->turn_start_ns = now;
  set_expiry(g, turn_end(g, choice.expiry_ns, now));
  store(&g->map.page->awaits_pass, 0U);
  uint64_t range = pack(kHold, choice.sm_offset, choice.sm_offset + g->plan.sm);
  begin_hold(g, range, choice.loan, now, now > due ? now - due : 0);
}

// Moves to a new set of pages if the daemon has handed one out. Only while no token is held.
void adopt_successor(fg_gate* g) {
  if (load(&g->successor) == nullptr) return;
  pthread_mutex_lock(&g->moving);
  Mapping* next = g->successor;
  store(&g->successor, static_cast<Mapping*>(nullptr));
  {
    PageWrite write(next->page);
    next->page->demand = g->map.page->demand;
    next->page->demand_since_ns = g->map.page->demand_since_ns;
    next->page->longest_burst_ns = g->map.page->longest_burst_ns;
  }
  unmap_all(&g->map);
  g->map = *next;
  pthread_mutex_unlock(&g->moving);
  free(next);
  forget_plan(g);
  read_plan(g);
}

// Once taken off the device it stays off: its cell may be another's by now.
bool evicted(fg_gate* g) {
  if (g->plan.flags & kEvicted) store(&g->evicted, 1U);
  return load(&g->evicted);
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

fg_gate* make_gate() {
  void* memory = aligned_alloc(alignof(fg_gate), sizeof(fg_gate));
  if (memory == nullptr) return nullptr;
  fg_gate* g = new (memory) fg_gate();
  forget_plan(g);
  return g;
}

}  // namespace fastgate

using namespace fastgate;

fg_gate* fg_open(const char* socket_path, const char* instance_id, uint64_t timeout_ns, char* error,
                 size_t error_size) {
  return fg_enter(-1, socket_path, instance_id, timeout_ns, error, error_size);
}

fg_gate* fg_enter(int knocked, const char* socket_path, const char* instance_id, uint64_t timeout_ns,
                  char* error, size_t error_size) {
  if (strlen(socket_path) >= sizeof(fg_gate::path) || strlen(instance_id) >= sizeof(fg_gate::instance_id)) {
    say(error, error_size, "the socket's path or the instance's id is too long: ", socket_path);
    if (knocked >= 0) close(knocked);
    return nullptr;
  }
  int fds[kCells + 2];
  Answer answer;
  int socket = introduce(knocked, socket_path, instance_id, timeout_ns, &answer, fds, error, error_size);
  if (socket < 0) return nullptr;
  fg_gate* g = make_gate();
  if (g == nullptr || !map_all(&g->map, fds, static_cast<int>(answer.index))) {
    say(error, error_size, "the daemon did not hand out its pages: ", answer.reason);
    close(socket);
    free(g);
    return nullptr;
  }
  strcpy(g->path, socket_path);
  strcpy(g->instance_id, instance_id);
  g->socket = handle_of(socket);
  watch_counter(g);
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
  if (!stop_keeper(g))
    return;  // the program has closed our pipe: the keeper goes on, and so what it uses stays
  adopt_successor(g);
  let_go(&g->socket);
  unmap_all(&g->map);
  free(g);
}

int fg_try_acquire(fg_gate* g, uint64_t burst_ns, uint64_t requested_ns, fg_wait* wait) {
  if (g->holding) return FG_MISUSE;
  adopt_successor(g);
  read_plan(g);
  if (evicted(g)) return FG_EVICTED;
  uint64_t now = now_ns();
  raise_demand(g, now);
  go_on_from_latest(g);
  charge(g, now);
  settle(g, now);
  Choice choice = choose(g, now, burst_ns);
  *wait = {choice.next_ns, -1};
  if (choice.ok) {
    wait->until_ns = others_turn_until(g, choice);
    if (wait->until_ns > now) return FG_TIMEOUT;
    wait->peer = claim_range(g, choice.sm_offset, choice.sm_offset + g->plan.sm);
    if (wait->peer >= 0) return FG_TIMEOUT;
    // The daemon changes the plan and then looks at our word: it has seen that we are at work, or we see the
    // change. And a sibling may have used some of the time that was chosen.
    if (!plan_stands(g) || go_on_from_latest(g)) {
      store(&g->map.page->word, pack(kIdle, 0, 0));
      wait->until_ns = now;
      return FG_TIMEOUT;
    }
    hold(g, choice, requested_ns);
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
      uint64_t until = least(least(wait.until_ns, deadline), now + g->plan.window_ns);
      wait_for_plan(g, until, load(&g->map.page->awaits_pass) ? now + kPassPollNs : kForever);
    }
  }
}

int fg_continue(fg_gate* g, uint64_t burst_ns) { return fg_continue_at(g, burst_ns, 0); }

int fg_continue_at(fg_gate* g, uint64_t burst_ns, uint64_t start_ns) {
  if (!g->holding) return FG_MISUSE;
  uint64_t now = now_ns();
  Page* page = g->map.page;
  charge(g, now);
  read_plan(g);
  if (evicted(g) || load(&g->successor) != nullptr) return FG_TIMEOUT;
  settle(g, now);
  Choice choice = choose(g, start_ns > now ? start_ns : now, burst_ns);
  uint64_t range = pack(kHold, choice.sm_offset, choice.sm_offset + g->plan.sm);
  if (!choice.ok || range != page->word || turn_is_over(g, now)) return FG_TIMEOUT;
  turn_into(g, choice.loan, now);
  g->loan_end_ns = choice.loan_end_ns;
  set_expiry(g, turn_end(g, choice.expiry_ns, now));
  page->burst_start_ns = now;
  return FG_OK;
}

void fg_release(fg_gate* g, int more) {
  if (!g->holding) return;
  uint64_t now = now_ns();
  charge(g, now);
  end_hold(g, now);
  end_expiry(g);
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

int fg_valid(const fg_gate* g) { return in_time(g) && plan_stands(g); }

void fg_hold(fg_gate* g) {
  while (fg_valid(g)) wait_for_plan(g, g->expiry_ns);
}

void fg_excuse(fg_gate* g, uint64_t idle_ns) {
  charge(g, now_ns());
  if (g->holding && !g->loan) g->cycle_own_ns -= least(g->cycle_own_ns, idle_ns);
}

void fg_report_burst(fg_gate* g, uint64_t burst_ns) {
  Page* page = g->map.page;
  if (burst_ns > page->longest_burst_ns) store(&page->longest_burst_ns, burst_ns);
}

void fg_fault(fg_gate* g, uint32_t error) {
  Page* page = g->map.page;
  if (error == 0 || page->fault != 0) return;
  {
    PageWrite write(page);
    store(&page->fault, error);
  }
  kick(g);
}

int fg_is_loan(const fg_gate* g) { return g->holding && g->loan; }
uint64_t fg_expiry_ns(const fg_gate* g) { return g->expiry_ns; }
uint64_t fg_latency_ns(const fg_gate* g) { return g->map.page->latency_ns; }

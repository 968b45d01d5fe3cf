// Waiting for a time, for the daemon or for a peer, and waking.
#include "sleep.h"

#include <linux/futex.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "plan.h"

namespace fastgate {
namespace {

constexpr uint64_t kBlockedPollNs = 500'000;  // a peer that dies wakes nobody: look again this often
constexpr uint64_t kKickGapNs = 1'000'000;
constexpr uint64_t kLateNs = 1'000'000;  // who wakes up that late is not worth the daemon's attention
constexpr uint64_t kSpinNs = 30'000;     // waking up from a timer takes about this long

// Sleeps while *word == value, until `until_ns` at the latest.
void futex_wait(const uint32_t* word, uint32_t value, uint64_t until_ns) {
  timespec at = {static_cast<time_t>(until_ns / 1'000'000'000), static_cast<long>(until_ns % 1'000'000'000)};
  syscall(SYS_futex, word, FUTEX_WAIT_BITSET, value, until_ns == kForever ? nullptr : &at, nullptr,
          FUTEX_BITSET_MATCH_ANY);
}

}  // namespace

// The kernel rounds sleeps of ordinary threads up by 50 us, more than a token is worth.
void sleep_exactly() {
  static thread_local bool done = false;
  if (!done) prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
  done = true;
}

// Sleeps until `until_ns`, the last stretch awake, or until the daemon changes the plan; until `look_ns` at
// the latest.
void wait_for_plan(const fg_gate* g, uint64_t until_ns, uint64_t look_ns) {
  const uint32_t* seq = &g->map.board->cell[g->map.index].seq;
  uint64_t awake_from = until_ns == kForever ? kForever : until_ns - kSpinNs;
  uint32_t seen = load(seq);
  if (same_plan(seen, g->plan.seq) && now_ns() < awake_from)
    futex_wait(seq, seen, least(awake_from, look_ns));
  while (plan_stands(g) && now_ns() < until_ns && now_ns() >= awake_from) relax();
}

void wake_waiting(const fg_gate* g) {
  Page* page = g->map.page;
  __atomic_fetch_add(&page->release_seq, 1, __ATOMIC_ACQ_REL);
  full_fence();
  for (uint64_t rest = load(&g->map.board->alive); rest; rest &= rest - 1) {
    if (load(&page_of(g->map, __builtin_ctzll(rest))->waiting_for) == g->map.index) {
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
  const Page* other = page_of(g->map, peer);
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

}  // namespace fastgate

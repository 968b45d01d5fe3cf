// The expiry of a token in ticks of the processor's counter, which is read quicker than the clock.
#include "expiry.h"

#include "atoms.h"

namespace fastgate {
namespace {

constexpr uint64_t kTogetherTicks = 20'000;  // two readings this close are of the same moment
constexpr uint64_t kWatchedNs = 50'000'000;  // a rate is measured over at least this long
constexpr double kTolerance = 0.01;

// Counter and clock at the same moment; false if something came between the two readings.
bool read_both(uint64_t* ticks, uint64_t* ns) {
  for (int attempt = 0; attempt < 3; ++attempt) {
    uint64_t after;
    if (!read_ticks(ticks)) return false;
    *ns = now_ns();
    if (read_ticks(&after) && after - *ticks < kTogetherTicks) return true;
  }
  return false;
}

// Whether the counter's rate is known. It is measured once and then only compared: where the two have parted
// (the counter goes on while a machine sleeps, the clock does not) the clock alone counts until it is
// measured anew.
bool rate_known(Counter* counter, uint64_t ticks, uint64_t ns) {
  uint64_t passed_ns = ns - counter->ns;
  double passed = static_cast<double>(ticks - counter->ticks);
  double expected = static_cast<double>(passed_ns) * counter->ticks_per_ns;
  double apart = passed > expected ? passed - expected : expected - passed;
  if (counter->ticks_per_ns != 0 && apart > kTolerance * expected + 2 * kTogetherTicks) {
    counter->ticks_per_ns = 0;
  } else if (passed_ns < kWatchedNs) {
    return counter->ticks_per_ns != 0;
  } else if (counter->ticks_per_ns == 0) {
    counter->ticks_per_ns = passed / static_cast<double>(passed_ns);
  }
  counter->ticks = ticks;
  counter->ns = ns;
  return counter->ticks_per_ns != 0;
}

}  // namespace

void watch_counter(fg_gate* g) {
  g->counter.steady = ticks_are_steady() && read_both(&g->counter.ticks, &g->counter.ns);
}

void set_expiry(fg_gate* g, uint64_t expiry_ns) {
  uint64_t ticks, ns;
  g->expiry_ns = expiry_ns;
  g->valid_ticks = 0;
  store(&g->map.page->expiry_ns, expiry_ns);
  if (!g->counter.steady || !read_both(&ticks, &ns) || !rate_known(&g->counter, ticks, ns)) return;
  uint64_t left_ns = expiry_ns > ns ? expiry_ns - ns : 0;
  g->granted_ticks = ticks;
  g->valid_ticks = static_cast<uint64_t>(static_cast<double>(left_ns) * g->counter.ticks_per_ns);
}

void end_expiry(fg_gate* g) { g->expiry_ns = g->valid_ticks = 0; }

}  // namespace fastgate

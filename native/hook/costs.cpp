#include "costs.h"

namespace fasthook {

Cost costs[kCosts + 1];

namespace {
Cost crowd = {.ns = kUnmeasuredNs};  // all that the table has no room for
uint32_t used = 0;
uint64_t longest_ns = 0;
constexpr uint32_t kMostUsed = kCosts / 4 * 3;
}  // namespace

Cost* find_or_begin(const void* what, uint64_t shape) {
  for (uint32_t at = place_of(what, shape);; at = (at + 1) % kCosts) {
    Cost* cost = &costs[at];
    if (cost->what == what && cost->shape == shape) return cost;
    if (cost->what != nullptr) continue;
    if (used >= kMostUsed) return &crowd;
    ++used;
    cost->shape = shape;
    cost->ns = kUnmeasuredNs;
    __atomic_store_n(&cost->what, what, __ATOMIC_RELEASE);
    return cost;
  }
}

// At once upwards, since to expect too little costs others their time, and slowly down.
static uint64_t follow(uint64_t before, uint64_t seen) {
  return seen > before ? seen : before - (before - seen) / 8;
}

void measured(Cost* cost, uint64_t ns) {
  uint64_t now = cost->measured ? follow(cost->ns, ns) : ns;
  uint32_t seen = ns < ~0U ? static_cast<uint32_t>(ns) : ~0U, least = cost->soonest_ns;
  cost->soonest_ns = cost->measured && seen > least ? least + (seen - least) / 16 : seen;
  __atomic_store_n(&cost->ns, now < 2 ? 2 : now & ~1ULL, __ATOMIC_RELAXED);
  if (cost->measured < kTrusted) ++cost->measured;
  cost->being_measured = false;
  if (now > longest_ns) longest_ns = now;
}

uint64_t longest_measured_ns() { return longest_ns; }

static void begin_anew(Cost* cost) {
  __atomic_store_n(&cost->ns, kUnmeasuredNs, __ATOMIC_RELAXED);
  cost->measured = 0;
  cost->being_measured = false;
}

void forget_costs() {
  for (Cost& cost : costs)
    if (cost.what != nullptr) begin_anew(&cost);
}

void forget_cost_of(const void* what) {
  for (Cost& cost : costs)
    if (cost.what == what) begin_anew(&cost);
}

}  // namespace fasthook

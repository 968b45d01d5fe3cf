// The expiry of a token in ticks of the processor's counter, which is read quicker than the clock.
#include "expiry.h"

#include "atoms.h"

namespace fastgate {

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

}  // namespace fastgate

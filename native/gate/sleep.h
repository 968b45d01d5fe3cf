// How an instance waits for its turn, and wakes who waits for it.
#pragma once

#include "atoms.h"
#include "gate_state.h"

namespace fastgate {

void sleep_exactly();
void wait_for_plan(const fg_gate* g, uint64_t until_ns, uint64_t look_ns = kForever);
void wait_for_peer(fg_gate* g, int peer, uint64_t blocked_since, uint64_t until_ns);
void wake_waiting(const fg_gate* g);
void kick_gently(fg_gate* g, uint64_t now);

}  // namespace fastgate

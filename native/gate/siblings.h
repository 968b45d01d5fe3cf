// The processes of one instance: they share its slot and its account, and take turns.
#pragma once

#include "atoms.h"
#include "rules.h"

namespace fastgate {

// Those of them that live, without this one.
inline uint64_t living_siblings(const fg_gate* g) {
  return g->plan.siblings & load(&g->map.board->alive) & ~(1ULL << g->map.index);
}

uint64_t wanting_since(const fg_gate* g);  // since when the instance has had work; kForever: it has none
bool go_on_from_latest(fg_gate* g);        // whether another has held the token since this one looked last
uint64_t others_turn_until(const fg_gate* g, const Choice& choice);
bool turn_is_over(const fg_gate* g, uint64_t now);
uint64_t turn_end(const fg_gate* g, uint64_t expiry_ns, uint64_t now);

}  // namespace fastgate

// Who may work when.
#pragma once

#include "atoms.h"
#include "gate_state.h"

namespace fastgate {

struct Choice {
  bool ok = false;
  bool loan = false;
  bool catch_up = false;     // in time that nobody needs
  bool awaits_pass = false;  // it could begin if an owner passed
  uint64_t due_ns = 0;       // since when this token could be had
  uint64_t expiry_ns = 0;
  uint64_t loan_end_ns = 0;
  uint32_t sm_offset = 0;
  uint64_t next_ns = kForever;  // when to look again
};

Choice choose(const fg_gate* g, uint64_t now, uint64_t burst);

}  // namespace fastgate

// MPS as this process has it: which processes it runs at once with, and how many SMs that leaves it.
#pragma once

#include <cstdint>

#include "api.h"

namespace standin::driver {

struct Mps {
  bool there = true;
  bool assumed = true;           // nobody was asked: one server serves all
  uint64_t group = 1;            // of processes on the timeline
  uint32_t sm_millipercent = 0;  // that the server lets it have at most; 0: it says nothing
};

const Mps& mps();
// Asks the control daemon, if MPS is real here; else one server is assumed to serve all. CUDA_SUCCESS, or why
// this process is not let in.
CUresult enter_mps(bool real);
void tell_mps_of_fault();           // once
bool mps_is_lost(uint64_t now_ns);  // the server that let this process in has ended

}  // namespace standin::driver

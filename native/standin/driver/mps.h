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
  uint64_t mem_bytes = 0;        // of the device's memory, likewise
};

const Mps& mps();
// Asks the control daemon, if MPS is real here; else one server is assumed to serve all. CUDA_SUCCESS, or why
// this process is not let in.
CUresult enter_mps(bool real);
void tell_mps_of_fault();              // once
CUresult end_of_mps(uint64_t now_ns);  // why this process is served no more; CUDA_SUCCESS: it is

}  // namespace standin::driver

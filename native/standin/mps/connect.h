// How a process of the stand-in's driver comes to MPS, and stays with it.
#pragma once

#include <cstdint>

namespace standin::mps {

// there: a control daemon serves this process. group: its server; processes of one server run at once.
// sm_percent_millis: milli-percent of the SMs that the server lets it have at most; 0: it says nothing.
struct Connection {
  bool there = false;
  uint64_t group = 0;
  int sm_percent_millis = 0;
};

// Asks the control daemon of CUDA_MPS_PIPE_DIRECTORY to be let in. 0, or a CUresult such as 807.
int connect(Connection* out);
// Tells the server that the work of this process has failed.
void report_fault();
// Whether the server that this process was let in by is gone. Looks at most once a millisecond.
bool is_lost(uint64_t now_ns);

}  // namespace standin::mps

// How a process of the stand-in's driver comes to MPS, and stays with it.
#pragma once

#include <cstdint>

namespace standin::mps {

// there: a control daemon serves this process. group: its server; processes of one server run at once.
// sm_percent_millis: milli-percent of the SMs that the server lets it have at most; 0: it says nothing.
// pinned_bytes: of the device's memory that the server lets it have at most; 0: it says nothing.
struct Connection {
  bool there = false;
  uint64_t group = 0;
  int sm_percent_millis = 0;
  uint64_t pinned_bytes = 0;
};

// Asks the control daemon of CUDA_MPS_PIPE_DIRECTORY to be let in. 0, or a CUresult such as 807. Waits for at
// most 5 s.
int connect(Connection* out);
// Tells the server that the work of this process has failed.
void report_fault();
// Why this process is served no more: 806 if its server is gone, 810 if it was told to go; 0: it is served.
// Looks at most once a millisecond.
int end_of_service(uint64_t now_ns);

}  // namespace standin::mps

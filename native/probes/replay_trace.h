// A kernel trace as text; src/fastgshare/sim/traces.py describes and reads the same.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace replay {

struct Kernel {
  std::string name;
  uint32_t blocks = 1, blocks_per_sm = 1;
  uint64_t full_ns = 0, gap_ns = 0;
  uint32_t bandwidth = 0;  // thousandths
};

enum class StepKind { kHost, kLaunch, kSync };

struct Step {
  StepKind kind = StepKind::kHost;
  uint64_t host_ns = 0;
  size_t kernel = 0;
};

struct Trace {
  std::string title;
  double spread = 0;
  std::vector<Kernel> kernels;
  std::vector<Step> steps;  // repeats written out
};

// Scales applied. False and one sentence in `error` if it is no trace.
bool read_trace(const std::string& path, Trace* trace, std::string* error);

}  // namespace replay

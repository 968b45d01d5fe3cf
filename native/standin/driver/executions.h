// Graphs that are ready to be launched.
#pragma once

#include <unordered_map>

#include "graphs.h"

struct CUgraphExec_st {
  CUgraph graph = nullptr;  // a copy of its own
  std::vector<CUgraphNode> order;
  std::unordered_map<CUgraphNode, CUgraphNode> of_original{};
  unsigned long long flags = 0;
  standin::driver::Point last{};  // of its last launch, which the next one comes after
  standin::driver::Hosts hosts{};
};

namespace standin::driver {

// The node that a node of the original graph has become; null: none.
CUgraphNode find_in(CUgraphExec execution, CUgraphNode original);

}  // namespace standin::driver

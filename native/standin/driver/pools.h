// Pools: memory that is taken and given back in the order of streams.
#pragma once

#include "graphs.h"
#include "memory.h"

struct CUmemPoolHandle_st {
  CUmemPoolProps props{};
  bool on_device = true;
  bool built_in = false;   // the default pools cannot be destroyed
  uint64_t threshold = 0;  // what it keeps when it could give back
  uint64_t used = 0, used_high = 0;
  uint64_t reserved = 0, reserved_high = 0;  // counted with the device
  int reuse[3] = {1, 1, 1};
  CUmemAccess_flags access = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
};

namespace standin::driver {

// Memory that a node of a graph allocates: it has its address for as long as the node lives.
struct GraphMemory {
  uint64_t base = 0;
  ~GraphMemory();
};

// Frees what its nodes have allocated and nobody has freed.
void free_left(const std::vector<CUgraphNode>& nodes);

CUresult reserve_for_graph(uint64_t size, std::shared_ptr<GraphMemory>* out);

}  // namespace standin::driver

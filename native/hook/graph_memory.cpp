// Memory that graphs allocate: counted from when they are instantiated, all of it, whether they run or not.
#include <sys/mman.h>

#include "allocations.h"

namespace fasthook {
namespace {

// Instantiated graphs, to the Allocation that stands for their nodes' together.
constinit Table graphs = {};

// The nodes of one graph.
class Nodes {
 public:
  explicit Nodes(CUgraph graph) {
    size_t count = 0;
    if (real.cuGraphGetNodes == nullptr || real.cuGraphGetNodes(graph, nullptr, &count) != CUDA_SUCCESS ||
        count == 0)
      return;
    bytes_ = count * sizeof(CUgraphNode);
    void* room = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED) return;
    nodes_ = static_cast<CUgraphNode*>(room);
    if (real.cuGraphGetNodes(graph, nodes_, &count) == CUDA_SUCCESS) count_ = count;
  }
  ~Nodes() {
    if (nodes_ != nullptr) munmap(nodes_, bytes_);
  }
  Nodes(const Nodes&) = delete;
  const CUgraphNode* begin() const { return nodes_; }
  const CUgraphNode* end() const { return nodes_ + count_; }

 private:
  CUgraphNode* nodes_ = nullptr;
  size_t bytes_ = 0, count_ = 0;
};

struct Demand {
  uint64_t bytes = 0;
  CUdevice device = 0;
};

void add_node(CUgraphNode node, Demand* demand) {
  CUDA_MEM_ALLOC_NODE_PARAMS allocates;
  if (real.cuGraphMemAllocNodeGetParams(node, &allocates) != CUDA_SUCCESS) return;
  const CUmemLocation& where = allocates.poolProps.location;
  if (where.type != CU_MEM_LOCATION_TYPE_DEVICE) return;
  demand->device = where.id;
  if (__builtin_add_overflow(demand->bytes, whole(allocates.bytesize), &demand->bytes)) demand->bytes = ~0ULL;
}

void add_graph(CUgraph graph, Demand* demand) {
  for (CUgraphNode node : Nodes(graph)) {
    CUgraphNodeType type;
    CUgraph child;
    if (real.cuGraphNodeGetType(node, &type) != CUDA_SUCCESS) continue;
    if (type == CU_GRAPH_NODE_TYPE_MEM_ALLOC)
      add_node(node, demand);
    else if (type == CU_GRAPH_NODE_TYPE_GRAPH &&
             real.cuGraphChildGraphNodeGetGraph(node, &child) == CUDA_SUCCESS)
      add_graph(child, demand);
  }
}

template <typename Call>
CUresult instantiate(CUgraphExec* out, CUgraph graph, Call&& call) {
  Inside inside;
  Treatment how = treatment(inside);
  if (how == Treatment::kRefuse) return CUDA_ERROR_NOT_PERMITTED;
  Demand demand;
  if (how == Treatment::kCount) add_graph(graph, &demand);
  if (demand.bytes == 0) return call();
  uint8_t pool = graph_pool_number(demand.device);
  Allocation allocation = {demand.bytes, Kind::kPooled, pool};
  return count(
      pool, demand.bytes, call, [&] { return graphs.put(key_of(*out), allocation.word()); },
      [=] { real.cuGraphExecDestroy(*out); });
}

}  // namespace

void forget_graph_memory() { graphs.forget(); }

}  // namespace fasthook

using namespace fasthook;

HOOKED CUresult cuGraphInstantiate(CUgraphExec* out, CUgraph graph, CUgraphNode* failed, char* log,
                                   size_t size) {
  return instantiate(out, graph, [=] { return real.cuGraphInstantiate(out, graph, failed, log, size); });
}

HOOKED CUresult cuGraphInstantiate_v2(CUgraphExec* out, CUgraph graph, CUgraphNode* failed, char* log,
                                      size_t size) {
  return instantiate(out, graph, [=] { return real.cuGraphInstantiate_v2(out, graph, failed, log, size); });
}

HOOKED CUresult cuGraphInstantiateWithFlags(CUgraphExec* out, CUgraph graph, unsigned long long flags) {
  return instantiate(out, graph, [=] { return real.cuGraphInstantiateWithFlags(out, graph, flags); });
}

HOOKED CUresult cuGraphInstantiateWithParams(CUgraphExec* out, CUgraph graph,
                                             CUDA_GRAPH_INSTANTIATE_PARAMS* parameters) {
  return instantiate(out, graph, [=] { return real.cuGraphInstantiateWithParams(out, graph, parameters); });
}

HOOKED CUresult cuGraphInstantiateWithParams_ptsz(CUgraphExec* out, CUgraph graph,
                                                  CUDA_GRAPH_INSTANTIATE_PARAMS* parameters) {
  return instantiate(out, graph,
                     [=] { return real.cuGraphInstantiateWithParams_ptsz(out, graph, parameters); });
}

HOOKED CUresult cuGraphExecDestroy(CUgraphExec graph) {
  return release(&graphs, key_of(graph), [=] {
    CUresult result = real.cuGraphExecDestroy(graph);
    if (result == CUDA_SUCCESS) forget_launch(graph);
    return result;
  });
}

// Graphs: nodes, what they depend on, and what has been made ready to launch.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "work.h"

struct CUuserObject_st {
  void* object = nullptr;
  CUhostFn destroy = nullptr;
  unsigned int references = 0;
};

namespace standin::driver {

struct Edge {
  CUgraphNode from;
  CUgraphEdgeData data;
};

}  // namespace standin::driver

struct CUgraphNode_st {
  CUgraph graph = nullptr;
  standin::driver::Operation work;
  std::vector<standin::driver::Edge> before;
  CUgraphNode original = nullptr;  // that it was cloned from
  bool enabled = true;             // in a graph that is ready to launch
};

struct CUgraph_st {
  std::vector<std::unique_ptr<CUgraphNode_st>> nodes;
  CUgraph original = nullptr;  // that it was cloned from
  bool is_child = false;       // a node owns it
  std::vector<std::pair<CUuserObject, unsigned int>> objects;
};

namespace standin::driver {

CUgraph new_graph();
CUgraph clone(CUgraph graph);
void end_graph(CUgraph graph);
bool has(CUgraph graph, CUgraphNode node);

CUresult add_node(CUgraph graph, const std::vector<Edge>& before, const Operation& work, CUgraphNode* out);
void end_node(CUgraphNode node);
// In an order in which each node comes after those that it depends on.
std::vector<CUgraphNode> in_order(CUgraph graph);
// What the API calls the allocation of a node that allocates is known as soon as the node is.
CUresult settle(Operation& work);
// Its parameters point to what it keeps of them, not to what it was copied from.
void point_to_own(CUgraphNode node);
// Ends a reference of a user's object; runs its destructor with the last one.
void release(CUuserObject object, unsigned int count);

}  // namespace standin::driver

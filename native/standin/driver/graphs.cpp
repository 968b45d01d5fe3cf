// Graphs as such: nodes, edges, copies, order.
#include "graphs.h"

#include <algorithm>
#include <unordered_map>

#include "handles.h"
#include "implementations.h"
#include "pools.h"

namespace standin::driver {
namespace {

void end_work(Operation& work) {
  if (work.child != nullptr) end_graph(work.child);
  work.child = nullptr;
}

CUgraphNode append(CUgraph graph, const Operation& work) {
  graph->nodes.push_back(std::make_unique<CUgraphNode_st>());
  CUgraphNode node = enlist(graph->nodes.back().get());
  node->graph = graph;
  node->work = work;
  point_to_own(node);
  return node;
}

void copy_node(CUgraphNode from, CUgraphNode to, const std::unordered_map<CUgraphNode, CUgraphNode>& copies) {
  for (const Edge& edge : from->before) to->before.push_back({copies.at(edge.from), edge.data});
  to->original = from;
  to->enabled = from->enabled;
  if (from->work.child != nullptr) {
    to->work.child = clone(from->work.child);
    to->work.child->is_child = true;
    to->work.params.graph.graph = to->work.child;
  }
}

}  // namespace

void point_to_own(CUgraphNode node) {
  Operation& work = node->work;
  if (work.params.type == CU_GRAPH_NODE_TYPE_BATCH_MEM_OP) work.params.memOp.paramArray = work.values.data();
}

CUgraph new_graph() { return enlist(new CUgraph_st); }

CUgraph clone(CUgraph graph) {
  CUgraph copy = new_graph();
  copy->original = graph;
  std::unordered_map<CUgraphNode, CUgraphNode> copies;
  for (const auto& node : graph->nodes) copies[node.get()] = append(copy, node->work);
  for (const auto& node : graph->nodes) copy_node(node.get(), copies[node.get()], copies);
  return copy;
}

void end_graph(CUgraph graph) {
  for (const auto& node : graph->nodes) {
    end_work(node->work);
    all_of<CUgraphNode_st>().erase(node.get());
  }
  auto objects = std::move(graph->objects);
  strike(graph);
  for (auto& [object, count] : objects) release(object, count);
}

bool has(CUgraph graph, CUgraphNode node) { return alive(node) && node->graph == graph; }

CUresult settle(Operation& work) {
  CUgraphNodeParams& p = work.params;
  if (p.type == CU_GRAPH_NODE_TYPE_KERNEL) own_arguments(work);
  if (p.type == CU_GRAPH_NODE_TYPE_MEM_ALLOC && work.memory == nullptr) {
    TRY(reserve_for_graph(p.alloc.bytesize, &work.memory));
    p.alloc.dptr = work.memory->base;
  }
  if (p.type == CU_GRAPH_NODE_TYPE_BATCH_MEM_OP) {
    work.values.assign(p.memOp.paramArray, p.memOp.paramArray + p.memOp.count);
  }
  if (p.type == CU_GRAPH_NODE_TYPE_GRAPH) {
    bool moved = p.graph.ownership == CU_GRAPH_CHILD_GRAPH_OWNERSHIP_MOVE;
    work.child = moved ? p.graph.graph : clone(p.graph.graph);
    work.child->is_child = true;
    p.graph.graph = work.child;
  }
  return CUDA_SUCCESS;
}

CUresult add_node(CUgraph graph, const std::vector<Edge>& before, const Operation& work, CUgraphNode* out) {
  for (const Edge& edge : before)
    if (!has(graph, edge.from)) return CUDA_ERROR_INVALID_VALUE;
  TRY(check(work));
  Operation settled = work;
  TRY(settle(settled));
  CUgraphNode node = append(graph, settled);
  node->before = before;
  *out = node;
  return CUDA_SUCCESS;
}

void end_node(CUgraphNode node) {
  CUgraph graph = node->graph;
  for (const auto& other : graph->nodes)
    std::erase_if(other->before, [&](const Edge& edge) { return edge.from == node; });
  end_work(node->work);
  all_of<CUgraphNode_st>().erase(node);
  std::erase_if(graph->nodes, [&](const auto& one) { return one.get() == node; });
}

std::vector<CUgraphNode> in_order(CUgraph graph) {
  std::unordered_map<CUgraphNode, size_t> missing;
  std::unordered_map<CUgraphNode, std::vector<CUgraphNode>> next;
  std::vector<CUgraphNode> order;
  for (const auto& node : graph->nodes) {
    missing[node.get()] = node->before.size();
    for (const Edge& edge : node->before) next[edge.from].push_back(node.get());
    if (node->before.empty()) order.push_back(node.get());
  }
  for (size_t i = 0; i < order.size(); ++i)
    for (CUgraphNode after : next[order[i]])
      if (--missing[after] == 0) order.push_back(after);
  return order;
}

CUresult perform_graph(CUstream stream, CUgraph graph) {
  for (CUgraphNode node : in_order(graph))
    if (node->enabled) TRY(perform(stream, node->work));
  return CUDA_SUCCESS;
}

void release(CUuserObject object, unsigned int count) {
  if (object->references > count) {
    object->references -= count;
    return;
  }
  CUhostFn destroy = object->destroy;
  void* user = object->object;
  strike(object);
  Unlocked unlocked;
  destroy(user);
}

CUresult graph_create(CUgraph* phGraph, unsigned int flags) {
  return flags == 0 ? set(phGraph, new_graph()) : CUDA_ERROR_INVALID_VALUE;
}

CUresult graph_destroy(CUgraph hGraph) {
  if (!alive(hGraph) || hGraph->is_child) return CUDA_ERROR_INVALID_VALUE;
  end_graph(hGraph);
  return CUDA_SUCCESS;
}

CUresult graph_clone(CUgraph* phGraphClone, CUgraph originalGraph) {
  if (phGraphClone == nullptr || !alive(originalGraph)) return CUDA_ERROR_INVALID_VALUE;
  return set(phGraphClone, clone(originalGraph));
}

CUresult graph_node_find_in_clone(CUgraphNode* phNode, CUgraphNode hOriginalNode, CUgraph hClonedGraph) {
  if (phNode == nullptr || !alive(hClonedGraph)) return CUDA_ERROR_INVALID_VALUE;
  for (const auto& node : hClonedGraph->nodes)
    if (node->original == hOriginalNode) return set(phNode, node.get());
  return CUDA_ERROR_INVALID_VALUE;
}

CUresult graph_destroy_node(CUgraphNode hNode) {
  if (!alive(hNode)) return CUDA_ERROR_INVALID_VALUE;
  bool memory = hNode->work.params.type == CU_GRAPH_NODE_TYPE_MEM_ALLOC ||
                hNode->work.params.type == CU_GRAPH_NODE_TYPE_MEM_FREE;
  if (memory) return CUDA_ERROR_NOT_SUPPORTED;
  end_node(hNode);
  return CUDA_SUCCESS;
}

CUresult user_object_create(CUuserObject* object_out, void* ptr, CUhostFn destroy,
                            unsigned int initialRefcount, unsigned int flags) {
  if (object_out == nullptr || destroy == nullptr || initialRefcount == 0) return CUDA_ERROR_INVALID_VALUE;
  if (flags != CU_USER_OBJECT_NO_DESTRUCTOR_SYNC) return CUDA_ERROR_INVALID_VALUE;
  *object_out = enlist(new CUuserObject_st{ptr, destroy, initialRefcount});
  return CUDA_SUCCESS;
}

CUresult user_object_retain(CUuserObject object, unsigned int count) {
  if (!alive(object) || count == 0) return CUDA_ERROR_INVALID_VALUE;
  object->references += count;
  return CUDA_SUCCESS;
}

CUresult user_object_release(CUuserObject object, unsigned int count) {
  if (!alive(object) || count == 0 || count > object->references) return CUDA_ERROR_INVALID_VALUE;
  release(object, count);
  return CUDA_SUCCESS;
}

CUresult graph_retain_user_object(CUgraph graph, CUuserObject object, unsigned int count,
                                  unsigned int flags) {
  if (!alive(graph) || !alive(object) || count == 0 || flags > CU_GRAPH_USER_OBJECT_MOVE)
    return CUDA_ERROR_INVALID_VALUE;
  if (flags != CU_GRAPH_USER_OBJECT_MOVE) object->references += count;
  graph->objects.push_back({object, count});
  return CUDA_SUCCESS;
}

CUresult graph_release_user_object(CUgraph graph, CUuserObject object, unsigned int count) {
  if (!alive(graph) || !alive(object) || count == 0) return CUDA_ERROR_INVALID_VALUE;
  for (auto& [held, times] : graph->objects) {
    if (held != object || times < count) continue;
    times -= count;
    std::erase_if(graph->objects, [](const auto& entry) { return entry.second == 0; });
    release(object, count);
    return CUDA_SUCCESS;
  }
  return CUDA_ERROR_INVALID_VALUE;
}

}  // namespace standin::driver

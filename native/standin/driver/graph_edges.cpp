// What of a graph can be listed: nodes, edges, types. A list is asked for its length first, with a null
// buffer.
#include <algorithm>

#include "graphs.h"
#include "handles.h"
#include "implementations.h"

namespace standin::driver {
namespace {

struct Connection {
  CUgraphNode from, to;
  CUgraphEdgeData data;
};

std::vector<Connection> connections(CUgraph graph) {
  std::vector<Connection> all;
  for (const auto& node : graph->nodes)
    for (const Edge& edge : node->before) all.push_back({edge.from, node.get(), edge.data});
  return all;
}

bool ordinary(const CUgraphEdgeData& data) {
  return data.type == 0 && data.from_port == 0 && data.to_port == 0;
}

// Fills as many as there is room for; `count` becomes how many there are, or how many were written if less
// fit.
template <typename T, typename Write>
CUresult list(const std::vector<T>& items, bool buffer, size_t* count, Write write) {
  if (count == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!buffer) return set(count, items.size());
  size_t fit = std::min(*count, items.size());
  for (size_t i = 0; i < fit; ++i) write(i, items[i]);
  // What was not written is nulled, as the API says.
  for (size_t i = fit; i < *count; ++i) write(i, T{});
  return set(count, fit);
}

CUresult list_nodes(const std::vector<CUgraphNode>& nodes, CUgraphNode* out, size_t* count) {
  return list(nodes, out != nullptr, count, [&](size_t i, CUgraphNode node) { out[i] = node; });
}

// Without a place for their data, edges that have some would be lost.
bool lossy(const std::vector<Connection>& edges, const CUgraphEdgeData* data, bool buffer) {
  return buffer && data == nullptr &&
         std::any_of(edges.begin(), edges.end(), [](const Connection& c) { return !ordinary(c.data); });
}

CUresult list_connections(const std::vector<Connection>& edges, CUgraphNode* from, CUgraphNode* to,
                          CUgraphEdgeData* data, size_t* count) {
  bool buffer = from != nullptr || to != nullptr;
  if (lossy(edges, data, buffer)) return CUDA_ERROR_LOSSY_QUERY;
  return list(edges, buffer, count, [&](size_t i, const Connection& edge) {
    if (from != nullptr) from[i] = edge.from;
    if (to != nullptr) to[i] = edge.to;
    if (data != nullptr) data[i] = edge.data;
  });
}

CUresult connect(CUgraph graph, CUgraphNode from, CUgraphNode to, const CUgraphEdgeData& data) {
  if (!has(graph, from) || !has(graph, to) || from == to) return CUDA_ERROR_INVALID_VALUE;
  for (const Edge& edge : to->before)
    if (edge.from == from) return CUDA_ERROR_INVALID_VALUE;
  to->before.push_back({from, data});
  return CUDA_SUCCESS;
}

CUresult disconnect(CUgraph graph, CUgraphNode from, CUgraphNode to) {
  if (!has(graph, from) || !has(graph, to)) return CUDA_ERROR_INVALID_VALUE;
  size_t gone = std::erase_if(to->before, [&](const Edge& edge) { return edge.from == from; });
  return gone > 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

}  // namespace

CUresult graph_node_get_type(CUgraphNode hNode, CUgraphNodeType* type) {
  return alive(hNode) ? set(type, hNode->work.params.type) : CUDA_ERROR_INVALID_VALUE;
}

CUresult graph_get_nodes(CUgraph hGraph, CUgraphNode* nodes, size_t* numNodes) {
  if (!alive(hGraph)) return CUDA_ERROR_INVALID_VALUE;
  std::vector<CUgraphNode> all;
  for (const auto& node : hGraph->nodes) all.push_back(node.get());
  return list_nodes(all, nodes, numNodes);
}

CUresult graph_get_root_nodes(CUgraph hGraph, CUgraphNode* rootNodes, size_t* numRootNodes) {
  if (!alive(hGraph)) return CUDA_ERROR_INVALID_VALUE;
  std::vector<CUgraphNode> roots;
  for (const auto& node : hGraph->nodes)
    if (node->before.empty()) roots.push_back(node.get());
  return list_nodes(roots, rootNodes, numRootNodes);
}

CUresult graph_get_edges(CUgraph hGraph, CUgraphNode* from, CUgraphNode* to, CUgraphEdgeData* edgeData,
                         size_t* numEdges) {
  if (!alive(hGraph) || (from == nullptr) != (to == nullptr)) return CUDA_ERROR_INVALID_VALUE;
  return list_connections(connections(hGraph), from, to, edgeData, numEdges);
}

CUresult graph_get_edges_v1(CUgraph hGraph, CUgraphNode* from, CUgraphNode* to, size_t* numEdges) {
  return graph_get_edges(hGraph, from, to, nullptr, numEdges);
}

CUresult graph_node_get_dependencies(CUgraphNode hNode, CUgraphNode* dependencies, CUgraphEdgeData* edgeData,
                                     size_t* numDependencies) {
  if (!alive(hNode)) return CUDA_ERROR_INVALID_VALUE;
  std::vector<Connection> edges;
  for (const Edge& edge : hNode->before) edges.push_back({edge.from, hNode, edge.data});
  return list_connections(edges, dependencies, nullptr, edgeData, numDependencies);
}

CUresult graph_node_get_dependencies_v1(CUgraphNode hNode, CUgraphNode* dependencies,
                                        size_t* numDependencies) {
  return graph_node_get_dependencies(hNode, dependencies, nullptr, numDependencies);
}

CUresult graph_node_get_dependent_nodes(CUgraphNode hNode, CUgraphNode* dependentNodes,
                                        CUgraphEdgeData* edgeData, size_t* numDependentNodes) {
  if (!alive(hNode)) return CUDA_ERROR_INVALID_VALUE;
  std::vector<Connection> edges = connections(hNode->graph);
  std::erase_if(edges, [&](const Connection& edge) { return edge.from != hNode; });
  return list_connections(edges, nullptr, dependentNodes, edgeData, numDependentNodes);
}

CUresult graph_node_get_dependent_nodes_v1(CUgraphNode hNode, CUgraphNode* dependentNodes,
                                           size_t* numDependentNodes) {
  return graph_node_get_dependent_nodes(hNode, dependentNodes, nullptr, numDependentNodes);
}

CUresult graph_add_dependencies(CUgraph hGraph, const CUgraphNode* from, const CUgraphNode* to,
                                const CUgraphEdgeData* edgeData, size_t numDependencies) {
  if (!alive(hGraph)) return CUDA_ERROR_INVALID_VALUE;
  if (numDependencies > 0 && (from == nullptr || to == nullptr)) return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < numDependencies; ++i)
    TRY(connect(hGraph, from[i], to[i], edgeData != nullptr ? edgeData[i] : CUgraphEdgeData{}));
  return CUDA_SUCCESS;
}

CUresult graph_add_dependencies_v1(CUgraph hGraph, const CUgraphNode* from, const CUgraphNode* to,
                                   size_t numDependencies) {
  return graph_add_dependencies(hGraph, from, to, nullptr, numDependencies);
}

CUresult graph_remove_dependencies(CUgraph hGraph, const CUgraphNode* from, const CUgraphNode* to,
                                   const CUgraphEdgeData*, size_t numDependencies) {
  if (!alive(hGraph)) return CUDA_ERROR_INVALID_VALUE;
  if (numDependencies > 0 && (from == nullptr || to == nullptr)) return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < numDependencies; ++i) TRY(disconnect(hGraph, from[i], to[i]));
  return CUDA_SUCCESS;
}

CUresult graph_remove_dependencies_v1(CUgraph hGraph, const CUgraphNode* from, const CUgraphNode* to,
                                      size_t numDependencies) {
  return graph_remove_dependencies(hGraph, from, to, nullptr, numDependencies);
}

}  // namespace standin::driver

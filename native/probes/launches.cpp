#include "launches.h"

namespace probe {
namespace {

template <auto Member>
CUresult plain(Launcher& launcher, CUstream stream, uint64_t ns) {
  void* parameters[] = {&ns};
  return (cu.*Member)(launcher.spin, 1, 1, 1, 1, 1, 1, 0, stream, parameters, nullptr);
}

template <auto Member>
CUresult configured(Launcher& launcher, CUstream stream, uint64_t ns) {
  void* parameters[] = {&ns};
  CUlaunchConfig config{};
  config.gridDimX = config.gridDimY = config.gridDimZ = 1;
  config.blockDimX = config.blockDimY = config.blockDimZ = 1;
  config.hStream = stream;
  return (cu.*Member)(&config, launcher.spin, parameters, nullptr);
}

template <auto Member>
CUresult cooperative(Launcher& launcher, CUstream stream, uint64_t ns) {
  void* parameters[] = {&ns};
  return (cu.*Member)(launcher.spin, 1, 1, 1, 1, 1, 1, 0, stream, parameters);
}

CUresult on_several_devices(Launcher& launcher, CUstream stream, uint64_t ns) {
  void* parameters[] = {&ns};
  CUDA_LAUNCH_PARAMS launch{};
  launch.function = launcher.spin;
  launch.gridDimX = launch.gridDimY = launch.gridDimZ = 1;
  launch.blockDimX = launch.blockDimY = launch.blockDimZ = 1;
  launch.hStream = stream;
  launch.kernelParams = parameters;
  return cu.cuLaunchCooperativeKernelMultiDevice(&launch, 1, 0);
}

template <auto Member>
CUresult graph(Launcher& launcher, CUstream stream, uint64_t ns) {
  return (cu.*Member)(launcher.graph_of(ns), stream);
}

CUresult prepare_legacy(Launcher& launcher, uint64_t ns) {
  CUresult result = cu.cuFuncSetBlockShape(launcher.spin, 1, 1, 1);
  if (result == CUDA_SUCCESS) result = cu.cuParamSetSize(launcher.spin, sizeof ns);
  if (result == CUDA_SUCCESS) result = cu.cuParamSetv(launcher.spin, 0, &ns, sizeof ns);
  return result;
}

CUresult legacy(Launcher& launcher, CUstream, uint64_t ns) {
  CUresult result = prepare_legacy(launcher, ns);
  return result == CUDA_SUCCESS ? cu.cuLaunch(launcher.spin) : result;
}

CUresult legacy_grid(Launcher& launcher, CUstream, uint64_t ns) {
  CUresult result = prepare_legacy(launcher, ns);
  return result == CUDA_SUCCESS ? cu.cuLaunchGrid(launcher.spin, 1, 1) : result;
}

CUresult legacy_async(Launcher& launcher, CUstream stream, uint64_t ns) {
  CUresult result = prepare_legacy(launcher, ns);
  return result == CUDA_SUCCESS ? cu.cuLaunchGridAsync(launcher.spin, 1, 1, stream) : result;
}

template <auto... Members>
bool has() {
  return ((cu.*Members != nullptr) && ...);
}

constexpr auto kLegacy = &has<&Calls::cuFuncSetBlockShape, &Calls::cuParamSetSize, &Calls::cuParamSetv>;

template <auto Member>
bool has_legacy() {
  return kLegacy() && cu.*Member != nullptr;
}

template <auto Member>
bool has_graph() {
  return has<Member, &Calls::cuGraphCreate, &Calls::cuGraphAddKernelNode_v2,
             &Calls::cuGraphInstantiateWithFlags>();
}

#define PLAIN(call, kind) {#call, has<&Calls::call>, kind<&Calls::call>}

}  // namespace

const std::vector<Launch>& all_launches() {
  static const std::vector<Launch> launches = {
      PLAIN(cuLaunchKernel, plain),
      PLAIN(cuLaunchKernel_ptsz, plain),
      PLAIN(cuLaunchKernelEx, configured),
      PLAIN(cuLaunchKernelEx_ptsz, configured),
      PLAIN(cuLaunchCooperativeKernel, cooperative),
      PLAIN(cuLaunchCooperativeKernel_ptsz, cooperative),
      {"cuGraphLaunch", has_graph<&Calls::cuGraphLaunch>, graph<&Calls::cuGraphLaunch>},
      {"cuGraphLaunch_ptsz", has_graph<&Calls::cuGraphLaunch_ptsz>, graph<&Calls::cuGraphLaunch_ptsz>},
      {"cuLaunchCooperativeKernelMultiDevice", has<&Calls::cuLaunchCooperativeKernelMultiDevice>,
       on_several_devices},
      {"cuLaunch", has_legacy<&Calls::cuLaunch>, legacy, false},
      {"cuLaunchGrid", has_legacy<&Calls::cuLaunchGrid>, legacy_grid, false},
      {"cuLaunchGridAsync", has_legacy<&Calls::cuLaunchGridAsync>, legacy_async},
  };
  return launches;
}

const Launch* launch_named(const std::string& name) {
  for (const Launch& launch : all_launches()) {
    if (launch.name == name) return &launch;
  }
  return nullptr;
}

CUgraphExec Launcher::graph_of(uint64_t ns) {
  CUgraphExec& exec = graphs_[ns];
  if (exec != nullptr) return exec;
  CUgraph graph;
  CUgraphNode last = nullptr;
  CHECK_CU(cuGraphCreate, &graph, 0);
  uint64_t each = ns / static_cast<uint64_t>(graph_kernels_);
  for (int i = 0; i < graph_kernels_; ++i) {
    void* parameters[] = {&each};
    CUDA_KERNEL_NODE_PARAMS node{};
    node.func = spin;
    node.gridDimX = node.gridDimY = node.gridDimZ = 1;
    node.blockDimX = node.blockDimY = node.blockDimZ = 1;
    node.kernelParams = parameters;
    CUgraphNode added;
    CHECK_CU(cuGraphAddKernelNode_v2, &added, graph, last ? &last : nullptr, last ? 1 : 0, &node);
    last = added;
  }
  CHECK_CU(cuGraphInstantiateWithFlags, &exec, graph, 0);
  CHECK_CU(cuGraphDestroy, graph);
  return exec;
}

}  // namespace probe

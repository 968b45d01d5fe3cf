// Work: what a stream is given and what a node of a graph holds are the same thing, described as
// cuGraphAddNode takes it. A stream that is being captured makes a node of it; any other stream does it.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <vector>

#include "streams.h"

namespace standin::driver {

// A kernel's arguments, copied.
struct Arguments {
  std::vector<std::byte> bytes;
  std::vector<void*> pointers;
};

struct GraphMemory;

using Attributes = std::map<int, CUlaunchAttributeValue>;

struct Operation {
  CUgraphNodeParams params{};
  std::shared_ptr<Arguments> arguments;          // a kernel's; none while they are still the caller's
  std::vector<CUstreamBatchMemOpParams> values;  // of a batch of memory operations
  CUgraph child = nullptr;                       // of a node that is a graph: its own
  Attributes attributes;                         // of a kernel
  std::shared_ptr<GraphMemory> memory;           // of a node that allocates
};

Operation operation(CUgraphNodeType type);

// Does it in the stream or adds it to the stream's capture.
CUresult issue(CUstream stream, Operation& work);
// Does it.
CUresult perform(CUstream stream, const Operation& work);

// By kind, each in the file that its calls are in.
CUresult perform_kernel(CUstream stream, const Operation& work);
CUresult perform_copy(CUstream stream, const CUDA_MEMCPY3D& copy);
CUresult perform_fill(CUstream stream, const CUDA_MEMSET_NODE_PARAMS_v2& fill);
CUresult perform_host(CUstream stream, const CUDA_HOST_NODE_PARAMS_v2& host);
CUresult perform_record(CUstream stream, CUevent event);
CUresult perform_wait(CUstream stream, CUevent event);
CUresult perform_values(CUstream stream, const Operation& work);
CUresult perform_alloc(CUstream stream, const CUDA_MEM_ALLOC_NODE_PARAMS_v2& alloc);
CUresult perform_free(CUstream stream, CUdeviceptr address);
CUresult perform_graph(CUstream stream, CUgraph graph);

// Puts a function on the host into the stream.
void submit_host(CUstream stream, std::function<void()> run, std::function<bool()> until);

// Whether what the operation says can be done: CUDA_SUCCESS, or what the call that was given it answers.
CUresult check(const Operation& work);
CUresult check_kernel(const Operation& work);
// A kernel keeps a copy of its arguments.
void own_arguments(Operation& work);

}  // namespace standin::driver

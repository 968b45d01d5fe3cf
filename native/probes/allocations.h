// Every call that takes device memory, behind one interface.
#pragma once

#include <string>
#include <vector>

#include "device.h"

namespace probe {

// One block of memory, and what is needed to give it back.
struct Block {
  CUdeviceptr address = 0;
  CUarray array = nullptr;
  CUmipmappedArray mipmap = nullptr;
  CUmemGenericAllocationHandle handle = 0;
  CUgraph graph = nullptr;
  CUgraphExec exec = nullptr;
};

// What allocations need beside the device.
struct Memory {
  explicit Memory(const Device& device);
  CUdevice device;
  CUstream stream = nullptr;
  CUmemoryPool default_pool = nullptr, own_pool = nullptr;
};

struct Allocation {
  const char* name;
  bool (*available)();
  CUresult (*take)(Memory&, size_t bytes, Block*);
  void (*give_back)(Memory&, const Block&);
};
const std::vector<Allocation>& all_allocations();
const Allocation* allocation_named(const std::string& name);

}  // namespace probe

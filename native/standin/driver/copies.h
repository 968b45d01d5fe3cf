// Copies and fills, however they were asked for, as one kind each.
#pragma once

#include "work.h"

struct CUarray_st {
  CUDA_ARRAY3D_DESCRIPTOR descriptor{};
  uint64_t base = 0;
  size_t element_bytes = 0;
  CUmipmappedArray owner = nullptr;  // of which it is a level
};

struct CUmipmappedArray_st {
  CUDA_ARRAY3D_DESCRIPTOR descriptor{};
  std::vector<CUarray> levels;
  uint64_t base = 0;
};

namespace standin::driver {

struct Side {
  CUmemorytype type = CU_MEMORYTYPE_UNIFIED;
  uint64_t address = 0;
  CUarray array = nullptr;
  size_t x = 0;  // bytes
};

CUDA_MEMCPY3D line(const Side& from, const Side& to, size_t bytes);
CUresult check_copy(const CUDA_MEMCPY3D& copy);
CUresult check_fill(const CUDA_MEMSET_NODE_PARAMS_v2& fill);

// In the stream; `wait`: and returns when it has ended.
CUresult copy_in(CUstream handle, const CUDA_MEMCPY3D& copy, bool wait);
CUresult fill_in(CUstream handle, const CUDA_MEMSET_NODE_PARAMS_v2& fill, bool wait);

size_t height_of(const CUarray_st* array);
size_t pitch_of(const CUarray_st* array);
// Whether all of these bytes are memory that the device can reach.
bool reachable(uint64_t address, size_t bytes);

}  // namespace standin::driver

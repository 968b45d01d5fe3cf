// How the runtime's descriptions of a copy are said to the driver.
#pragma once

#include "driver.h"

namespace standin_runtime {

cudaError_t describe(const cudaMemcpy3DParms& copy, CUDA_MEMCPY3D* out);

// arrays.cpp: bytes of one element.
cudaError_t element_bytes(cudaArray_const_t array, size_t* out);

}  // namespace standin_runtime

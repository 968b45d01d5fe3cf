// The driver API as cuda.h declares it, every version of every function under the name that it is exported
// by.
#pragma once

#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>
#include <cudaProfiler.h>

#define STANDIN_EXPORT extern "C" __attribute__((visibility("default")))

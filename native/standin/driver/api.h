// The driver API as cuda.h declares it, every version of every function under the name that it is exported
// by.
#pragma once

#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>

// Their header is not in the wheels.
extern "C" {
CUresult cuProfilerInitialize(const char* config_file, const char* output_file, int output_mode);
CUresult cuProfilerStart();
CUresult cuProfilerStop();
}

#define STANDIN_EXPORT extern "C" __attribute__((visibility("default")))

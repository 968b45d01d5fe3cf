// What the stand-in's libcuda offers beyond the driver API: bodies for kernels, and its device.
//
// The stand-in is a test double, not a GPU: a kernel takes time on a timeline and does nothing, unless a body
// of ordinary host code is registered for it.
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct st_device;

typedef struct standin_launch {
  const char* kernel;     // its name, as in the image
  uint32_t grid[3];       // blocks
  uint32_t block[3];      // threads of a block
  uint32_t shared_bytes;  // dynamic shared memory of a block
  uint32_t params;        // how many are known; 0 also where the image does not say
  void** param;           // a pointer to each, as the caller of cuLaunchKernel gave them; may be null
} standin_launch;

// Runs `body` at every launch of a kernel of this name, in the thread that submits it: what it does to memory
// is done before cuLaunchKernel returns, while the kernel ends later, on the timeline. It must not call the
// driver. A null body takes it back. Returns 0, or -1 for a null name.
int standin_register_body(const char* kernel, void (*body)(const standin_launch*));

// The device of this process once cuInit has succeeded; null before.
struct st_device* standin_device(void);

#ifdef __cplusplus
}
#endif

// Pools: memory that is freed into one is kept by the driver and still takes room on the device.
//
// So it stays counted until the pool is seen to have let go of it, or gives it to the next allocation.
#pragma once

#include <cstdint>

#include "hook.h"

namespace fasthook {

constexpr int kPools = 256;

// Pools have numbers from 1. 0: one too many; what is freed into it counts as free at once.
uint8_t pool_number(CUmemoryPool pool);
uint8_t current_pool_number();               // the current device's, for allocations that name none
uint8_t graph_pool_number(CUdevice device);  // where graphs have their memory
bool is_on_host(uint8_t pool);               // nothing in it counts

// As charge() and give_back(), for what is allocated from a pool and freed into it.
bool charge_to_pool(uint8_t pool, uint64_t bytes);
void give_back_to_pool(uint8_t pool, uint64_t bytes);

// Gives back what pools have let go of meanwhile. `trim`: and has them let go of all they can.
void settle_pools(bool trim);
void forget_pools();

}  // namespace fasthook

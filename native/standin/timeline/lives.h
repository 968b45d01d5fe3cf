// Which processes live.
#pragma once

#include <cstdint>

namespace standin {

// When a process was started, in ticks since boot; 0: not known, or it has ended.
uint64_t birth_of(uint64_t pid);
// Whether a process of our pid namespace has ended; `born` (0: not known) tells it from one that has its pid
// now.
bool has_ended(uint64_t pid, uint64_t born);
uint64_t pid_namespace();  // of this process

}  // namespace standin

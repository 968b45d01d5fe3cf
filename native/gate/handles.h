// Descriptors in a program that is not ours: it may close them, and open other files under their numbers.
#pragma once

#include <stdint.h>

namespace fastgate {

struct Handle {
  int fd = -1;
  uint64_t device = 0, file = 0;  // what is behind the number, as long as it is ours
};

Handle handle_of(int fd);
bool is_ours(const Handle& handle);
void let_go(Handle* handle);  // closes it, if it is still ours

}  // namespace fastgate

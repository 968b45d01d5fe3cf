// Limits of the device memory that a process may have, as MPS takes them: "512M", "2G".
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

namespace standin::mps {

// 0: it is none.
inline uint64_t bytes_of(const std::string& limit) {
  size_t digits = limit.find_first_not_of("0123456789");
  if (digits == 0 || digits > 9 || digits + 1 != limit.size()) return 0;
  int shift = limit[digits] == 'G' ? 30 : limit[digits] == 'M' ? 20 : 64;
  return shift < 64 ? std::stoull(limit) << shift : 0;
}

// Of device 0, in a list such as CUDA_MPS_PINNED_DEVICE_MEM_LIMIT has, "0=2G,1=512M"; "": it says nothing.
inline std::string first_limit(const std::string& list) {
  for (size_t at = 0; at < list.size();) {
    size_t end = std::min(list.find(',', at), list.size());
    if (list.compare(at, 2, "0=") == 0) return list.substr(at + 2, end - at - 2);
    at = end + 1;
  }
  return "";
}

}  // namespace standin::mps

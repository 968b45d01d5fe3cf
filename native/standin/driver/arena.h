// An arena: addresses handed out and taken back, best fit, in logarithmic time.
#pragma once

#include <cstdint>
#include <map>
#include <set>

namespace standin::driver {

class Arena {
 public:
  // Memory behind addresses that do not all have pages yet; false: there is no room for it in the process.
  bool open(uint64_t size, bool low);
  uint64_t take(uint64_t size);  // a multiple of 512; 0: no gap is as large
  void give(uint64_t address, uint64_t size);
  bool holds(uint64_t address) const { return address - base_ < size_; }
  uint64_t base() const { return base_; }
  int file() const { return file_; }

 private:
  void add_gap(uint64_t address, uint64_t size);
  void drop_gap(std::map<uint64_t, uint64_t>::iterator gap);

  uint64_t base_ = 0, size_ = 0;
  int file_ = -1;
  std::map<uint64_t, uint64_t> gaps_;                // by address
  std::set<std::pair<uint64_t, uint64_t>> by_size_;  // size, address
};

}  // namespace standin::driver

// Where the device lives: in the file that its processes share, or in memory of this process alone.
#pragma once

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "settings.h"
#include "timeline/timeline.h"

namespace standin {

// Memory of st_size() bytes, zeroed when new. Null: the file cannot be had, or is none of ours (errno says).
inline void* map_place(const std::string& state, int* fd) {
  *fd = -1;
  if (state.empty()) {
    void* own = mmap(nullptr, st_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return own == MAP_FAILED ? nullptr : own;
  }
  *fd = open(state.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (*fd < 0 || flock(*fd, LOCK_EX) != 0) return nullptr;
  struct stat was;
  off_t size = static_cast<off_t>(st_size());
  if (fstat(*fd, &was) != 0 || (was.st_size < size && ftruncate(*fd, size) != 0)) return nullptr;
  void* shared = mmap(nullptr, st_size(), PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
  return shared == MAP_FAILED ? nullptr : shared;
}

// The device of these settings: made by whoever comes first, of its size from then on; null if it cannot be.
inline st_device* open_device(const Settings& settings) {
  int fd = -1;
  void* memory = map_place(settings.state, &fd);
  st_config config = {};
  config.sms = settings.sms;
  config.mem_bytes = settings.mem_bytes;
  st_device* device = memory != nullptr ? st_create(memory, &config) : nullptr;
  if (fd >= 0) {
    flock(fd, LOCK_UN);  // the mapping keeps the open file, and with it the lock, beyond close
    close(fd);
  }
  return device;
}

}  // namespace standin

// standin-fault STATE_FILE xid=N [lose]: makes a stand-in device report an error, as a GPU's driver does, or
// be gone. For tests, and for people who want to see what happens then.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "../timeline/timeline.h"

namespace {

uint64_t now_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

st_device* open_device(const char* path) {
  int fd = open(path, O_RDWR | O_CLOEXEC);
  struct stat found;
  if (fd < 0 || fstat(fd, &found) != 0 || static_cast<size_t>(found.st_size) < st_size()) return nullptr;
  void* at = mmap(nullptr, st_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return at != MAP_FAILED ? st_attach(at) : nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  unsigned int xid = 0;
  char more = 0;
  bool loses = argc == 4 && strcmp(argv[3], "lose") == 0;
  bool said = (argc == 3 || loses) && sscanf(argv[2], "xid=%u%c", &xid, &more) == 1 && xid > 0 && xid < 1000;
  if (!said) {
    fprintf(stderr, "usage: standin-fault STATE_FILE xid=N [lose], with N from 1 to 999\n");
    return 2;
  }
  st_device* device = open_device(argv[1]);
  if (device == nullptr) {
    fprintf(stderr, "standin-fault: %s: not the file of a stand-in device of this version\n", argv[1]);
    return 1;
  }
  loses ? st_lose(device, xid, now_ns()) : st_log_xid(device, xid, 0, now_ns());
  return 0;
}

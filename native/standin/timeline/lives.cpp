// What /proc says of processes.
#include "lives.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

namespace standin {
namespace {

struct Life {
  bool known;
  bool zombie;
  uint64_t born;
};

// The fields of /proc/PID/stat after the name, which may hold anything: the last parenthesis ends it.
Life read_life(uint64_t pid) {
  char path[40], text[1024];
  snprintf(path, sizeof(path), "/proc/%llu/stat", static_cast<unsigned long long>(pid));
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return {};
  ssize_t size = read(fd, text, sizeof(text) - 1);
  close(fd);
  text[size > 0 ? size : 0] = 0;
  char* at = strrchr(text, ')');
  if (at == nullptr) return {};
  at += 2;
  char state = *at;
  uint64_t threads = 0, born = 0;
  for (int field = 3; field <= 22 && at != nullptr; ++field) {
    if (field == 20) threads = strtoull(at, nullptr, 10);
    if (field == 22) born = strtoull(at, nullptr, 10);
    at = strchr(at, ' ');
    if (at != nullptr) ++at;
  }
  // A process whose first thread has ended looks like a zombie, but its other threads go on.
  return {true, (state == 'Z' && threads <= 1) || state == 'X', born};
}

}  // namespace

uint64_t birth_of(uint64_t pid) { return read_life(pid).born; }

bool has_ended(uint64_t pid, uint64_t born) {
  if (kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH) return true;
  Life life = read_life(pid);
  return life.known && (life.zombie || (born != 0 && life.born != born));
}

uint64_t pid_namespace() {
  struct stat what;
  return stat("/proc/self/ns/pid", &what) == 0 ? what.st_ino : 0;
}

}  // namespace standin

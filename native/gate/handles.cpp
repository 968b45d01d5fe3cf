// Descriptors in a program that is not ours: it may close them, and open other files under their numbers.
#include "handles.h"

#include <sys/stat.h>
#include <unistd.h>

namespace fastgate {

Handle handle_of(int fd) {
  struct stat status;
  if (fd < 0 || fstat(fd, &status) != 0) return {};
  return {fd, static_cast<uint64_t>(status.st_dev), static_cast<uint64_t>(status.st_ino)};
}

bool is_ours(const Handle& handle) {
  Handle now = handle_of(handle.fd);
  return now.fd >= 0 && now.device == handle.device && now.file == handle.file;
}

void let_go(Handle* handle) {
  if (is_ours(*handle)) close(handle->fd);
  *handle = Handle();
}

}  // namespace fastgate

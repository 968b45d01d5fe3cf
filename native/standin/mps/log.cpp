#include "log.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdio>

#include "protocol.h"

namespace standin::mps {
namespace {

constexpr size_t kLongestLine = 500;

}  // namespace

bool Log::open(const std::string& path, const char* who) {
  fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  who_ = who;
  say(getpid(), kWhat);
  return fd_ >= 0;
}

void Log::say(pid_t pid, const std::string& text) const {
  if (fd_ < 0) return;
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  tm day;
  localtime_r(&now.tv_sec, &day);
  char when[64];
  size_t size = strftime(when, sizeof(when), "[%F %T", &day);
  snprintf(when + size, sizeof(when) - size, ".%03ld %s %5d] ", now.tv_nsec / 1'000'000, who_, pid);
  std::string line = when + text.substr(0, kLongestLine);
  std::replace_if(line.begin(), line.end(), [](unsigned char c) { return !isprint(c); }, '?');
  line += '\n';
  if (write(fd_, line.data(), line.size()) < 0) return;  // a full disk ends no service
}

}  // namespace standin::mps

// A log file of MPS: when, who, what.
#pragma once

#include <sys/types.h>

#include <string>

namespace standin::mps {

class Log {
 public:
  // who: as each line names its writer, besides the process. False: the file cannot be written, and what is
  // said is lost.
  bool open(const std::string& path, const char* who);
  void say(pid_t pid, const std::string& text) const;

 private:
  int fd_ = -1;
  const char* who_ = "";
};

struct Logs {
  Log control, server;
};

}  // namespace standin::mps

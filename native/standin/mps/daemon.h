// The control daemon: whoever connects is a process that wants to be served, or somebody with a command.
#pragma once

#include <string>
#include <vector>

#include "commands.h"
#include "log.h"
#include "servers.h"

namespace standin::mps {

class Daemon {
 public:
  Daemon(int listener, const Logs& logs);
  // Until it has been told to quit and nobody is served, or until SIGTERM. Its servers end with it.
  void run();

 private:
  bool is_over() const;
  void accept_one();
  void receive(int connection);
  std::string answer(const std::string& command);
  void drop(int connection);
  void drop_useless();
  void drop_an_idle_one();

  int listener_;
  const Logs& logs_;
  Servers servers_;
  Ending ending_;
  double asked_s_ = 0;
  std::vector<int> connections_;
};

}  // namespace standin::mps

// The servers of a control daemon, and the processes that each of them serves.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

namespace standin::mps {

constexpr int kMostProcesses = 60;  // of one server, as on GPUs since Volta

struct Process {
  int fd;
  pid_t pid;
};

struct Server {
  pid_t pid = 0;
  uid_t uid = 0;
  int life = -1;  // closed, it ends
  bool fault = false, leaving = false;
  double percentage = 100;
  std::vector<Process> processes;

  const char* status() const { return fault ? "FAULT" : "ACTIVE"; }
};

class Servers {
 public:
  double default_percentage = 100;
  std::map<int, std::string> pinned_limits;  // by device: stored, and shown

  // The server of a user, started if there is none; null: it cannot be.
  Server* of(uid_t uid);
  Server* find(pid_t pid);
  const std::map<pid_t, Server>& all() const { return servers_; }
  // Lets a process in: "" or why not, as it is told.
  std::string join(uid_t uid, int fd, pid_t pid);
  void fault(int fd);
  void left(int fd);         // a connection is gone
  void end(pid_t server);    // at once
  void leave(pid_t server);  // once nobody is there any more
  void reap();               // collects servers that have ended
  bool terminate(pid_t server, pid_t process);
  bool empty() const;              // whether nobody is served
  std::vector<int> take_closed();  // connections whose server has ended

 private:
  void forget(pid_t server);

  std::map<pid_t, Server> servers_;
  std::vector<int> closed_;
};

}  // namespace standin::mps

// The servers of a control daemon, and the processes that each of them serves.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "log.h"

namespace standin::mps {

constexpr size_t kMostProcesses = 60;  // of one server, as on GPUs since Volta

struct Process {
  int fd;     // its connection
  int alive;  // a pidfd, for a fork may keep the connection open after its end; -1: it cannot be had
  pid_t pid;
  bool waits;  // for the server to be ready
};

// Limits as they were said, such as "2G", by the number of the device.
using PinnedLimits = std::map<int, std::string>;

struct Server {
  pid_t pid = 0;
  uid_t uid = 0;
  int life = -1;   // closed, it ends
  int voice = -1;  // says a byte when it is ready, and nothing more when it has ended
  bool ready = false, fault = false, leaving = false;
  double percentage = 100;
  PinnedLimits pinned;
  std::vector<Process> processes;

  const char* status() const { return !ready ? "INITIALIZING" : fault ? "FAULT" : "ACTIVE"; }
};

class Servers {
 public:
  explicit Servers(const Logs& logs) : logs_(logs) {}

  // For servers that are yet to be started.
  double default_percentage = 100;
  PinnedLimits default_pinned;
  // Set, nobody is let in any more.
  bool closing = false;

  // The server of a user, started if there is none; null: it cannot be.
  Server* of(uid_t uid);
  Server* find(pid_t pid);
  const std::map<pid_t, Server>& all() const { return servers_; }
  bool is_empty() const;                // whether nobody is served
  bool has(int connection) const;       // whether it is a process's that is served, or that waits
  std::vector<int> watched() const;     // besides connections: what becomes readable when something happens
  void look(int watched);               // something has
  std::vector<int> take_connections();  // those that have become useless

  // Lets a process in, now or when its server is ready, or tells it why not.
  void join(uid_t uid, int connection, pid_t pid);
  void fault(int connection);
  void left(int connection);
  void end(pid_t server);    // at once
  void leave(pid_t server);  // once nobody is there any more
  bool terminate(pid_t server, pid_t process);

 private:
  void begin(Server* server);
  void welcome(const Server& server, const Process& process) const;
  void say_of(const Server& server, const std::string& text) const { logs_.server.say(server.pid, text); }

  const Logs& logs_;
  std::map<pid_t, Server> servers_;
  std::vector<int> useless_;
};

}  // namespace standin::mps

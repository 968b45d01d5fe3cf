#include "servers.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "limits.h"
#include "protocol.h"

namespace standin::mps {
namespace {

std::string beside(const char* name) {
  char path[4096];
  ssize_t size = readlink("/proc/self/exe", path, sizeof(path) - 1);
  std::string own(path, size > 0 ? static_cast<size_t>(size) : 0);
  return own.substr(0, own.rfind('/') + 1) + name;
}

// By its standard input it learns that the daemon is gone; a stopped one learns nothing, and is killed.
[[noreturn]] void become_server(const std::string& program, uid_t uid, int input, int output) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  dup2(input, STDIN_FILENO);
  dup2(output, STDOUT_FILENO);
  std::string user = "--uid=" + std::to_string(uid);
  execl(program.c_str(), program.c_str(), user.c_str(), nullptr);
  _exit(127);
}

// False: it cannot be started.
bool spawn(Server* server) {
  int in[2], out[2];
  if (pipe2(in, O_CLOEXEC) != 0) return false;
  if (pipe2(out, O_CLOEXEC) != 0) return close(in[0]), close(in[1]), false;
  std::string program = beside("nvidia-cuda-mps-server");
  server->pid = fork();
  if (server->pid == 0) become_server(program, server->uid, in[0], out[1]);
  close(in[0]);
  close(out[1]);
  server->life = in[1];
  server->voice = out[0];
  if (server->pid > 0) return true;
  close(server->life);
  close(server->voice);
  return false;
}

int open_process(pid_t pid) { return pid > 0 ? static_cast<int>(syscall(SYS_pidfd_open, pid, 0)) : -1; }

void forget(const Process& process) {
  if (process.alive >= 0) close(process.alive);
}

}  // namespace

Server* Servers::of(uid_t uid) {
  for (auto& [pid, server] : servers_)
    if (server.uid == uid && !server.leaving) return &server;
  Server server;
  server.uid = uid;
  server.percentage = default_percentage;
  server.pinned = default_pinned;
  if (!spawn(&server)) return nullptr;
  logs_.control.say(getpid(),
                    "starting server " + std::to_string(server.pid) + " of user " + std::to_string(uid));
  return &(servers_[server.pid] = server);
}

Server* Servers::find(pid_t pid) {
  auto found = servers_.find(pid);
  return found != servers_.end() ? &found->second : nullptr;
}

bool Servers::is_empty() const {
  return std::all_of(servers_.begin(), servers_.end(),
                     [](const auto& entry) { return entry.second.processes.empty(); });
}

bool Servers::has(int connection) const {
  for (const auto& [pid, server] : servers_)
    for (const Process& process : server.processes)
      if (process.fd == connection) return true;
  return false;
}

std::vector<int> Servers::watched() const {
  std::vector<int> out;
  for (const auto& [pid, server] : servers_) {
    out.push_back(server.voice);
    for (const Process& process : server.processes)
      if (process.alive >= 0) out.push_back(process.alive);
  }
  return out;
}

void Servers::look(int watched) {
  for (auto& [pid, server] : servers_) {
    if (server.voice == watched) {
      char byte;
      return read(watched, &byte, 1) == 1 ? begin(&server) : end(pid);
    }
    for (const Process& process : server.processes) {
      if (process.alive != watched) continue;
      if (hear(process.fd) == "fault") fault(process.fd);  // its last word, said just before it ended
      return useless_.push_back(process.fd);
    }
  }
}

std::vector<int> Servers::take_connections() { return std::exchange(useless_, {}); }

void Servers::begin(Server* server) {
  server->ready = true;
  logs_.control.say(getpid(), "server " + std::to_string(server->pid) + " is ready");
  say_of(*server, "started");
  for (Process& process : server->processes) {
    process.waits = false;
    welcome(*server, process);
  }
}

void Servers::welcome(const Server& server, const Process& process) const {
  long millis = std::lround(1000 * server.percentage);
  auto limit = server.pinned.find(0);
  uint64_t pinned = limit != server.pinned.end() ? bytes_of(limit->second) : 0;
  say_of(server, "process " + std::to_string(process.pid) + " has come");
  say(process.fd,
      "in " + std::to_string(server.pid) + " " + std::to_string(millis) + " " + std::to_string(pinned));
}

void Servers::join(uid_t uid, int connection, pid_t pid) {
  if (has(connection)) return;
  Server* server = closing ? nullptr : of(uid);
  if (server == nullptr || server->fault || server->processes.size() >= kMostProcesses) {
    int why = server == nullptr || server->fault ? kNotReady : kTooMany;
    logs_.control.say(getpid(), "process " + std::to_string(pid) + " is not let in: " + std::to_string(why));
    say(connection, "out " + std::to_string(why));
    return;
  }
  server->processes.push_back({connection, open_process(pid), pid, !server->ready});
  if (server->ready) welcome(*server, server->processes.back());
}

void Servers::fault(int connection) {
  for (auto& [pid, server] : servers_)
    for (const Process& process : server.processes) {
      if (process.fd != connection || server.fault) continue;
      server.fault = true;
      say_of(server, "the work of process " + std::to_string(process.pid) + " has failed: FAULT");
    }
}

void Servers::left(int connection) {
  std::vector<pid_t> over;
  for (auto& [pid, server] : servers_) {
    auto gone = std::find_if(server.processes.begin(), server.processes.end(),
                             [connection](const Process& process) { return process.fd == connection; });
    if (gone == server.processes.end()) continue;
    say_of(server, "process " + std::to_string(gone->pid) + " has gone");
    forget(*gone);
    server.processes.erase(gone);
    if (!server.processes.empty()) continue;
    if (server.fault) say_of(server, "all that the fault had broken have gone: ACTIVE");
    server.fault = false;
    if (server.leaving) over.push_back(pid);
  }
  for (pid_t pid : over) end(pid);
}

void Servers::end(pid_t pid) {
  Server* server = find(pid);
  if (server == nullptr) return;
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
  logs_.control.say(getpid(), "server " + std::to_string(pid) + " has ended");
  close(server->life);
  close(server->voice);
  for (const Process& process : server->processes) {
    useless_.push_back(process.fd);
    forget(process);
  }
  servers_.erase(pid);
}

void Servers::leave(pid_t pid) {
  Server* server = find(pid);
  if (server == nullptr) return;
  server->leaving = true;
  if (server->processes.empty()) end(pid);
}

bool Servers::terminate(pid_t server, pid_t pid) {
  Server* of = find(server);
  if (of == nullptr) return false;
  for (const Process& process : of->processes) {
    if (process.pid != pid) continue;
    int connection = process.fd;
    say(connection, "out " + std::to_string(kTerminated));
    useless_.push_back(connection);
    left(connection);
    return true;
  }
  return false;
}

}  // namespace standin::mps

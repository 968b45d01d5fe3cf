#include "servers.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "protocol.h"

namespace standin::mps {
namespace {

std::string beside(const char* name) {
  char path[4096];
  ssize_t size = readlink("/proc/self/exe", path, sizeof(path) - 1);
  std::string own(path, size > 0 ? static_cast<size_t>(size) : 0);
  return own.substr(0, own.rfind('/') + 1) + name;
}

// Its standard input is the pipe by whose end it learns that the daemon is gone.
pid_t spawn(uid_t uid, int* life) {
  int ends[2];
  if (pipe(ends) != 0) return -1;
  std::string program = beside("nvidia-cuda-mps-server"), user = "--uid=" + std::to_string(uid);
  pid_t pid = fork();
  if (pid == 0) {
    dup2(ends[0], STDIN_FILENO);
    for (int fd = 3; fd < 1024; ++fd) close(fd);
    execl(program.c_str(), program.c_str(), user.c_str(), nullptr);
    _exit(127);
  }
  close(ends[0]);
  if (pid < 0) {
    close(ends[1]);
    return -1;
  }
  *life = ends[1];
  return pid;
}

}  // namespace

Server* Servers::of(uid_t uid) {
  for (auto& [pid, server] : servers_)
    if (server.uid == uid && !server.leaving) return &server;
  Server server;
  server.uid = uid;
  server.percentage = default_percentage;
  server.pid = spawn(uid, &server.life);
  if (server.pid < 0) return nullptr;
  return &(servers_[server.pid] = server);
}

Server* Servers::find(pid_t pid) {
  auto found = servers_.find(pid);
  return found != servers_.end() ? &found->second : nullptr;
}

std::string Servers::join(uid_t uid, int fd, pid_t pid) {
  Server* server = of(uid);
  if (server == nullptr || server->fault) return "out " + std::to_string(kNotReady);
  if (server->processes.size() >= kMostProcesses) return "out " + std::to_string(kTooMany);
  server->processes.push_back({fd, pid});
  int millis = static_cast<int>(std::lround(1000 * server->percentage));
  return "in " + std::to_string(server->pid) + " " + std::to_string(millis);
}

void Servers::fault(int fd) {
  for (auto& [pid, server] : servers_)
    for (const Process& process : server.processes)
      if (process.fd == fd) server.fault = true;
}

void Servers::left(int fd) {
  std::vector<pid_t> over;
  for (auto& [pid, server] : servers_) {
    std::erase_if(server.processes, [fd](const Process& process) { return process.fd == fd; });
    if (!server.processes.empty()) continue;
    server.fault = false;  // all that the fault had broken have gone
    if (server.leaving) over.push_back(pid);
  }
  for (pid_t pid : over) end(pid);
}

void Servers::end(pid_t pid) {
  if (find(pid) == nullptr) return;
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
  forget(pid);
}

void Servers::leave(pid_t pid) {
  Server* server = find(pid);
  if (server == nullptr) return;
  server->leaving = true;
  if (server->processes.empty()) end(pid);
}

void Servers::reap() {
  for (pid_t pid; (pid = waitpid(-1, nullptr, WNOHANG)) > 0;) forget(pid);
}

void Servers::forget(pid_t pid) {
  Server* server = find(pid);
  if (server == nullptr) return;
  close(server->life);
  for (const Process& process : server->processes) closed_.push_back(process.fd);
  servers_.erase(pid);
}

bool Servers::terminate(pid_t server, pid_t pid) {
  Server* of = find(server);
  if (of == nullptr) return false;
  for (const Process& process : of->processes) {
    if (process.pid != pid) continue;
    closed_.push_back(process.fd);
    left(process.fd);
    return true;
  }
  return false;
}

bool Servers::empty() const {
  return std::all_of(servers_.begin(), servers_.end(),
                     [](const auto& entry) { return entry.second.processes.empty(); });
}

std::vector<int> Servers::take_closed() { return std::exchange(closed_, {}); }

}  // namespace standin::mps

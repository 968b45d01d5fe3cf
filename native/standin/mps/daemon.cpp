#include "daemon.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <cstdio>

#include "limits.h"
#include "protocol.h"

namespace standin::mps {
namespace {

constexpr int kTickMs = 100;

volatile sig_atomic_t told_to_end = 0;

double now_s() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

// A process that is served costs two descriptors, and its neighbours must not run out of them.
void allow_many_files() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 65536);
  setrlimit(RLIMIT_NOFILE, &limit);
}

// What the daemon's own environment says of every server.
void read_environment(Servers* servers, const Log& log) {
  const char* percentage = getenv("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE");
  double value = 0;
  if (percentage != nullptr && read_percentage(percentage, &value))
    servers->default_percentage = value;
  else if (percentage != nullptr)
    log.say(getpid(), std::string("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE: ") + percentage + " is no percentage");
  const char* limit = getenv("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT");
  if (limit == nullptr) return;
  if (std::string first = first_limit(limit); bytes_of(first) != 0)
    servers->default_pinned[0] = first;
  else
    log.say(getpid(), std::string("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT: ") + limit + " is not such as 0=2G");
}

}  // namespace

Daemon::Daemon(int listener, const Logs& logs) : listener_(listener), logs_(logs), servers_(logs) {
  allow_many_files();
  read_environment(&servers_, logs_.control);
}

void Daemon::run() {
  struct sigaction ends = {};
  ends.sa_handler = [](int) { told_to_end = 1; };
  sigaction(SIGTERM, &ends, nullptr);
  signal(SIGPIPE, SIG_IGN);
  while (!is_over()) {
    std::vector<pollfd> waits = {{listener_, POLLIN, 0}};
    for (int fd : connections_) waits.push_back({fd, POLLIN, 0});
    size_t others = waits.size();
    for (int fd : servers_.watched()) waits.push_back({fd, POLLIN, 0});
    if (poll(waits.data(), waits.size(), kTickMs) <= 0) continue;
    for (size_t i = others; i < waits.size(); ++i)
      if (waits[i].revents != 0) servers_.look(waits[i].fd);
    drop_useless();
    for (size_t i = 1; i < others; ++i)
      if (waits[i].revents != 0) receive(waits[i].fd);
    drop_useless();  // before somebody else gets their numbers
    if (waits[0].revents != 0) accept_one();
  }
  while (!servers_.all().empty()) servers_.end(servers_.all().begin()->first);
  logs_.control.say(getpid(), "ends");
}

bool Daemon::is_over() const {
  if (told_to_end != 0) return true;
  if (!ending_.asked) return false;
  return servers_.is_empty() || (ending_.within_s >= 0 && now_s() >= asked_s_ + ending_.within_s);
}

void Daemon::accept_one() {
  int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd >= 0)
    connections_.push_back(fd);
  else if (errno == EMFILE || errno == ENFILE)
    drop_an_idle_one();
}

void Daemon::drop_useless() {
  for (int fd : servers_.take_connections()) drop(fd);
}

// Whoever says anything else loses the connection, and nobody else anything.
void Daemon::receive(int connection) {
  if (std::find(connections_.begin(), connections_.end(), connection) == connections_.end()) return;
  std::string text = hear(connection);
  ucred who = {};
  socklen_t size = sizeof(who);
  getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &who, &size);
  if (text == "join")
    servers_.join(who.uid, connection, who.pid);
  else if (text == "fault")
    servers_.fault(connection);
  else if (!text.starts_with("do ") || !say(connection, answer(text.substr(3))))
    drop(connection);
}

std::string Daemon::answer(const std::string& command) {
  double before_s = ending_.within_s;
  bool before = ending_.asked;
  std::string said = obey(&servers_, command, &ending_);
  if (ending_.asked && (!before || ending_.within_s != before_s)) asked_s_ = now_s();
  if (!command.starts_with("get_")) logs_.control.say(getpid(), "told: " + command);
  // A line end more than it has lines, that there be something to send.
  return said.empty() || said.back() == '\n' ? said + "\n" : said + "\n\n";
}

void Daemon::drop(int connection) {
  if (std::erase(connections_, connection) == 0) return;
  servers_.left(connection);
  close(connection);
}

// There are no descriptors left: whoever is connected for nothing has to go.
void Daemon::drop_an_idle_one() {
  auto idle =
      std::find_if(connections_.begin(), connections_.end(), [this](int fd) { return !servers_.has(fd); });
  if (idle != connections_.end()) drop(*idle);
}

}  // namespace standin::mps

// nvidia-cuda-mps-control of the stand-in, a test double: takes the command line and the commands of
// NVIDIA's.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>

#include <cstdio>
#include <iostream>

#include "commands.h"
#include "protocol.h"

using namespace standin::mps;

namespace {

constexpr char kWhat[] = "the stand-in's MPS, a test double: no GPU is used";

double now_s() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

std::string pid_file() { return pipe_directory() + "/nvidia-cuda-mps-control.pid"; }

std::string log_directory() {
  const char* said = getenv("CUDA_MPS_LOG_DIRECTORY");
  return said != nullptr && *said != 0 ? said : pipe_directory();
}

// The socket that everybody comes to; -1 and one line on stderr if it cannot be had.
int listen_here() {
  sockaddr_un address;
  mkdir(pipe_directory().c_str(), 0700);
  if (!address_of(pipe_directory(), &address)) {
    fprintf(stderr, "CUDA_MPS_PIPE_DIRECTORY: %s is too long for a socket\n", pipe_directory().c_str());
    return -1;
  }
  int other = dial();
  if (other >= 0) {
    close(other);
    fprintf(stderr, "An instance of this daemon is already running in %s\n", pipe_directory().c_str());
    return -1;
  }
  unlink(address.sun_path);
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 || listen(fd, 128) != 0) {
    fprintf(stderr, "CUDA_MPS_PIPE_DIRECTORY: %s: %s\n", pipe_directory().c_str(), strerror(errno));
    return -1;
  }
  return fd;
}

class Daemon {
 public:
  explicit Daemon(int listener) : listener_(listener) {}

  void run() {
    while (!is_over()) {
      std::vector<pollfd> waits = {{listener_, POLLIN, 0}};
      for (int fd : connections_) waits.push_back({fd, POLLIN, 0});
      poll(waits.data(), waits.size(), 100);
      servers_.reap();
      if (waits[0].revents != 0) accept_one();
      for (size_t i = 1; i < waits.size(); ++i)
        if (waits[i].revents != 0) receive(waits[i].fd);
      for (int fd : servers_.take_closed()) drop(fd);
    }
    while (!servers_.all().empty()) servers_.end(servers_.all().begin()->first);
  }

 private:
  bool is_over() const {
    if (!ending_.asked) return false;
    return servers_.empty() || (ending_.within_s >= 0 && now_s() >= asked_s_ + ending_.within_s);
  }

  void accept_one() {
    int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) connections_.push_back(fd);
  }

  // Whoever says anything else loses the connection, and nobody else anything.
  void receive(int fd) {
    std::string text = hear(fd);
    ucred who = {};
    socklen_t size = sizeof(who);
    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size);
    bool fine = true;
    if (text == "join")
      fine = say(fd, servers_.join(who.uid, fd, who.pid));
    else if (text == "fault")
      servers_.fault(fd);
    else if (text.starts_with("do "))
      fine = say(fd, answer(text.substr(3)));
    else
      fine = false;
    if (!fine) drop(fd);
  }

  std::string answer(const std::string& command) {
    bool before = ending_.asked;
    std::string said = obey(&servers_, command, &ending_);
    if (ending_.asked && !before) asked_s_ = now_s();
    return said.empty() || said.back() == '\n' ? said + "\n" : said + "\n\n";
  }

  void drop(int fd) {
    if (std::erase(connections_, fd) == 0) return;
    servers_.left(fd);
    close(fd);
  }

  int listener_;
  Servers servers_;
  Ending ending_;
  double asked_s_ = 0;
  std::vector<int> connections_;
};

void write_files() {
  if (FILE* file = fopen(pid_file().c_str(), "w")) {
    fprintf(file, "%d\n", getpid());
    fclose(file);
  }
  mkdir(log_directory().c_str(), 0700);
  for (const char* name : {"/control.log", "/server.log"})
    if (FILE* log = fopen((log_directory() + name).c_str(), "a")) {
      fprintf(log, "%s\n", kWhat);
      fclose(log);
    }
}

int serve(int listener) {
  signal(SIGPIPE, SIG_IGN);
  write_files();
  Daemon(listener).run();
  unlink(pid_file().c_str());
  unlink((pipe_directory() + "/control").c_str());
  return 0;
}

// Returns in the child alone, once the parent has gone.
void go_to_background() {
  if (fork() != 0) _exit(0);
  setsid();
  int nowhere = open("/dev/null", O_RDWR);
  for (int fd = 0; fd < 3; ++fd) dup2(nowhere, fd);
}

int command() {
  int fd = dial();
  if (fd < 0) {
    fprintf(stderr, "Cannot find MPS control daemon process\n");
    return 1;
  }
  for (std::string line; std::getline(std::cin, line);) {
    std::string answer = say(fd, "do " + line) ? hear(fd) : "";
    if (answer.empty()) return 1;
    answer.pop_back();  // every answer has one, that there be something to send
    std::cout << answer << std::flush;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::string flag = argc > 1 ? argv[1] : "";
  if (argc == 1) return command();
  if (flag == "-v") return puts(kWhat), 0;
  if (flag == "-S" || flag == "--static-partitioning") {
    fprintf(stderr, "%s: static partitioning is not supported by %s\n", flag.c_str(), kWhat);
    return 1;
  }
  if (argc != 2 || (flag != "-d" && flag != "-f")) {
    fprintf(stderr, "usage: nvidia-cuda-mps-control [-d | -f | -v | -S]; %s\n", kWhat);
    return 1;
  }
  int listener = listen_here();
  if (listener < 0) return 1;
  if (flag == "-d") go_to_background();
  return serve(listener);
}

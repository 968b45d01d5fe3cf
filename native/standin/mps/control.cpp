// nvidia-cuda-mps-control of the stand-in, a test double: takes the command line and the commands of
// NVIDIA's.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cstdio>
#include <filesystem>
#include <iostream>

#include "daemon.h"
#include "protocol.h"

using namespace standin::mps;

namespace {

std::string log_directory() {
  const char* said = getenv("CUDA_MPS_LOG_DIRECTORY");
  return said != nullptr && *said != 0 ? said : pipe_directory();
}

int complain(const std::string& why) {
  fprintf(stderr, "CUDA_MPS_PIPE_DIRECTORY: %s: %s\n", pipe_directory().c_str(), why.c_str());
  return -1;
}

int refuse() {
  fprintf(stderr, "An instance of this daemon is already running in %s\n", pipe_directory().c_str());
  return -1;
}

// The kernel lets go of the lock when its owner ends, however that ends. It is not closed before.
bool lock() {
  int fd = open((pipe_directory() + "/control_lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
}

// The socket that everybody comes to; -1 and one line on stderr if it cannot be had.
int listen_here() {
  sockaddr_un address;
  if (!address_of(pipe_directory(), &address)) return complain("too long for a socket");
  std::error_code problem;
  std::filesystem::create_directories(std::filesystem::path(pipe_directory()).parent_path(), problem);
  if (mkdir(pipe_directory().c_str(), 0700) != 0 && errno != EEXIST) return complain(strerror(errno));
  if (!lock()) return errno == EWOULDBLOCK ? refuse() : complain(strerror(errno));
  int other = dial(1);
  // What a killed daemon has left refuses; anything else that answers may be NVIDIA's.
  if (other >= 0 || (errno != ENOENT && errno != ECONNREFUSED)) return refuse();
  unlink(address.sun_path);
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0 && listen(fd, 128) == 0)
    return fd;
  return complain(strerror(errno));
}

void open_logs(Logs* logs) {
  std::error_code problem;
  std::filesystem::create_directories(log_directory(), problem);
  bool fine = logs->control.open(log_directory() + "/control.log", "Control");
  if (logs->server.open(log_directory() + "/server.log", "Server") && fine) return;
  fprintf(stderr, "CUDA_MPS_LOG_DIRECTORY: %s cannot be written to; nothing is logged\n",
          log_directory().c_str());
}

// Returns in the child alone; the parent has seen what it has to say, and ends when the child serves.
int go_to_background() {
  int served[2];
  if (pipe2(served, O_CLOEXEC) != 0) return -1;
  pid_t child = fork();
  if (child != 0) {
    close(served[1]);
    char byte;
    _exit(child > 0 && read(served[0], &byte, 1) == 1 ? 0 : 1);
  }
  close(served[0]);
  setsid();
  return served[1];
}

void cut_loose(int served) {
  int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = 0; fd < 3; ++fd) dup2(nowhere, fd);
  close(nowhere);
  if (write(served, "", 1) == 1) close(served);
}

int serve(bool in_background) {
  int listener = listen_here();
  if (listener < 0) return 1;
  int served = in_background ? go_to_background() : -1;
  Logs logs;
  open_logs(&logs);
  std::string pid_file = pipe_directory() + "/nvidia-cuda-mps-control.pid";
  if (FILE* file = fopen(pid_file.c_str(), "we")) {
    fprintf(file, "%d\n", getpid());
    fclose(file);
  }
  if (in_background) cut_loose(served);
  Daemon(listener, logs).run();
  unlink(pid_file.c_str());
  unlink((pipe_directory() + "/control").c_str());
  return 0;
}

int command() {
  int fd = dial(0);
  if (fd < 0) {
    fprintf(stderr, "Cannot find MPS control daemon process\n");
    return 1;
  }
  for (std::string line; std::getline(std::cin, line);) {
    std::string answer = line.size() < kLongest && say(fd, "do " + line) ? hear(fd) : "";
    if (answer.empty()) {
      fprintf(stderr, "The MPS control daemon, the stand-in's, did not answer\n");
      return 1;
    }
    answer.pop_back();  // every answer has one more, that there be something to send
    std::cout << answer << std::flush;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  for (int fd = 0; fd < 3; fd = open("/dev/null", O_RDWR)) continue;  // pipes must not get their numbers
  std::string flag = argc > 1 ? argv[1] : "";
  if (argc == 1) return command();
  if (argc == 2 && flag == "-v") return puts(kWhat), 0;
  if (flag == "-S" || flag == "--static-partitioning") {
    fprintf(stderr, "%s: static partitioning is not supported by %s\n", flag.c_str(), kWhat);
    return 1;
  }
  if (argc != 2 || (flag != "-d" && flag != "-f")) {
    fprintf(stderr, "usage: nvidia-cuda-mps-control [-d | -f | -v | -S]; %s\n", kWhat);
    return 1;
  }
  return serve(flag == "-d");
}

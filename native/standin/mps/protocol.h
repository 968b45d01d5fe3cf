// What goes over the control daemon's socket: texts, one a packet. A process says "join", later perhaps
// "fault", and stays; somebody with a command says "do COMMAND" and hears one answer.
#pragma once

#include <errno.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>

namespace standin::mps {

constexpr char kWhat[] = "the stand-in's MPS, a test double: no GPU is used";
constexpr size_t kLongest = 65536;
constexpr int kNoConnection = 805;  // CUDA_ERROR_MPS_CONNECTION_FAILED
constexpr int kServerGone = 806;    // CUDA_ERROR_MPS_RPC_FAILURE
constexpr int kNotReady = 807;      // CUDA_ERROR_MPS_SERVER_NOT_READY
constexpr int kTooMany = 808;       // CUDA_ERROR_MPS_MAX_CLIENTS_REACHED
constexpr int kTerminated = 810;    // CUDA_ERROR_MPS_CLIENT_TERMINATED

inline std::string pipe_directory() {
  const char* said = getenv("CUDA_MPS_PIPE_DIRECTORY");
  return said != nullptr && *said != 0 ? said : "/tmp/nvidia-mps";
}

// False: the path is too long for a socket.
inline bool address_of(const std::string& directory, sockaddr_un* out) {
  std::string path = directory + "/control";
  memset(out, 0, sizeof(*out));
  out->sun_family = AF_UNIX;
  if (path.size() >= sizeof(out->sun_path)) return false;
  memcpy(out->sun_path, path.c_str(), path.size() + 1);
  return true;
}

// A connection to the control daemon; -1 and errno: there is none. patience_s: how long saying and hearing
// something may take on it; 0: however long it takes.
inline int dial(int patience_s) {
  sockaddr_un address;
  errno = ENAMETOOLONG;
  if (!address_of(pipe_directory(), &address)) return -1;
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  timeval patience = {patience_s, 0};
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) return fd;
  int why = errno;
  close(fd);
  errno = why;
  return -1;
}

inline bool say(int fd, const std::string& text) {
  return send(fd, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
}

// "" if the other side is gone, with errno 0, or has not said anything in time.
inline std::string hear(int fd) {
  std::string text(kLongest, 0);
  ssize_t size = recv(fd, text.data(), text.size(), 0);
  if (size == 0) errno = 0;
  text.resize(size > 0 ? static_cast<size_t>(size) : 0);
  return text;
}

}  // namespace standin::mps

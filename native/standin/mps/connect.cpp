#include "connect.h"

#include <cstdio>

#include "protocol.h"

namespace standin::mps {
namespace {

constexpr uint64_t kLookNs = 1'000'000;

int joined = -1;  // the connection, kept for as long as this process lives: that is how MPS knows it
pid_t owner = 0;  // a fork has the descriptor too, and is no process of MPS
uint64_t looked_ns = 0;
bool lost = false;

}  // namespace

int connect(Connection* out) {
  int fd = dial();
  if (fd < 0) return 0;
  timeval patience = {5, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  std::string answer = say(fd, "join") ? hear(fd) : "";
  int refused = 0;
  unsigned long long group = 0;
  if (sscanf(answer.c_str(), "in %llu %d", &group, &out->sm_percent_millis) == 2) {
    out->there = true;
    out->group = group;
    joined = fd;
    owner = getpid();
    return 0;
  }
  if (sscanf(answer.c_str(), "out %d", &refused) != 1) refused = kNotReady;
  close(fd);
  return refused;
}

void report_fault() {
  if (joined >= 0 && getpid() == owner) say(joined, "fault");
}

bool is_lost(uint64_t now_ns) {
  if (joined < 0 || lost || now_ns < looked_ns + kLookNs) return lost;
  looked_ns = now_ns;
  char byte;
  lost = recv(joined, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
  return lost;
}

}  // namespace standin::mps

#include "connect.h"

#include <cinttypes>
#include <cstdio>

#include "limits.h"
#include "protocol.h"

namespace standin::mps {
namespace {

constexpr uint64_t kLookNs = 1'000'000;
constexpr int kPatienceS = 5;

int joined = -1;  // the connection, kept for as long as this process lives: that is how MPS knows it
pid_t owner = 0;  // a fork has the descriptor too, and is no process of MPS
uint64_t looked_ns = 0;
int ended = 0;

bool is_let_in(const std::string& answer, Connection* out) {
  return sscanf(answer.c_str(), "in %" SCNu64 " %d %" SCNu64, &out->group, &out->sm_percent_millis,
                &out->pinned_bytes) == 3;
}

// A process may ask for less than the server lets it have.
void ask_for_less(Connection* out) {
  const char* limit = getenv("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT");
  uint64_t own = limit != nullptr ? bytes_of(first_limit(limit)) : 0;
  if (own != 0 && (out->pinned_bytes == 0 || own < out->pinned_bytes)) out->pinned_bytes = own;
}

}  // namespace

int connect(Connection* out) {
  int fd = dial(kPatienceS);
  if (fd < 0) return errno == EAGAIN ? kNotReady : 0;
  std::string answer = say(fd, "join") ? hear(fd) : "";
  int why = errno;
  if (is_let_in(answer, out)) {
    out->there = true;
    ask_for_less(out);
    joined = fd;
    owner = getpid();
    return 0;
  }
  int refused = 0;
  if (sscanf(answer.c_str(), "out %d", &refused) != 1) refused = why == EAGAIN ? kNotReady : kNoConnection;
  close(fd);
  return refused;
}

void report_fault() {
  if (joined >= 0 && getpid() == owner) say(joined, "fault");
}

int end_of_service(uint64_t now_ns) {
  if (joined < 0 || ended != 0 || now_ns < looked_ns + kLookNs) return ended;
  looked_ns = now_ns;
  char text[64] = "";
  ssize_t size = recv(joined, text, sizeof(text) - 1, MSG_DONTWAIT);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
  if (size <= 0 || sscanf(text, "out %d", &ended) != 1) ended = kServerGone;
  return ended;
}

}  // namespace standin::mps

// The daemon's socket: registration, and re-adoption after the daemon died.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <initializer_list>

#include "gate_state.h"

namespace fastgate {
namespace {

constexpr int kFds = kCells + 2;
constexpr int kReconnectMs = 50;
// For a daemon that stays away. Less than a second: a new one waits that long for who was there before.
constexpr int kPatientMs = 900;
constexpr uint64_t kEagerNs = 2'000'000'000;
constexpr uint64_t kLongestWaitNs = 3'600'000'000'000;
constexpr uint64_t kReadoptTimeoutNs = 3'000'000'000;

int connect_to(const char* path) {
  if (strlen(path) >= sizeof(sockaddr_un::sun_path)) return -1;
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) return fd;
  close(fd);
  return -1;
}

union Control {
  cmsghdr header;
  char bytes[CMSG_SPACE(sizeof(int) * kFds)];
};

bool send_hello(int fd, const Hello& hello, const int* fds) {
  Control control = {};
  iovec part = {const_cast<Hello*>(&hello), sizeof(hello)};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (fds != nullptr) {
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof(control.bytes);
    cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int) * kFds);
    memcpy(CMSG_DATA(head), fds, sizeof(int) * kFds);
  }
  return sendmsg(fd, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(sizeof(hello));
}

// Receives an answer and, if there are any, its descriptors; returns how many came, or -1.
int receive_answer(int fd, Answer* answer, int* fds) {
  Control control = {};
  iovec part = {answer, sizeof(*answer)};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof(control.bytes);
  ssize_t size = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
  int count = 0;
  for (cmsghdr* head = CMSG_FIRSTHDR(&message); head != nullptr; head = CMSG_NXTHDR(&message, head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
    count = static_cast<int>((head->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    if (count > kFds) count = kFds;
    memcpy(fds, CMSG_DATA(head), sizeof(int) * static_cast<size_t>(count));
  }
  bool whole = size == static_cast<ssize_t>(sizeof(*answer)) && answer->magic == kHelloMagic &&
               answer->version == kVersion && (answer->status != kWelcome || count == kFds);
  answer->reason[sizeof(answer->reason) - 1] = 0;
  if (whole) return count;
  close_all(fds, count);
  return -1;
}

bool readable(int fd, int stop, int timeout_ms) {
  pollfd watched[2] = {{fd, POLLIN, 0}, {stop, POLLIN, 0}};
  return poll(watched, stop >= 0 ? 2 : 1, timeout_ms) > 0 && watched[0].revents != 0;
}

bool stopping(const fg_gate* g, int wait_ms) {
  pollfd watched = {g->stop_pipe[0].fd, POLLIN, 0};
  return poll(&watched, 1, wait_ms) > 0;
}

Hello hello_of(HelloKind kind, const char* instance_id, int index) {
  Hello hello = {};
  hello.magic = kHelloMagic;
  hello.version = kVersion;
  hello.kind = kind;
  hello.index = static_cast<uint32_t>(index);
  memcpy(hello.instance_id, instance_id, strnlen(instance_id, sizeof(hello.instance_id) - 1));
  return hello;
}

bool await_answer(int fd, int stop, uint64_t deadline_ns, Answer* answer, int* fds) {
  uint64_t now = now_ns();
  int left_ms = now < deadline_ns ? static_cast<int>((deadline_ns - now) / 1'000'000) : 0;
  return readable(fd, stop, left_ms) && receive_answer(fd, answer, fds) >= 0;
}

// Sends the descriptors of the latest pages, which the worker must not close meanwhile.
bool offer_pages(fg_gate* g, int fd) {
  pthread_mutex_lock(&g->moving);
  const Mapping* latest = g->successor != nullptr ? g->successor : &g->map;
  bool sent = send_hello(fd, hello_of(kReadopt, g->instance_id, latest->index), latest->fds);
  pthread_mutex_unlock(&g->moving);
  return sent;
}

bool leave_pages_for_worker(fg_gate* g, const Answer& answer, const int* fds) {
  Mapping* next = static_cast<Mapping*>(calloc(1, sizeof(Mapping)));
  if (next == nullptr || !map_all(next, fds, static_cast<int>(answer.index))) {
    free(next);
    return false;
  }
  next->page->waiting_for = -1;
  pthread_mutex_lock(&g->moving);
  Mapping* stale = g->successor;
  const Page* former = (stale != nullptr ? stale : &g->map)->page;
  next->page->mem_bytes = former->mem_bytes;
  next->page->mem_peak_bytes = former->mem_peak_bytes;
  __atomic_store_n(&g->successor, next, __ATOMIC_RELEASE);
  pthread_mutex_unlock(&g->moving);
  if (stale != nullptr) unmap_all(stale), free(stale);
  return true;
}

// Under the same number where it is ours: a worker may be about to write to it.
void keep_as_socket(fg_gate* g, int fd) {
  Handle fresh = handle_of(fd);
  if (is_ours(g->socket) && dup3(fd, g->socket.fd, O_CLOEXEC) >= 0) {
    close(fd);
    fresh.fd = g->socket.fd;
  }
  g->socket = fresh;
}

// Offers the daemon's successor the pages this instance has. Returns whether there is no need to try again.
bool readopt(fg_gate* g) {
  int fds[kFds] = {};
  Answer answer = {};
  int fd = connect_to(g->path);
  if (fd < 0) return false;
  bool answered =
      offer_pages(g, fd) && await_answer(fd, g->stop_pipe[0].fd, now_ns() + kReadoptTimeoutNs, &answer, fds);
  if (answered && answer.status == kRefused) __atomic_store_n(&g->evicted, 1U, __ATOMIC_RELEASE);
  bool back = answered && answer.status != kRefused &&
              (answer.status != kWelcome || leave_pages_for_worker(g, answer, fds));
  if (back)
    keep_as_socket(g, fd);
  else
    close(fd);
  return back;
}

bool hung_up(const Handle& socket) {
  char word[16];
  if (!is_ours(socket)) return true;
  ssize_t size = recv(socket.fd, word, sizeof(word), MSG_DONTWAIT);
  return size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR);
}

// Notices that the daemon has gone and goes on knocking until there is one again. Meanwhile the instance
// follows its own slots of the last timetable: nothing here is needed for that.
void* keep(void* argument) {
  fg_gate* g = static_cast<fg_gate*>(argument);
  uint64_t lost_ns = 0;
  for (bool connected = true;;) {
    if (connected && readable(g->socket.fd, g->stop_pipe[0].fd, -1) && hung_up(g->socket)) {
      connected = false;
      __atomic_store_n(&g->connected, 0U, __ATOMIC_RELEASE);
      lost_ns = now_ns();
    }
    int pause_ms = now_ns() - lost_ns < kEagerNs ? kReconnectMs : kPatientMs;
    if (stopping(g, connected ? 0 : pause_ms)) return nullptr;
    if (__atomic_load_n(&g->evicted, __ATOMIC_ACQUIRE)) return nullptr;
    if (!connected) connected = readopt(g);
    __atomic_store_n(&g->connected, connected ? 1U : 0U, __ATOMIC_RELEASE);
  }
}

}  // namespace

void say(char* error, size_t error_size, const char* text, const char* detail) {
  if (error_size == 0) return;
  size_t at = 0;
  for (const char* part : {text, detail})
    for (; *part && at + 1 < error_size; ++part) error[at++] = *part;
  error[at] = 0;
}

int introduce(int knocked, const char* path, const char* instance_id, uint64_t timeout_ns, Answer* answer,
              int* fds, char* error, size_t error_size) {
  const uint64_t deadline = now_ns() + (timeout_ns < kLongestWaitNs ? timeout_ns : kLongestWaitNs);
  for (int fd = knocked;; fd = -1) {
    *answer = Answer();
    if (fd < 0) fd = fg_knock(path, instance_id);
    if (fd < 0) {
      say(error, error_size, "no node daemon answers at ", path);
    } else {
      if (await_answer(fd, -1, deadline, answer, fds)) {
        if (answer->status == kWelcome) return fd;
        say(error, error_size, "the node daemon refuses this instance: ", answer->reason);
        close(fd);
        return -1;
      }
      say(error, error_size, "the node daemon did not admit this instance: ", instance_id);
      close(fd);
    }
    if (now_ns() >= deadline) return -1;
    poll(nullptr, 0, kReconnectMs);  // the daemon may be between two lives; who registers has time
  }
}

bool start_keeper(fg_gate* g) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return false;
  for (int i = 0; i < 2; ++i) g->stop_pipe[i] = handle_of(ends[i]);
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  g->keeper_runs = pthread_create(&g->keeper, nullptr, keep, g) == 0;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return g->keeper_runs;
}

bool stop_keeper(fg_gate* g) {
  if (g->keeper_runs) {
    if (!is_ours(g->stop_pipe[1]) || write(g->stop_pipe[1].fd, "x", 1) != 1) return false;
    pthread_join(g->keeper, nullptr);
    g->keeper_runs = false;
  }
  for (Handle& end : g->stop_pipe) let_go(&end);
  return true;
}

// Never to a file of the program's own.
void tell(const fg_gate* g, const char* word) {
  if (is_ours(g->socket)) send(g->socket.fd, word, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void kick(fg_gate* g) { tell(g, "K"); }
void leave(fg_gate* g) { tell(g, "B"); }

}  // namespace fastgate

using namespace fastgate;

int fg_knock(const char* socket_path, const char* instance_id) {
  int fd = connect_to(socket_path);
  if (fd < 0 || send_hello(fd, hello_of(kRegister, instance_id, 0), nullptr)) return fd;
  close(fd);
  return -1;
}

// The daemon's socket: registration, the pages that come over it, and re-adoption after the daemon died.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <initializer_list>

#include "gate_state.h"

namespace fastgate {
namespace {

constexpr int kFds = kCells + 2;
constexpr int kReconnectMs = 50;
constexpr uint64_t kLongestWaitNs = 3'600'000'000'000;
constexpr uint64_t kReadoptTimeoutNs = 3'000'000'000;

void close_all(const int* fds, int count) {
  for (int i = 0; i < count; ++i)
    if (fds[i] > 0) close(fds[i]);
}

int connect_to(const char* path) {
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
  pollfd watched = {g->stop_pipe[0], POLLIN, 0};
  return poll(&watched, 1, wait_ms) > 0;
}

// Offers the daemon's successor the pages this instance has. Returns whether it is connected again.
bool readopt(fg_gate* g) {
  int fds[kFds] = {};
  Answer answer = {};
  char ignored[8];
  int fd = introduce(g->path, kReadopt, g->instance_id, &g->map, kReadoptTimeoutNs, &answer, fds, ignored,
                     sizeof(ignored));
  if (fd < 0) return false;
  if (answer.status == kRefused) {
    __atomic_store_n(&g->evicted, 1U, __ATOMIC_RELEASE);
    close(fd);
    return true;
  }
  if (answer.status == kWelcome) {
    Mapping* next = static_cast<Mapping*>(calloc(1, sizeof(Mapping)));
    if (next == nullptr || !map_all(next, fds, static_cast<int>(answer.index))) {
      free(next);
      close(fd);
      return false;
    }
    next->page->waiting_for = -1;
    Mapping* stale = __atomic_exchange_n(&g->successor, next, __ATOMIC_ACQ_REL);
    if (stale != nullptr) unmap_all(stale), free(stale);
  }
  // Always the same number: a worker may be about to write to it, and must never hit somebody else's file.
  dup3(fd, g->socket, O_CLOEXEC);
  close(fd);
  return true;
}

// Notices that the daemon has gone and goes on knocking until there is one again. Meanwhile the instance
// follows its own slots of the last timetable: nothing here is needed for that.
void* keep(void* argument) {
  fg_gate* g = static_cast<fg_gate*>(argument);
  for (bool connected = true;;) {
    if (connected) {
      char word[16];
      bool news = readable(g->socket, g->stop_pipe[0], -1);
      if (news && recv(g->socket, word, sizeof(word), MSG_DONTWAIT) <= 0 && errno != EAGAIN)
        connected = false;
    }
    if (stopping(g, connected ? 0 : kReconnectMs)) return nullptr;
    if (__atomic_load_n(&g->evicted, __ATOMIC_ACQUIRE)) return nullptr;
    if (!connected) connected = readopt(g);
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

bool map_all(Mapping* mapping, const int* fds, int index) {
  auto map = [](int fd, size_t size, int protection) {
    void* at = mmap(nullptr, size, protection, MAP_SHARED, fd, 0);
    return at == MAP_FAILED ? nullptr : at;
  };
  *mapping = Mapping();
  memcpy(mapping->fds, fds, sizeof(mapping->fds));
  mapping->index = index;
  bool whole = index >= 0 && index < kCells;
  mapping->board = static_cast<const Board*>(map(fds[0], sizeof(Board), PROT_READ));
  mapping->page = static_cast<Page*>(map(fds[1], sizeof(Page), PROT_READ | PROT_WRITE));
  whole = whole && mapping->board && mapping->page && mapping->board->magic == kBoardMagic &&
          mapping->board->version == kVersion;
  for (int i = 0; i < kCells; ++i) {
    mapping->peers[i] = static_cast<const Page*>(map(fds[2 + i], sizeof(Page), PROT_READ));
    whole = whole && mapping->peers[i] != nullptr;
  }
  if (!whole) unmap_all(mapping);
  return whole;
}

void unmap_all(Mapping* mapping) {
  auto unmap = [](const void* at, size_t size) {
    if (at != nullptr) munmap(const_cast<void*>(at), size);
  };
  unmap(mapping->board, sizeof(Board));
  unmap(mapping->page, sizeof(Page));
  for (const Page* peer : mapping->peers) unmap(peer, sizeof(Page));
  close_all(mapping->fds, kFds);
  *mapping = Mapping();
}

int introduce(const char* path, HelloKind kind, const char* instance_id, const Mapping* old,
              uint64_t timeout_ns, Answer* answer, int* fds, char* error, size_t error_size) {
  Hello hello = {};
  hello.magic = kHelloMagic;
  hello.version = kVersion;
  hello.kind = kind;
  hello.index = old != nullptr ? static_cast<uint32_t>(old->index) : 0;
  strncpy(hello.instance_id, instance_id, sizeof(hello.instance_id) - 1);
  const uint64_t deadline = now_ns() + (timeout_ns < kLongestWaitNs ? timeout_ns : kLongestWaitNs);
  for (;;) {
    *answer = Answer();
    int fd = connect_to(path);
    if (fd < 0) {
      say(error, error_size, "no node daemon answers at ", path);
    } else {
      uint64_t now = now_ns();
      int left_ms = now < deadline ? static_cast<int>((deadline - now) / 1'000'000) : 0;
      if (send_hello(fd, hello, old != nullptr ? old->fds : nullptr) && readable(fd, -1, left_ms) &&
          receive_answer(fd, answer, fds) >= 0) {
        if (kind == kReadopt || answer->status == kWelcome) return fd;
        say(error, error_size, "the node daemon refuses this instance: ", answer->reason);
        close(fd);
        return -1;
      }
      say(error, error_size, "the node daemon did not admit this instance: ", instance_id);
      close(fd);
    }
    // The daemon may be between two lives; who registers has time.
    if (kind == kReadopt || now_ns() >= deadline) return -1;
    poll(nullptr, 0, kReconnectMs);
  }
}

bool start_keeper(fg_gate* g) {
  if (pipe(g->stop_pipe) != 0) return false;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  g->keeper_runs = pthread_create(&g->keeper, nullptr, keep, g) == 0;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return g->keeper_runs;
}

void stop_keeper(fg_gate* g) {
  if (g->keeper_runs) {
    ssize_t ignored = write(g->stop_pipe[1], "x", 1);
    static_cast<void>(ignored);
    pthread_join(g->keeper, nullptr);
    g->keeper_runs = false;
  }
  close_all(g->stop_pipe, 2);
}

void kick(fg_gate* g) { send(g->socket, "K", 1, MSG_DONTWAIT | MSG_NOSIGNAL); }
void leave(fg_gate* g) { send(g->socket, "B", 1, MSG_DONTWAIT | MSG_NOSIGNAL); }

}  // namespace fastgate

// How long is a token check while the token is valid, and does it make a system call?
// Usage: token_check SOCKET INSTANCE ROUNDS. Says "admit" when it may be admitted; prints JSON of ns per
// call.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "../native/gate/fastgate.h"

namespace {

constexpr int kCalls = 1'000'000;

double now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

template <typename Call>
double ns_per_call(Call call) {
  double start = now_ns();
  long sum = 0;
  for (int i = 0; i < kCalls; ++i) sum += call();
  double took = (now_ns() - start) / kCalls;
  return sum < 0 ? -1 : took;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// From here on any system call but write and exit ends this thread. (The strict mode would forbid rdtsc as
// well.)
bool forbid_system_calls() {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog filter = {sizeof(program) / sizeof(program[0]), program};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const int rounds = atoi(argv[3]);
  char error[256] = "";
  puts("admit");
  fflush(stdout);
  fg_gate* gate = fg_open(argv[1], argv[2], 10'000'000'000, error, sizeof(error));
  if (gate == nullptr || fg_acquire(gate, 0, 10'000'000'000) != FG_OK) {
    fprintf(stderr, "error: %s\n", error);
    return 1;
  }
  std::vector<double> check, clock, system_call;
  int lost = 0;
  for (int round = 0; round < rounds; ++round) {
    timespec t;
    while (!fg_valid(gate)) fg_checkpoint(gate, 0, 10'000'000'000);
    check.push_back(ns_per_call([&] { return fg_valid(gate); }));
    lost += !fg_valid(gate);
    clock.push_back(ns_per_call([&] { return clock_gettime(CLOCK_MONOTONIC, &t); }));
    system_call.push_back(ns_per_call([&] { return syscall(SYS_getppid) < 0; }));
  }
  printf("{\"check_ns\": %.2f, \"clock_ns\": %.2f, \"system_call_ns\": %.2f, \"rounds_lost\": %d, ",
         median(check), median(clock), median(system_call), lost);
  fflush(stdout);
  if (!forbid_system_calls()) return 1;
  long valid = 0;
  for (int i = 0; i < kCalls; ++i) valid += fg_valid(gate);
  const char* end = valid > 0 ? "\"system_calls\": 0}\n" : "\"system_calls\": null}\n";
  ssize_t written = write(1, end, strlen(end));
  _exit(written < 0);
}

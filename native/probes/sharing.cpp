// Commands about memory that several processes use.
#include <spawn.h>
#include <sys/wait.h>

#include <csignal>
#include <cstring>

#include "allocations.h"
#include "commands.h"

extern char** environ;

namespace probe {
namespace {

std::string to_hex(const CUipcMemHandle& handle) {
  std::string text;
  char two[3];
  for (char byte : handle.reserved) {
    snprintf(two, sizeof two, "%02x", static_cast<unsigned char>(byte));
    text += two;
  }
  return text;
}

CUipcMemHandle from_hex(const std::string& text) {
  CUipcMemHandle handle{};
  for (size_t i = 0; i < sizeof handle.reserved && 2 * i + 1 < text.size(); ++i) {
    handle.reserved[i] = static_cast<char>(std::stoi(text.substr(2 * i, 2), nullptr, 16));
  }
  return handle;
}

// Starts this program anew, with these words behind the way.
pid_t start_again(const Options& options, const char* command, const std::string& more) {
  std::string way = options.text("way", "dlsym");
  const char* words[] = {"/proc/self/exe", way.c_str(), command, "wait=0", more.c_str(), nullptr};
  pid_t child = -1;
  posix_spawn(&child, "/proc/self/exe", nullptr, nullptr, const_cast<char**>(words), environ);
  return child;
}

int status_of(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

uint64_t free_bytes() {
  size_t free = 0, total = 0;
  CHECK_CU(cuMemGetInfo_v2, &free, &total);
  return free;
}

}  // namespace

// Takes six tenths of the cap and lets a child open them.
int command_share(const Options& options) {
  Device device;
  size_t cap = options.number("cap", 256 << 20);
  CUdeviceptr address;
  CUipcMemHandle handle;
  CHECK_CU(cuMemAlloc_v2, &address, cap / 10 * 6);
  CHECK_CU(cuIpcGetMemHandle, &handle, address);
  pid_t child = start_again(options, "open", "handle=" + to_hex(handle) + "/" + std::to_string(cap));
  int status = status_of(child);
  Line().add("who", "owner").add("free", free_bytes()).print();
  CHECK_CU(cuMemFree_v2, address);
  return status;
}

int command_open(const Options& options) {
  Device device;
  std::string handle = options.text("handle");
  size_t slash = handle.find('/'), cap = std::stoull(handle.substr(slash + 1));
  CUdeviceptr opened, more, too_much;
  Line line;
  line.add("who", "opener").add("before", free_bytes());
  CHECK_CU(cuIpcOpenMemHandle_v2, &opened, from_hex(handle.substr(0, slash)),
           CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
  line.add("opened", free_bytes());
  line.add("three_tenths", static_cast<int>(cu.cuMemAlloc_v2(&more, cap / 10 * 3)));
  line.add("two_more", static_cast<int>(cu.cuMemAlloc_v2(&too_much, cap / 10 * 2)));
  CHECK_CU(cuIpcCloseMemHandle, opened);
  line.add("closed", free_bytes()).print();
  return 0;
}

// A child takes seven eighths of the cap and is killed: it takes a while until that is known.
int command_leave(const Options& options) {
  constexpr int kPatience = 40;
  size_t bytes = options.number("cap", 256 << 20) / 8 * 7;
  pid_t child = start_again(options, "hold", "bytes=" + std::to_string(bytes));
  int status = status_of(child);
  Device device;
  CUdeviceptr address;
  CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
  int tries = 0;
  uint64_t began = now_ns();
  for (; tries < kPatience && result != CUDA_SUCCESS; ++tries) {
    if (tries > 0) sleep_until(now_ns() + 50'000'000);
    result = cu.cuMemAlloc_v2(&address, bytes);
  }
  Line line;
  line.add("who", "survivor").add("child", status).add("error", static_cast<int>(result));
  line.add("took_ns", now_ns() - began).print();
  return 0;
}

int command_hold(const Options& options) {
  Device device;
  CUdeviceptr address;
  CHECK_CU(cuMemAlloc_v2, &address, options.number("bytes", 1 << 20));
  return raise(SIGKILL);
}

}  // namespace probe

// Commands about memory that several processes use.
#include <spawn.h>
#include <sys/wait.h>

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
  std::string way = options.text("way", "dlsym"), cap_word = "cap=" + std::to_string(cap),
              handle_word = "handle=" + to_hex(handle);
  const char* words[] = {"/proc/self/exe", way.c_str(),         "open", "wait=0",
                         cap_word.c_str(), handle_word.c_str(), nullptr};
  pid_t child;
  if (posix_spawn(&child, "/proc/self/exe", nullptr, nullptr, const_cast<char**>(words), environ) != 0)
    return 1;
  int status;
  waitpid(child, &status, 0);
  Line().add("who", "owner").add("free", free_bytes()).print();
  CHECK_CU(cuMemFree_v2, address);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int command_open(const Options& options) {
  Device device;
  size_t cap = options.number("cap", 256 << 20);
  CUdeviceptr opened, more, too_much;
  Line line;
  line.add("who", "opener").add("before", free_bytes());
  CHECK_CU(cuIpcOpenMemHandle_v2, &opened, from_hex(options.text("handle")),
           CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
  line.add("opened", free_bytes());
  line.add("three_tenths", static_cast<int>(cu.cuMemAlloc_v2(&more, cap / 10 * 3)));
  line.add("two_more", static_cast<int>(cu.cuMemAlloc_v2(&too_much, cap / 10 * 2)));
  CHECK_CU(cuIpcCloseMemHandle, opened);
  line.add("closed", free_bytes()).print();
  return 0;
}

}  // namespace probe

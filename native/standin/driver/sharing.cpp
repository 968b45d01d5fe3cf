// Memory of other processes: a handle says whose arena it lies in and where; the arena is opened through
// /proc, so who may not look into that process gets nothing. It counts once, where it was allocated.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "captures.h"
#include "implementations.h"
#include "memory.h"

namespace standin::driver {
namespace {

constexpr uint64_t kMagic = 0x7374616e64696e49;
constexpr uint64_t kPage = 4096;

struct Ticket {
  uint64_t magic;
  int32_t pid, file;
  uint64_t inode;  // of the arena: pids are used again
  uint64_t offset, size;
};
static_assert(sizeof(Ticket) <= CU_IPC_HANDLE_SIZE);

uint64_t inode_of(int file) {
  struct stat found;
  return fstat(file, &found) == 0 ? found.st_ino : 0;
}

int open_theirs(const Ticket& ticket) {
  char path[64];
  snprintf(path, sizeof(path), "/proc/%d/fd/%d", ticket.pid, ticket.file);
  int file = open(path, O_RDWR | O_CLOEXEC);
  if (file >= 0 && inode_of(file) == ticket.inode) return file;
  if (file >= 0) close(file);
  return -1;
}

Range* opened_already(const Ticket& ticket) {
  for (auto& [base, range] : ranges())
    if (range.origin == Origin::kImported && range.imported_inode == ticket.inode &&
        range.imported_offset == ticket.offset)
      return &range;
  return nullptr;
}

}  // namespace

CUresult ipc_get_mem_handle(CUipcMemHandle* pHandle, CUdeviceptr dptr) {
  CUcontext context;
  TRY(current(&context));
  Range* range = find_range(dptr);
  if (pHandle == nullptr || range == nullptr || range->origin != Origin::kDevice)
    return CUDA_ERROR_INVALID_VALUE;
  uint64_t offset = arena_offset(range->base);
  Ticket ticket = {kMagic, getpid(), arena_file(), inode_of(arena_file()), offset, range->size};
  memset(pHandle, 0, sizeof(*pHandle));
  memcpy(pHandle, &ticket, sizeof(ticket));
  return CUDA_SUCCESS;
}

CUresult ipc_open_mem_handle(CUdeviceptr* pdptr, CUipcMemHandle handle, unsigned int Flags) {
  if (pdptr == nullptr || (Flags & ~static_cast<unsigned int>(CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS)) != 0)
    return CUDA_ERROR_INVALID_VALUE;
  CUcontext context;
  TRY(current(&context));
  TRY(unsafe());
  Ticket ticket;
  memcpy(&ticket, &handle, sizeof(ticket));
  if (ticket.magic != kMagic) return CUDA_ERROR_INVALID_HANDLE;
  if (ticket.pid == getpid()) return CUDA_ERROR_INVALID_CONTEXT;  // a process cannot open its own
  if (Range* range = opened_already(ticket)) {
    ++range->uses;
    return set(pdptr, range->base + ticket.offset % kPage);
  }
  int file = open_theirs(ticket);
  if (file < 0) return CUDA_ERROR_INVALID_HANDLE;
  uint64_t slack = ticket.offset % kPage;
  void* memory = mmap(nullptr, ticket.size + slack, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file,
                      static_cast<off_t>(ticket.offset - slack));
  close(file);
  if (memory == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
  Range range = {
      .origin = Origin::kImported, .base = reinterpret_cast<uint64_t>(memory), .size = ticket.size + slack};
  range.context = context;
  range.imported_inode = ticket.inode;
  range.imported_offset = ticket.offset;
  *pdptr = add_range(range)->base + slack;
  return CUDA_SUCCESS;
}

CUresult ipc_close_mem_handle(CUdeviceptr dptr) {
  Range* range = find_range(dptr);
  if (range == nullptr || range->origin != Origin::kImported) return CUDA_ERROR_INVALID_VALUE;
  if (--range->uses > 0) return CUDA_SUCCESS;
  wait_for_all();
  munmap(reinterpret_cast<void*>(range->base), range->size);
  drop_range(range->base);
  return CUDA_SUCCESS;
}

}  // namespace standin::driver

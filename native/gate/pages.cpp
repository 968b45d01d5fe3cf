// The board and the pages: from descriptors to mappings and back.
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gate_state.h"

namespace fastgate {

void close_all(const int* fds, int count) {
  for (int i = 0; i < count; ++i)
    if (fds[i] > 0) close(fds[i]);
}

namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

// Stands for a page that cannot be mapped: its process holds all SMs and all memory, and has work.
constexpr Page out_of_sight() {
  Page page = {};
  page.word = pack(kHold, 0, 0xffffff);
  page.waiting_for = -1;
  page.demand = 1;
  page.mem_bytes = 1ULL << 62;
  return page;
}
const Page kOutOfSight = out_of_sight();

void* map(int fd, size_t size, int protection) {
  void* at = mmap(nullptr, size, protection, MAP_SHARED, fd, 0);
  return at == MAP_FAILED ? nullptr : at;
}

// Whether a descriptor is still one we were given: the program may have closed it and opened another.
bool is_shared(int fd, size_t size) {
  struct stat status;
  return fd > 0 && fstat(fd, &status) == 0 && static_cast<size_t>(status.st_size) == size &&
         fcntl(fd, F_GET_SEALS) == kSeals;
}

}  // namespace

// Any thread may come first.
const Page* map_page(const Mapping& mapping, int index) {
  int fd = mapping.fds[2 + index];
  void* at = is_shared(fd, sizeof(Page)) ? map(fd, sizeof(Page), PROT_READ) : nullptr;
  if (at == nullptr) return &kOutOfSight;
  const Page* before = nullptr;
  const Page* page = static_cast<const Page*>(at);
  if (__atomic_compare_exchange_n(&mapping.peers[index], &before, page, false, __ATOMIC_ACQ_REL,
                                  __ATOMIC_ACQUIRE))
    return page;
  munmap(at, sizeof(Page));
  return before;
}

// The pages of others follow when they are there: most never are, and mapping all of them would take the most
// time.
bool map_all(Mapping* mapping, const int* fds, int index) {
  *mapping = Mapping();
  memcpy(mapping->fds, fds, sizeof(mapping->fds));
  mapping->index = index;
  mapping->board = static_cast<const Board*>(map(fds[0], sizeof(Board), PROT_READ));
  mapping->page = static_cast<Page*>(map(fds[1], sizeof(Page), PROT_READ | PROT_WRITE));
  bool whole = index >= 0 && index < kCells && mapping->board && mapping->page &&
               mapping->board->magic == kBoardMagic && mapping->board->version == kVersion;
  if (whole) mapping->peers[index] = mapping->page;
  if (!whole) unmap_all(mapping);
  return whole;
}

void unmap_all(Mapping* mapping) {
  auto unmap = [](const void* at, size_t size) {
    if (at != nullptr) munmap(const_cast<void*>(at), size);
  };
  for (const Page* peer : mapping->peers)
    if (peer != mapping->page) unmap(peer, sizeof(Page));
  unmap(mapping->board, sizeof(Board));
  unmap(mapping->page, sizeof(Page));
  for (const int& fd : mapping->fds)
    if (is_shared(fd, &fd == mapping->fds ? sizeof(Board) : sizeof(Page))) close(fd);
  *mapping = Mapping();
}

}  // namespace fastgate

using namespace fastgate;

void fg_forget(fg_gate* g) {
  if (g->successor != nullptr) unmap_all(g->successor);
  for (Handle& end : g->stop_pipe) let_go(&end);
  let_go(&g->socket);
  unmap_all(&g->map);
  free(g);
}

// The board and the pages: from descriptors to mappings and back.
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gate_state.h"

namespace fastgate {

void close_all(const int* fds, int count) {
  for (int i = 0; i < count; ++i)
    if (fds[i] > 0) close(fds[i]);
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
  close_all(mapping->fds, kCells + 2);
  *mapping = Mapping();
}

}  // namespace fastgate

using namespace fastgate;

void fg_forget(fg_gate* g) {
  if (g->successor != nullptr) unmap_all(g->successor);
  close_all(g->stop_pipe, 2);
  if (g->socket >= 0) close(g->socket);
  unmap_all(&g->map);
  free(g);
}

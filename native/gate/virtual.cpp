// The same gate in virtual time: many instances in one thread, a clock that is set, no daemon to talk to.
// Tests and the twin drive it; the rules of who may work when are the same code.
#include "gate_state.h"

namespace fastgate {
namespace {
uint64_t virtual_now = 0;
uint32_t kicks = 0;
uint32_t wakes = 0;
}  // namespace

uint64_t now_ns() { return virtual_now; }
bool read_ticks(uint64_t*) { return false; }
bool ticks_are_steady() { return false; }
void wake(const uint32_t*) { ++wakes; }
void kick(fg_gate*) { ++kicks; }
void leave(fg_gate*) {}
void say(char*, size_t, const char*, const char*) {}
int introduce(int, const char*, const char*, uint64_t, Answer*, int*, char*, size_t) { return -1; }
bool map_all(Mapping*, const int*, int) { return false; }
void unmap_all(Mapping*) {}
void let_go(Handle*) {}
Handle handle_of(int) { return {}; }
const Page* map_page(const Mapping& mapping, int index) { return mapping.peers[index]; }
bool start_keeper(fg_gate*) { return false; }
bool stop_keeper(fg_gate*) { return true; }

}  // namespace fastgate

using namespace fastgate;

FG_API void fg_virtual_set_now(uint64_t now) { virtual_now = now; }

// How often instances have asked for the daemon's attention since the last call.
FG_API uint32_t fg_virtual_kicks() {
  uint32_t count = kicks;
  kicks = 0;
  return count;
}

// How often one instance has woken others since the last call.
FG_API uint32_t fg_virtual_wakes() {
  uint32_t count = wakes;
  wakes = 0;
  return count;
}

// An instance on memory of this process: the board, and the addresses of all kCells pages.
FG_API fg_gate* fg_virtual_open(const void* board, void* const* pages, int index) {
  fg_gate* g = make_gate();
  if (g == nullptr) return nullptr;
  g->map.board = static_cast<const Board*>(board);
  g->map.page = static_cast<Page*>(pages[index]);
  for (int i = 0; i < kCells; ++i) g->map.peers[i] = static_cast<const Page*>(pages[i]);
  g->map.index = index;
  g->map.page->waiting_for = -1;
  return g;
}

// Device memory: what each process of an instance has allocated, and the cap on all of them together.
#include "atoms.h"
#include "gate_state.h"

namespace fastgate {
namespace {

// The pages stay mapped while this lives: the worker may move to others.
struct Staying {
  explicit Staying(fg_gate* g) : gate(g) { pthread_mutex_lock(&g->moving); }
  ~Staying() { pthread_mutex_unlock(&gate->moving); }
  fg_gate* gate;
};

uint64_t used_by_siblings(const fg_gate* g) {
  const Cell* cell = &g->map.board->cell[g->map.index];
  uint64_t others = load(&cell->siblings) & load(&g->map.board->alive) & ~(1ULL << g->map.index);
  uint64_t bytes = 0;
  for (; others; others &= others - 1) bytes += load(&g->map.peers[__builtin_ctzll(others)]->mem_bytes);
  return bytes;
}

uint64_t cap(const fg_gate* g) { return load(&g->map.board->cell[g->map.index].mem_bytes); }

}  // namespace
}  // namespace fastgate

using namespace fastgate;

int fg_charge_memory(fg_gate* g, int64_t bytes) {
  Staying staying(g);
  Page* page = g->map.page;
  uint64_t before = page->mem_bytes;
  if (bytes < 0) {
    uint64_t back = static_cast<uint64_t>(-bytes);
    store(&page->mem_bytes, back < before ? before - back : 0);
    return FG_OK;
  }
  // Claimed first and checked then: of two siblings that ask at once, both may be refused, never both let in.
  uint64_t after = before + static_cast<uint64_t>(bytes), most = cap(g);
  if (after < before || (most != 0 && after > most)) return FG_OVER;
  store(&page->mem_bytes, after);
  full_fence();
  if (most != 0 && after + used_by_siblings(g) > most) {
    store(&page->mem_bytes, before);
    return FG_OVER;
  }
  if (after > page->mem_peak_bytes) store(&page->mem_peak_bytes, after);
  return FG_OK;
}

void fg_memory(fg_gate* g, uint64_t* used_bytes, uint64_t* cap_bytes) {
  Staying staying(g);
  *used_bytes = g->map.page->mem_bytes + used_by_siblings(g);
  *cap_bytes = cap(g);
}

int fg_connected(const fg_gate* g) { return static_cast<int>(load(&g->connected)); }

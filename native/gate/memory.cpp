// Device memory: what each process of an instance has allocated, and the cap on all of them together.
#include "atoms.h"
#include "gate_state.h"

namespace fastgate {
namespace {

// The latest pages, where memory is counted from the moment they are there. They stay mapped while this
// lives: the worker may move to others.
struct Latest {
  explicit Latest(fg_gate* g) : gate(g) {
    pthread_mutex_lock(&g->moving);
    map = g->successor != nullptr ? g->successor : &g->map;
  }
  ~Latest() { pthread_mutex_unlock(&gate->moving); }

  uint64_t used_by_siblings() const {
    uint64_t others = load(&cell().siblings) & load(&map->board->alive) & ~(1ULL << map->index);
    uint64_t bytes = 0;
    for (; others; others &= others - 1) bytes += load(&page_of(*map, __builtin_ctzll(others))->mem_bytes);
    return bytes;
  }
  uint64_t cap() const { return load(&cell().mem_bytes); }
  const Cell& cell() const { return map->board->cell[map->index]; }

  fg_gate* gate;
  const Mapping* map;
};

}  // namespace
}  // namespace fastgate

using namespace fastgate;

int fg_charge_memory(fg_gate* g, int64_t bytes) {
  Latest latest(g);
  Page* page = latest.map->page;
  uint64_t before = page->mem_bytes;
  if (bytes < 0) {
    uint64_t back = static_cast<uint64_t>(-bytes);
    store(&page->mem_bytes, back < before ? before - back : 0);
    return FG_OK;
  }
  // Claimed first and checked then: of two siblings that ask at once, both may be refused, never both let in.
  uint64_t after = before + static_cast<uint64_t>(bytes), most = latest.cap();
  if (after < before || (most != 0 && after > most)) return FG_OVER;
  store(&page->mem_bytes, after);
  full_fence();
  if (most != 0 && after + latest.used_by_siblings() > most) {
    store(&page->mem_bytes, before);
    return FG_OVER;
  }
  if (after > page->mem_peak_bytes) store(&page->mem_peak_bytes, after);
  return FG_OK;
}

void fg_memory(fg_gate* g, uint64_t* used_bytes, uint64_t* cap_bytes) {
  Latest latest(g);
  *used_bytes = latest.map->page->mem_bytes + latest.used_by_siblings();
  *cap_bytes = latest.cap();
}

int fg_connected(const fg_gate* g) { return static_cast<int>(load(&g->connected)); }

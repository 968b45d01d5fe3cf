// The daemon's side of the shared memory: the ordering that Python cannot express, and the layout to compare.
#include <string.h>

#include "gate_state.h"

using namespace fastgate;

void fg_publish(void* board, uint32_t index, const void* content) {
  if (index >= kCells) return;
  Cell* cell = &static_cast<Board*>(board)->cell[index];
  uint32_t seq = __atomic_load_n(&cell->seq, __ATOMIC_RELAXED) | 1;
  __atomic_store_n(&cell->seq, seq, __ATOMIC_RELAXED);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  constexpr size_t skipped = sizeof(cell->seq);
  memcpy(reinterpret_cast<char*>(cell) + skipped, static_cast<const char*>(content) + skipped,
         sizeof(Cell) - skipped);
  __atomic_store_n(&cell->seq, seq + 1, __ATOMIC_RELEASE);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);  // before the caller looks at the instance's word
  wake(&cell->seq);
}

void fg_announce(void* at, uint64_t heartbeat_ns, uint64_t alive, uint64_t wanting, uint32_t hungry) {
  Board* board = static_cast<Board*>(at);
  __atomic_store_n(&board->heartbeat_ns, heartbeat_ns, __ATOMIC_RELEASE);
  __atomic_store_n(&board->wanting, wanting, __ATOMIC_RELEASE);
  __atomic_store_n(&board->hungry, hungry, __ATOMIC_RELEASE);
  __atomic_store_n(&board->alive, alive, __ATOMIC_RELEASE);
}

int fg_read_page(const void* at, void* out) {
  const Page* page = static_cast<const Page*>(at);
  for (int attempt = 0; attempt < 1000; ++attempt) {
    uint32_t before = __atomic_load_n(&page->seq, __ATOMIC_ACQUIRE);
    memcpy(out, page, offsetof(Page, holds));
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (!(before & 1) && __atomic_load_n(&page->seq, __ATOMIC_RELAXED) == before) return 1;
  }
  return 0;
}

#define FG_AT(type, field) static_cast<uint32_t>(offsetof(type, field))
size_t fg_layout(uint32_t* out, size_t capacity) {
  const uint32_t values[] = {
      kVersion,
      kCells,
      kLoans,
      kHolds,
      sizeof(Board),
      sizeof(Cell),
      sizeof(Loan),
      sizeof(Page),
      FG_AT(Board, heartbeat_ns),
      FG_AT(Board, alive),
      FG_AT(Board, wanting),
      FG_AT(Board, hungry),
      FG_AT(Board, cell),
      FG_AT(Cell, flags),
      FG_AT(Cell, sm_offset),
      FG_AT(Cell, loans),
      FG_AT(Cell, mem_bytes),
      FG_AT(Cell, siblings),
      FG_AT(Cell, strangers),
      FG_AT(Page, word),
      FG_AT(Page, hold_start_ns),
      FG_AT(Page, owed_ns),
      FG_AT(Page, hold_count),
      FG_AT(Page, burst_start_ns),
      FG_AT(Page, held_ns),
      FG_AT(Page, fault),
      FG_AT(Page, mem_bytes),
      FG_AT(Page, mem_peak_bytes),
      FG_AT(Page, account),
      FG_AT(Page, holds),
      sizeof(Hello),
      sizeof(Answer),
  };
  size_t count = sizeof(values) / sizeof(values[0]);
  for (size_t i = 0; i < count && i < capacity; ++i) out[i] = values[i];
  return count;
}

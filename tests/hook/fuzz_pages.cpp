// Feeds gates with boards and pages of nonsense: whatever is there, every call returns.
//
// usage: fuzz_pages SEED ROUNDS
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fastgate.h"
#include "layout.h"

using namespace fastgate;

extern "C" {
void fg_virtual_set_now(uint64_t now);
fg_gate* fg_virtual_open(const void* board, void* const* pages, int index);
}

namespace {

uint64_t state;
uint64_t chance() {
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}
uint64_t below(uint64_t bound) { return chance() % bound; }

alignas(64) Board board;
alignas(64) Page pages[kCells];

uint64_t a_time() {
  const uint64_t likely[] = {0, 1, 40'000'000, 1'000'000'000, ~0ULL, 1ULL << 63, chance(), below(80'000'000)};
  return likely[below(8)];
}

void make_nonsense(void* at, size_t size) {
  uint64_t* words = static_cast<uint64_t*>(at);
  for (size_t i = 0; i < size / 8; ++i) words[i] = below(4) ? a_time() : chance();
}

// A cell that makes sense, but for what is then overwritten.
void make_plausible(Cell* cell) {
  cell->flags = kAlive | kCertified;
  cell->window_ns = 40'000'000;
  cell->slot_start_ns = below(20'000'000);
  cell->slot_end_ns = cell->slot_start_ns + below(20'000'000);
  cell->limit_ns = below(40'000'000);
  cell->burst_ns = below(5'000'000);
  cell->sm = 30'000;
  cell->loan_count = static_cast<uint32_t>(below(kLoans + 2));
  cell->siblings = below(2) ? chance() : 0;
  cell->mem_bytes = below(2) ? chance() % 1'000'000 : 0;
  uint64_t* words = reinterpret_cast<uint64_t*>(cell);
  for (uint64_t i = below(3); i > 0; --i) words[below(sizeof(Cell) / 8)] = a_time();
}

void make_world() {
  if (below(2)) {
    make_nonsense(&board, sizeof(board));
    for (Page& page : pages) make_nonsense(&page, sizeof(page));
  } else {
    memset(static_cast<void*>(&board), 0, sizeof(board));
    memset(static_cast<void*>(pages), 0, sizeof(pages));
    for (Cell& cell : board.cell) make_plausible(&cell);
  }
  board.alive = below(2) ? chance() : ~0ULL;
  board.heartbeat_ns = a_time();
  board.lend_valid_ns = a_time();
}

void call_something(fg_gate* gate) {
  fg_wait wait;
  uint64_t used, cap;
  switch (below(9)) {
    case 0:
    case 1:
      fg_try_acquire(gate, a_time(), a_time(), &wait);
      break;
    case 2:
      fg_continue(gate, a_time());
      break;
    case 3:
      fg_continue_at(gate, a_time(), a_time());
      break;
    case 4:
      fg_release(gate, below(2) != 0);
      break;
    case 5:
      fg_valid(gate);
      break;
    case 6:
      fg_report_burst(gate, a_time());
      break;
    case 7:
      fg_charge_memory(gate, static_cast<int64_t>(chance()));
      break;
    default:
      fg_memory(gate, &used, &cap);
  }
}

}  // namespace

int main(int, char** arguments) {
  state = strtoull(arguments[1], nullptr, 10) * 2654435761 + 1;
  long rounds = atol(arguments[2]);
  void* addresses[kCells];
  for (int i = 0; i < kCells; ++i) addresses[i] = &pages[i];
  for (long round = 0; round < rounds; ++round) {
    make_world();
    uint64_t now = below(2) ? 1'000'000'000 + below(1'000'000'000) : chance();
    fg_virtual_set_now(now);
    fg_gate* gate = fg_virtual_open(&board, addresses, static_cast<int>(below(kCells)));
    for (int call = 0; call < 30; ++call) {
      fg_virtual_set_now(now += below(10) ? below(10'000'000) : a_time());
      if (below(6) == 0) make_nonsense(&board.cell[below(kCells)], sizeof(Cell));
      if (below(6) == 0) make_nonsense(&pages[below(kCells)], sizeof(Page) / 20 / 8 * 8);
      call_something(gate);
    }
    free(gate);
  }
  printf("%ld rounds\n", rounds);
}

// What a gate knows, and what the parts of the library need of each other.
#pragma once

#include <pthread.h>

#include "fastgate.h"
#include "handles.h"
#include "layout.h"

namespace fastgate {

// The descriptors and mappings an instance gets from the daemon.
struct Mapping {
  const Board* board = nullptr;
  Page* page = nullptr;
  mutable const Page* peers[kCells] = {};  // mapped when somebody is first there: see page_of
  int fds[kCells + 2] = {};                // board, own page, pages of all cells
  int index = -1;
};

// The processor's counter beside the clock.
struct Counter {
  bool steady = false;         // it runs at one rate
  double ticks_per_ns = 0;     // 0: not measured yet
  uint64_t ticks = 0, ns = 0;  // the reading to compare the next one with
};

fg_gate* make_gate();

// The page of a cell. One that cannot be mapped looks like somebody who holds everything.
const Page* map_page(const Mapping& mapping, int index);
inline const Page* page_of(const Mapping& mapping, int index) {
  const Page* page = __atomic_load_n(&mapping.peers[index], __ATOMIC_ACQUIRE);
  return page != nullptr ? page : map_page(mapping, index);
}

bool map_all(Mapping* mapping, const int* fds, int index);
void unmap_all(Mapping* mapping);
void close_all(const int* fds, int count);

// Registers: on success `fds` holds kCells + 2 descriptors. Returns the socket, or -1 with a sentence in
// `error`.
int introduce(int knocked, const char* path, const char* instance_id, uint64_t timeout_ns, Answer* answer,
              int* fds, char* error, size_t error_size);
bool start_keeper(fg_gate* gate);
bool stop_keeper(fg_gate* gate);  // whether it has ended
void kick(fg_gate* gate);         // there is something to look at
void leave(fg_gate* gate);        // this instance gives up its place

uint64_t now_ns();
bool read_ticks(uint64_t* ticks);  // the processor's own counter, where there is one
bool ticks_are_steady();
void wake(const uint32_t* word);  // all that sleep on it
void say(char* error, size_t error_size, const char* text, const char* detail);

}  // namespace fastgate

struct fg_gate {
  fastgate::Mapping map;
  fastgate::Cell plan =
      {};  // the last cell read whole; plan.seq is the number last seen there, odd if unreadable

  bool holding = false;
  bool loan = false;
  uint64_t loan_end_ns = 0;  // if it is a loan: when the time lent is over
  uint64_t expiry_ns = 0;
  // The same on the processor's counter, which is quicker to read: valid for so long since then; 0: not
  // known.
  uint64_t granted_ticks = 0, valid_ticks = 0;
  fastgate::Counter counter;

  // Accounting. A cycle runs from one own slot's start to the next; windows matter for the limit only.
  int64_t cycle = 0;
  uint64_t cycle_own_ns = 0, cycle_loan_ns = 0;
  int64_t window = 0;
  uint64_t window_used_ns = 0;
  uint64_t stamp_ns = 0;       // of the account that this goes on from
  uint64_t turn_start_ns = 0;  // since when it holds the token, or has let its siblings have it

  // The daemon's socket, kept by a thread of its own.
  char path[108] = {};
  char instance_id[112] = {};
  fastgate::Handle socket;
  fastgate::Handle stop_pipe[2];
  pthread_t keeper = {};
  bool keeper_runs = false;
  uint64_t kicked_ns = 0;
  uint32_t evicted = 0;
  uint32_t connected = 1;  // written by the keeper
  // A new set of pages to move to when no token is held. The worker changes `map`, and both change
  // `successor`, under `moving`.
  fastgate::Mapping* successor = nullptr;
  pthread_mutex_t moving = PTHREAD_MUTEX_INITIALIZER;
};

// What a gate knows, and what the parts of the library need of each other.
#pragma once

#include <pthread.h>

#include "fastgate.h"
#include "layout.h"

namespace fastgate {

// The descriptors and mappings an instance gets from the daemon.
struct Mapping {
  const Board* board = nullptr;
  Page* page = nullptr;
  const Page* peers[kCells] = {};
  int fds[kCells + 2] = {};  // board, own page, pages of all cells
  int index = -1;
};

bool map_all(Mapping* mapping, const int* fds, int index);
void unmap_all(Mapping* mapping);

// Opens a connection, says hello and waits for the answer. On kWelcome `fds` holds kCells + 2 descriptors.
// Returns the socket, or -1 with a sentence in `error`.
int introduce(const char* path, HelloKind kind, const char* instance_id, const Mapping* old,
              uint64_t timeout_ns, Answer* answer, int* fds, char* error, size_t error_size);
bool start_keeper(fg_gate* gate);
void stop_keeper(fg_gate* gate);
void kick(fg_gate* gate);   // there is something to look at
void leave(fg_gate* gate);  // this instance gives up its place

uint64_t now_ns();
bool read_ticks(uint64_t* ticks);  // the processor's own counter, where there is one
bool ticks_are_steady();
void wake(const uint32_t* word);  // all that sleep on it
void say(char* error, size_t error_size, const char* text, const char* detail);

}  // namespace fastgate

struct fg_gate {
  fastgate::Mapping map;
  fastgate::Cell plan;  // the last cell read whole; plan.seq is its sequence number

  bool holding = false;
  bool loan = false;
  uint64_t loan_end_ns = 0;  // if it is a loan: when the time lent is over
  uint64_t expiry_ns = 0;
  uint64_t expiry_ticks = 0;  // the same on the processor's counter, which is quicker to read; 0: not known
  uint64_t ticks_at_open = 0, ns_at_open = 0;

  // Accounting. A cycle runs from one own slot's start to the next; windows matter for the limit only.
  int64_t cycle = 0;
  uint64_t cycle_own_ns = 0, cycle_loan_ns = 0;
  int64_t window = 0;
  uint64_t window_used_ns = 0;

  // The daemon's socket, kept by a thread of its own.
  char path[108] = {};
  char instance_id[112] = {};
  int socket = -1;
  int stop_pipe[2] = {-1, -1};
  pthread_t keeper = {};
  bool keeper_runs = false;
  uint64_t kicked_ns = 0;
  uint32_t evicted = 0;
  fastgate::Mapping* successor = nullptr;  // a new set of pages to move to when no token is held
};

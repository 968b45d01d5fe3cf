// How a device lies in shared memory: indices instead of pointers, words of eight bytes.
#pragma once

#include <pthread.h>

#include "timeline.h"

namespace standin {

constexpr uint64_t kForever = ~0ULL;
constexpr uint64_t kReady = 0x7374616e64696e04;  // "standin" and the version of this layout

constexpr int kProcesses = 64;
constexpr int kQueues = 1024;
constexpr uint64_t kPieces = 1024;      // that a queue holds
constexpr uint64_t kWaits = 256;        // that a queue holds
constexpr uint64_t kRemembered = 4096;  // ends, of a queue
// More than are remembered: who reads without the lock may read one while up to kPieces others are written.
constexpr uint64_t kEnds = kRemembered + kPieces;
constexpr uint64_t kUndos = 65536;
constexpr uint64_t kXids = 64;  // that are remembered

// What a word was before the change that is under way.
struct Undo {
  uint64_t offset;  // of the word in the device
  uint64_t old;
};

struct Process {
  uint64_t present;
  uint64_t generation;
  uint64_t pid;
  uint64_t born;    // start time, for pids are used again; 0: not known
  uint64_t spaces;  // the pid namespace in which it has this pid
  uint64_t sms;
  uint64_t group;
  uint64_t fault;  // the error that it is broken by; 0: none
  uint64_t mem_bytes;
  uint64_t kernels;
  // Usage until since_ns; from then on it grows by these shares of the time.
  uint64_t since_ns;
  double busy_ns;
  double sm_ns;
  double busy_now;
  double sms_now;
};

enum State : uint64_t {
  kFree = 0,
  kIdle,     // has nothing to do
  kBlocked,  // its first piece waits for another queue
  kHost,     // its first piece is the host's
  kRunning,
};

struct Queue {
  uint64_t generation;
  uint64_t state;
  uint64_t process;
  uint64_t closing;
  uint64_t submitted;
  uint64_t finished;
  uint64_t shown;  // `finished`, for who reads without the lock
  uint64_t waits;  // noted
  uint64_t waits_over;

  // The queues that wait for this one, as a list of index + 1; and the least position that one of them needs.
  uint64_t first_waiter;
  uint64_t needed;
  uint64_t next_waiter;
  uint64_t waits_for;

  // Of the piece that runs: at since_ns it had left_ns to go; a nanosecond of that takes `slow` from then on.
  uint64_t slot;    // in the list of what runs
  uint64_t kernel;  // 1: it is one
  uint64_t since_ns;
  uint64_t end_ns;
  double left_ns;
  double slow;
  double sms;        // that it would occupy, alone in its process
  double speed;      // with these, as a fraction of its speed on the whole device
  double bandwidth;  // at full speed
};

struct Xid {
  uint64_t when_ns;
  uint64_t xid, pid;
};

struct Wait {
  uint64_t before;  // the position that waits
  uint64_t other;   // the queue it waits for, as it is known outside
  uint64_t position;
};

struct Body {
  st_work pieces[kPieces];
  uint64_t ends[kEnds];
  Wait waits[kWaits];
};

}  // namespace standin

struct st_device {
  uint64_t stage;  // 0: nothing here; kReady; else pid << 8 | 1 of who is making it
  st_config config;
  pthread_mutex_t mutex;
  uint64_t time_ns;   // of the last change
  uint64_t next_ns;   // when the next piece ends
  uint64_t shown_ns;  // `next_ns`, for who reads without the lock
  uint64_t mem_used;
  uint64_t last_queue;  // that was opened
  uint64_t active;      // processes of which kernels run, as bits
  uint64_t busy_ns;     // in which there were some, until the last time that there were none
  uint64_t busy_since_ns;
  uint64_t failing;  // processes whose fault has yet to be spread, as bits
  uint64_t lost;
  uint64_t xid_count;  // ever logged
  standin::Xid xids[standin::kXids];
  uint64_t running;  // how many queues have a piece that runs, and which
  uint64_t runs[standin::kQueues];
  standin::Process processes[standin::kProcesses];
  standin::Queue queues[standin::kQueues];
  uint64_t undos;
  standin::Undo undo[standin::kUndos];
  standin::Body bodies[standin::kQueues];
};

// Shared memory between the node daemon and the instances on one device.
//
// One board (the daemon writes, instances map it read-only) and one page per process of an instance (that
// process writes, everybody else maps it read-only). src/fastgshare/manager/layout.py mirrors these offsets;
// a test compares. Times are CLOCK_MONOTONIC nanoseconds, SM ranges are milli-percent of the device (100'000
// = all of it).
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastgate {

constexpr uint32_t kBoardMagic = 0x44424746;  // "FGBD"
constexpr uint32_t kHelloMagic = 0x494c4746;  // "FGLI"
constexpr uint16_t kVersion = 3;
constexpr int kCells = 64;
constexpr int kLoans = 8;
constexpr int kHolds = 256;

// A part of every window that others do not use: bursts may start in [start, end) and must end by `until`.
// Void as soon as one of `lenders` (bit mask of cells, the owners of that time) has work itself.
struct Loan {
  uint64_t start_ns, end_ns, until_ns;  // relative to the window's start; until may lie in the next window
  uint64_t lenders;
  uint32_t sm_offset, reserved;
};

enum CellFlags : uint32_t { kAlive = 1, kCertified = 2, kEvicted = 4 };

// What the daemon grants one process of an instance: its slot in every window, and loans. All processes of an
// instance are granted the same, and only one of them may hold a token at a time.
struct alignas(64) Cell {
  uint32_t seq;  // odd while being written; instances sleep on it (futex)
  uint32_t flags;
  uint64_t epoch_ns;  // start of window 0
  uint64_t window_ns;
  uint64_t slot_start_ns, slot_end_ns;  // relative to the window's start; equal: no slot
  uint64_t limit_ns;                    // most time per window, slot and loans together
  uint64_t burst_ns;                    // longest certified burst
  uint32_t sm_offset, sm;
  uint32_t loan_count, reserved;
  Loan loans[kLoans];
  uint64_t mem_bytes;  // cap on device memory; 0: none
  // Bit mask of the cells of the same instance's processes, this one included; 0: it is alone. One that is
  // not alive is of a process that has ended and whose account is still the latest.
  uint64_t siblings;
  // Bit mask of the cells of other trust groups: none of them holds a token while this one does, whatever
  // their SMs.
  uint64_t strangers;
};

struct alignas(64) Board {
  uint32_t magic;
  uint16_t version, cells;
  uint64_t heartbeat_ns;   // last sign of life of the daemon
  uint64_t lend_valid_ns;  // loans hold for so long after a sign of life
  uint64_t alive;          // bit mask of cells that count
  uint64_t wanting;        // bit mask of cells whose work the present loans take into account
  uint32_t hungry;         // 1: somebody with work could use more than it gets
  uint32_t reserved;
  Cell cell[kCells];
};

enum State : uint64_t { kIdle = 0, kIntent = 1, kHold = 2 };

struct Hold {
  uint64_t start_ns;
  uint64_t end_ns;  // lowest bit: 1 if it was a loan
};

// What an instance has used of its time, all of its processes together. Who holds the token writes it, who
// holds it next goes on from there: of an instance's pages the one with the latest stamp counts.
struct Account {
  uint64_t stamp_ns;
  uint64_t cycle_start_ns, own_ns, loan_ns;  // a cycle runs from one own slot's start to the next
  uint64_t window_start_ns, window_used_ns;
};

// What one process says of itself.
struct alignas(64) Page {
  uint32_t magic;
  uint16_t version, index;
  uint32_t seq;             // odd while the counters below are being written
  uint32_t release_seq;     // counts returned tokens; peers sleep on it (futex)
  uint64_t word;            // state | range held; see pack()
  int32_t waiting_for;      // the peer whose work stands in the way, or -1
  uint32_t demand;          // 1: there is work
  uint64_t hold_start_ns;   // of the hold that is not in the ring yet
  uint64_t burst_start_ns;  // of the burst at work; must end within the longest certified burst
  uint64_t charged_ns;      // held_ns counts up to here
  uint64_t demand_since_ns;
  uint64_t held_ns, loan_ns, demand_ns;  // held includes loans; demand counts finished spells
  uint64_t grants;
  uint64_t longest_burst_ns;
  int64_t owed_ns;
  uint64_t expiry_ns;
  uint64_t latency_ns;       // of the last grant: from when it was due to when it was held
  uint64_t hold_count;       // entries ever written to the ring
  uint64_t hold_is_loan;     // of the hold that is not in the ring yet
  uint64_t passed_until_ns;  // it will not begin a burst before then, although its slot goes on
  uint32_t awaits_pass;      // 1: it is owed time and would begin early if an owner passed
  uint32_t fault;  // the driver's error by which its work on the device has failed for good; 0: none
  uint64_t mem_bytes, mem_peak_bytes;  // device memory that this process has allocated
  Account account;
  uint64_t reserved[4];
  Hold holds[kHolds];
};

// State and the SM range [lo, hi) in one word, so that a peer sees both or neither.
constexpr uint64_t pack(State state, uint32_t lo, uint32_t hi) {
  return static_cast<uint64_t>(state) | static_cast<uint64_t>(lo) << 8 | static_cast<uint64_t>(hi) << 32;
}
constexpr uint64_t state_of(uint64_t word) { return word & 0xff; }
constexpr uint32_t lo_of(uint64_t word) { return static_cast<uint32_t>(word >> 8) & 0xffffff; }
constexpr uint32_t hi_of(uint64_t word) { return static_cast<uint32_t>(word >> 32) & 0xffffff; }
constexpr bool overlap(uint64_t a, uint64_t b) { return lo_of(a) < hi_of(b) && lo_of(b) < hi_of(a); }

// First message of an instance on the daemon's socket (SOCK_SEQPACKET). A re-adoption carries the instance's
// descriptors: board, own page, pages of all cells.
enum HelloKind : uint16_t { kRegister = 1, kReadopt = 2 };
struct Hello {
  uint32_t magic;
  uint16_t version, kind;
  uint32_t index;
  uint32_t reserved;
  char instance_id[112];
};

// The daemon's answer. kWelcome carries the descriptors: board, own page (writable), pages of all cells.
enum Status : uint32_t { kWelcome = 1, kAdopted = 2, kRefused = 4 };
struct Answer {
  uint32_t magic;
  uint16_t version, reserved;
  uint32_t status;
  uint32_t index;
  char reason[112];
};

static_assert(sizeof(Loan) == 40 && sizeof(Cell) == 448 && sizeof(Board) == 64 + kCells * sizeof(Cell));
static_assert(sizeof(Page) == 256 + kHolds * sizeof(Hold));
static_assert(sizeof(Hello) == 128 && sizeof(Answer) == 128);

}  // namespace fastgate

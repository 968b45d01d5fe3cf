// The stand-in's device: what runs when.
//
// A test double, not a GPU: kernels take the time that a stated model gives them. A device lives in memory
// that several processes may share, holds no pointers, and has no clock: every call is told the time
// (CLOCK_MONOTONIC nanoseconds in the stand-in driver, virtual time from 1 in predictions). Nothing sleeps.
//
// The model (docs/decisions/0011-the-stand-in-gpu.md says why):
//   - A kernel of B blocks, b of them on an SM at once, runs in waves(s) = ceil(B / (s b)) on the s SMs that
//     its process may use. It takes full_ns waves(s) / waves(all), and occupies min(s, ceil(B / b)) SMs.
//   - What runs at once shares: kernels of one process its SMs, processes the device's, in proportion to what
//     each would occupy. Who gets a part of its SMs progresses at that part of its speed.
//   - A piece uses `bandwidth` times its speed of the memory's bandwidth, as if alone. What the others use
//     slows it by 1 + their sum (not one that uses none itself). So all together never use more than there
//     is, and a neighbour costs something long before that.
//   - Kernels of different groups of processes never run at once, as those of two MPS servers do not, or of
//     processes without MPS: groups that have some share the time evenly, and only pieces of the own group
//     and copies stand in their way. With config.turns every process is a group of its own.
//   - A kernel may be said to fail at its end. Then its process is broken, as a context is: its work is
//     dropped, and it is told the error from then on. So are, with another error, all of its group.
// Times are the same however often somebody asks: only starts and ends of pieces change anything.
//
// All functions may be called from any thread of any process. A process may be killed at any point in them:
// what it was doing happens wholly or not at all. Only one that is stopped inside holds up the others.
#pragma once

#include <cstddef>
#include <cstdint>

#define ST_API extern "C" __attribute__((visibility("default")))

struct st_device;

struct st_config {
  uint32_t sms;
  uint32_t reserved;
  uint64_t mem_bytes;
  uint32_t turns;      // 0: processes of one group run at once, as under MPS; 1: every process is a group
  uint32_t turn_loss;  // of the time that is lost while several take turns, in thousandths
};

enum st_kind : uint32_t {
  ST_KERNEL = 0,  // uses SMs and bandwidth
  ST_COPY = 1,    // uses bandwidth only
  ST_MARK = 2,    // takes no time: an event
  ST_HOST = 3,    // ends when st_finish_host says so: a function on the host
};

// One piece of work of a queue.
struct st_work {
  uint32_t kind;
  uint32_t blocks;         // thread blocks
  uint32_t blocks_per_sm;  // that one SM runs at once
  uint32_t bandwidth;  // share of the memory's that it takes when alone on the whole device, in thousandths
  uint64_t full_ns;    // how long it takes when alone on the whole device; from 2^62: it never ends
  uint32_t fault = 0;  // by what error it fails at its end; 0: it does not. Kernels only.
  uint32_t reserved = 0;
};

struct st_usage {
  uint64_t busy_ns;    // time in which at least one kernel of the process ran
  uint64_t sm_ns;      // SMs used, integrated over time, in SM-nanoseconds
  uint64_t kernels;    // finished
  uint64_t mem_bytes;  // allocated now
  uint32_t pid;
  uint32_t sms;  // that it may use
};

ST_API size_t st_size();
// Makes a device in zeroed memory of st_size() bytes, or takes the one that is there. Null: it is of another
// version.
ST_API st_device* st_create(void* memory, const st_config* config);
ST_API st_device* st_attach(void* memory);  // null: there is none, or one of another version
ST_API void st_describe(st_device* device, st_config* out);

// A process and the SMs it may use at once, in milli-percent of the device (rounded up to whole SMs; 0 or
// more than 100000: all); group 0: one of its own. -1: full (st_reap may help).
ST_API int st_join(st_device* device, uint32_t pid, uint32_t sm_millipercent, uint64_t group, uint64_t now);
// Its work is dropped, its memory is free.
ST_API void st_leave(st_device* device, int process, uint64_t now);
// The same for all processes that have died. Asks the kernel, about those of the caller's pid namespace.
ST_API void st_reap(st_device* device, uint64_t now);

// A queue works off its pieces in order; queues of a process run beside each other. -1: none left.
ST_API int st_open_queue(st_device* device, int process);
// Once it has run out. What is asked of a closed queue is answered until its place is needed for another;
// then st_submit, st_finished and st_ended_ns say ~0.
ST_API void st_close_queue(st_device* device, int queue, uint64_t now);
// Returns the position of the piece in its queue, from 1 without gaps; or 0 while it is full (1024 pieces).
ST_API uint64_t st_submit(st_device* device, int queue, const st_work* work, uint64_t now);
// What is submitted to `queue` from now on starts when `other` has finished `position`. -1: not noted, as the
// queue is full (256 that wait); ask again later, as with st_submit.
ST_API int st_follow(st_device* device, int queue, int other, uint64_t position, uint64_t now);
// Also before the piece is reached: then it takes no time.
ST_API void st_finish_host(st_device* device, int queue, uint64_t position, uint64_t now);

// The last position that is finished, and all before it. A few nanoseconds while nothing ends on the device.
ST_API uint64_t st_finished(st_device* device, int queue, uint64_t now);
// When a position finished; 0: not yet; ~0: forgotten. A queue remembers the last 4096 that finished.
ST_API uint64_t st_ended_ns(st_device* device, int queue, uint64_t position, uint64_t now);
// When it will finish if nothing more is submitted; ~0: not known (work on the host stands before it). If
// more than 64 ends on the device come first: a time later than now at which to ask again.
ST_API uint64_t st_due_ns(st_device* device, int queue, uint64_t position, uint64_t now);
// When the next piece of the device ends if nothing more is submitted; ~0: none runs.
ST_API uint64_t st_next_ns(st_device* device, uint64_t now);

// Memory of the whole device: 0, or -1 and nothing changes if it does not have so much.
ST_API int st_charge(st_device* device, int process, int64_t bytes);
ST_API uint64_t st_mem_free(st_device* device);

// Those that are there; returns how many were written.
ST_API int st_processes(st_device* device, st_usage* out, int capacity, uint64_t now);
ST_API int st_usage_of(st_device* device, int process, st_usage* out, uint64_t now);  // -1: no such process
// Time in which a kernel ran, of whichever process.
ST_API uint64_t st_busy_ns(st_device* device, uint64_t now);

// --- what goes wrong

constexpr uint32_t ST_SPREAD = 719;  // the error of those that a fault spreads to: CUDA_ERROR_LAUNCH_FAILED
constexpr uint32_t ST_LOST = 999;    // of all, once the device is lost: CUDA_ERROR_UNKNOWN
constexpr uint32_t ST_XID_FAULT = 31;

struct st_xid {
  uint64_t when_ns;
  uint32_t xid, pid;  // pid 0: nobody's
};

// The error that a process is broken by; 0: none. A few nanoseconds while nothing ends on the device.
ST_API uint32_t st_fault_of(st_device* device, int process, uint64_t now);
ST_API void st_log_xid(st_device* device, uint32_t xid, uint32_t pid, uint64_t now);
// The device is gone: all work is dropped, everybody is broken, and it stays so.
ST_API void st_lose(st_device* device, uint32_t xid, uint64_t now);
ST_API int st_is_lost(const st_device* device);
// What was logged from position *from on, which advances; the last 64 are remembered. Returns how many were
// written.
ST_API int st_xids(st_device* device, st_xid* out, int capacity, uint64_t* from);

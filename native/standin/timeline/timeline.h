// The stand-in's device: what runs when.
//
// A test double, not a GPU: kernels take the time that a stated model gives them. A device lives in memory that
// several processes may share, holds no pointers, and has no clock: every call is told the time
// (CLOCK_MONOTONIC nanoseconds in the stand-in driver, virtual time in predictions). Nothing sleeps here.
//
// The model (docs/decisions/0013-calibrating-the-stand-in.md). Waves: a kernel with b blocks, m of them on an SM at
// once, takes full_ns on all S SMs in ceil(b / (m S)) waves; on s SMs it takes full_ns x ceil(b / (m s)) / ceil(b /
// (m S)). Contention: while others use the memory too, it takes 1 + (the sum of what they use) times as long, where
// one that got s SMs uses bandwidth / (its slowdown by waves), as if alone. So all together never use more than all
// of the bandwidth, and a neighbour costs something long before that. There is no other constant.
#pragma once

#include <cstddef>
#include <cstdint>

#define ST_API extern "C" __attribute__((visibility("default")))

struct st_device;

struct st_config {
  uint32_t sms;
  uint32_t reserved;
  uint64_t mem_bytes;
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
  uint32_t bandwidth;      // share of the memory bandwidth that it takes when alone on the whole device, in thousandths
  uint64_t full_ns;        // how long it takes when alone on the whole device
};

struct st_usage {
  uint64_t busy_ns;    // time in which at least one kernel of the process ran
  uint64_t sm_ns;      // SMs used, integrated over time, in SM-nanoseconds
  uint64_t kernels;    // finished
  uint64_t mem_bytes;  // allocated now
  uint32_t pid;
  uint32_t sms;        // that it may use
};

ST_API size_t st_size();
// Makes a device in zeroed memory of st_size() bytes; or takes the one that is there.
ST_API st_device* st_create(void* memory, const st_config* config);
ST_API st_device* st_attach(void* memory);  // null: there is none, or one of another version
ST_API void st_describe(st_device* device, st_config* out);

// A process and the SMs it may use at once, in milli-percent of the device (rounded up to whole SMs); -1: full.
ST_API int st_join(st_device* device, uint32_t pid, uint32_t sm_millipercent, uint64_t now);
// Its work is dropped, its memory is free.
ST_API void st_leave(st_device* device, int process, uint64_t now);
// The same for all processes that have died (asks the kernel).
ST_API void st_reap(st_device* device, uint64_t now);

// A queue works off its pieces in order; queues of a process run beside each other. -1: none left.
ST_API int st_open_queue(st_device* device, int process);
ST_API void st_close_queue(st_device* device, int queue, uint64_t now);  // once it has run out
// Returns the position of the piece in its queue (from 1), or 0 while the queue is full.
ST_API uint64_t st_submit(st_device* device, int queue, const st_work* work, uint64_t now);
// What is submitted to `queue` from now on starts when `other` has finished `position`.
ST_API void st_follow(st_device* device, int queue, int other, uint64_t position, uint64_t now);
ST_API void st_finish_host(st_device* device, int queue, uint64_t position, uint64_t now);

// The last position that is finished, and all before it.
ST_API uint64_t st_finished(st_device* device, int queue, uint64_t now);
// When a position finished; 0: not yet. The last 4096 positions of a queue are remembered.
ST_API uint64_t st_ended_ns(st_device* device, int queue, uint64_t position, uint64_t now);
// When it will finish if nothing more is submitted; ~0: not known (work on the host stands before it).
ST_API uint64_t st_due_ns(st_device* device, int queue, uint64_t position, uint64_t now);

// Memory of the whole device: 0, or -1 and nothing changes if it does not have so much.
ST_API int st_charge(st_device* device, int process, int64_t bytes);
ST_API uint64_t st_mem_free(st_device* device);

ST_API int st_processes(st_device* device, st_usage* out, int capacity, uint64_t now);  // those that are there
ST_API int st_usage_of(st_device* device, int process, st_usage* out, uint64_t now);

// The token client: C ABI of libfastgate.so.
//
// An instance opens a gate, and then, on one worker thread: acquires a token for a burst of device work,
// works, continues or returns it. While a token is valid a check costs no system call. No function throws or
// exits.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef FASTGATE_INSIDE  // as a part of another library
#define FG_API extern "C" __attribute__((visibility("hidden")))
#else
#define FG_API extern "C" __attribute__((visibility("default")))
#endif

struct fg_gate;

enum fg_result {
  FG_OK = 0,
  FG_TIMEOUT = 1,
  FG_OVER = 3,      // the memory cap does not allow it
  FG_EVICTED = -1,  // the daemon has taken this instance off the device
  FG_MISUSE = -2,   // acquire while holding, or continue while not
};

// Registers with the daemon at `socket_path`; waits up to `timeout_ns` to be admitted.
// Returns null and writes one sentence to `error` if that fails.
FG_API fg_gate* fg_open(const char* socket_path, const char* instance_id, uint64_t timeout_ns, char* error,
                        size_t error_size);
// The same in two steps, so that the daemon answers while the program does other things: fg_knock says who is
// there and returns a descriptor, or -1; fg_enter waits for the answer on it (-1: it knocks itself).
FG_API int fg_knock(const char* socket_path, const char* instance_id);
FG_API fg_gate* fg_enter(int knocked, const char* socket_path, const char* instance_id, uint64_t timeout_ns,
                         char* error, size_t error_size);
FG_API void fg_close(fg_gate* gate);
// In the child of a fork: lets go of the parent's gate, which stays as it is.
FG_API void fg_forget(fg_gate* gate);

// Blocks until a burst of about `burst_ns` may start (0: work that can stop at any moment).
FG_API int fg_acquire(fg_gate* gate, uint64_t burst_ns, uint64_t timeout_ns);

// One step of fg_acquire, without sleeping: FG_TIMEOUT fills in what to wait for. `requested_ns`
// (CLOCK_MONOTONIC) is when the work began to wait; grant latency counts from there.
struct fg_wait {
  uint64_t until_ns;  // look again then, or when the daemon changes the plan
  int peer;           // or, if >= 0, when that peer returns its token
};
FG_API int fg_try_acquire(fg_gate* gate, uint64_t burst_ns, uint64_t requested_ns, fg_wait* wait);

// Between two bursts: FG_OK if the next may start under the same hold, FG_TIMEOUT if the token must be
// returned.
FG_API int fg_continue(fg_gate* gate, uint64_t burst_ns);
// The same for a burst that is to start later, behind work that was given to the device already.
FG_API int fg_continue_at(fg_gate* gate, uint64_t burst_ns, uint64_t start_ns);

// fg_continue, or else returns the token and acquires the next one.
FG_API int fg_checkpoint(fg_gate* gate, uint64_t burst_ns, uint64_t timeout_ns);

// Says that what this process does on the device has failed for good, by this error of the driver. It is told
// the daemon, which may end the process. The first counts.
FG_API void fg_fault(fg_gate* gate, uint32_t error);

// Returns the token; `more` says that further work is waiting already.
FG_API void fg_release(fg_gate* gate, int more);

// 1 while the token held is valid. The fast path: one clock read, no system call.
FG_API int fg_valid(const fg_gate* gate);

// Sleeps while the token is valid: work that can stop at any moment, but does nothing.
FG_API void fg_hold(fg_gate* gate);

// So much of the present hold was lost: the device idled although there was work, for who had to be woken. In
// the own slot it does not count as received.
FG_API void fg_excuse(fg_gate* gate, uint64_t idle_ns);

FG_API void fg_report_burst(fg_gate* gate, uint64_t burst_ns);
FG_API uint64_t fg_expiry_ns(const fg_gate* gate);
FG_API uint64_t fg_latency_ns(const fg_gate* gate);

FG_API int fg_is_loan(const fg_gate* gate);    // 1 while the token held is a loan
FG_API int fg_connected(const fg_gate* gate);  // 1 while the daemon is there

// Device memory, from any thread. Counts `bytes` (negative: gives them back) unless that would exceed the cap
// of the instance, all of its processes together: then FG_OVER, and nothing has changed.
FG_API int fg_charge_memory(fg_gate* gate, int64_t bytes);
FG_API void fg_memory(fg_gate* gate, uint64_t* used_bytes,
                      uint64_t* cap_bytes);  // of the instance; cap 0: none

// Sizes and offsets of the shared structures, so that other languages can check their mirror of them.
FG_API size_t fg_layout(uint32_t* out, size_t capacity);

// For the daemon's side. The board belongs to the caller.
//
// Writes a cell's content (its seq is ignored) so that readers see all or nothing of it, and wakes its
// instance.
FG_API void fg_publish(void* board, uint32_t index, const void* cell);
// Sign of life and masks; see layout.h.
FG_API void fg_announce(void* board, uint64_t heartbeat_ns, uint64_t alive, uint64_t wanting,
                        uint32_t hungry);
// Copies a page's head (what lies before the ring of holds), whole; 0 if its writer died in the middle.
FG_API int fg_read_page(const void* page, void* out);

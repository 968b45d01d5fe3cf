// Replays in virtual time: programs that play kernel traces, many at once, on one device of the stand-in.
//
// What native/probes/replay.cpp does in real time through a driver happens here on a clock that jumps, in one
// thread: a host that works, launches and waits, request after request, and a gate in front of every launch.
// Who may pass the gate when is decided outside. Equal inputs, equal events.
#pragma once

#include "../timeline/timeline.h"

struct rp_stage;

enum rp_kind : uint32_t {
  RP_HOST = 0,    // the host works for host_ns
  RP_LAUNCH = 1,  // the same, then it launches `kernel`
  RP_SYNC = 2,    // it waits until all that it launched has ended
};

struct rp_step {
  uint32_t kind;
  uint32_t kernel;
  uint64_t host_ns;
};

struct rp_kernel {
  uint32_t blocks, blocks_per_sm, bandwidth, reserved;
  uint64_t full_ns;
};

enum rp_event_kind : uint32_t {
  RP_REACHED = 0,  // the time asked for has come
  RP_WANTS = 1,    // a replay stands before its gate
  RP_IDLE = 2,  // a replay that has a permit has had no work on the device for as long as it is watched for
};

struct rp_event {
  uint64_t at_ns;
  uint64_t burst_ns;  // RP_WANTS: how long the launch it stands at took when it was last seen to end
  int32_t replay;
  uint32_t kind;
};

// turns: processes never run at once, as without MPS; see st_config.
ST_API rp_stage* rp_open(uint32_t sms, uint32_t turns, uint64_t now);
ST_API void rp_close(rp_stage* stage);

// A replay of `steps`, over and over. Host times vary from request to request by up to `spread` thousandths,
// as `seed` says. Returns its number, or -1 if the device has no room.
ST_API int rp_add(rp_stage* stage, uint32_t sm_millipercent, const rp_step* steps, uint32_t step_count,
                  const rp_kernel* kernels, uint32_t kernel_count, uint32_t spread, uint64_t seed);

// Launches may pass until then. With a depth, only what will have ended by then, and not before less than
// `depth_ns` of work is left on the device; but the one that it stands at the gate with passes in any case.
ST_API void rp_permit(rp_stage* stage, int replay, uint64_t until_ns, uint64_t depth_ns);
// Says once per idle time when there was no work on the device for so long, ~0: never (as at first). At the
// gate it is said as soon as there is none.
ST_API void rp_watch(rp_stage* stage, int replay, uint64_t idle_ns);

// Lets time pass up to `until_ns` or to the next event.
ST_API void rp_run(rp_stage* stage, uint64_t until_ns, rp_event* event);

ST_API int rp_busy(rp_stage* stage, int replay);                 // 1: it has work on the device
ST_API uint64_t rp_requests(const rp_stage* stage, int replay);  // finished
ST_API void rp_usage(rp_stage* stage, int replay, st_usage* out);

// Virtual programs: what each does next, and whose turn it is.
#include "replays.h"

#include <stdlib.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <vector>

namespace standin {
namespace {

constexpr uint64_t kForever = ~0ULL;

enum class State { kHost, kGate, kFull, kSync };
enum class Pass { kYes, kDeep, kNo };

// A launch whose end has not been seen.
struct Launched {
  uint32_t kernel;
  uint64_t at_ns, cost_ns;
};

struct Replay {
  int process = -1, queue = -1;
  std::vector<rp_step> steps;
  std::vector<st_work> works;
  std::vector<uint64_t> cost_ns;  // by kernel: how long it took last
  std::deque<Launched> pending;
  uint64_t seen = 0, seen_end_ns = 0;  // pieces whose ends have been seen, and the last end
  uint64_t position = 0;               // of the last launch
  size_t step = 0;
  State state = State::kHost;
  uint64_t at_ns = 0;  // kHost: when it has done its host's part of the step
  double pace = 1;     // of the host, in this request
  uint64_t random = 0, requests = 0;
  double spread = 0;
  uint64_t until_ns = 0, depth_ns = 0, watched_ns = kForever;
  bool asked = false, one_more = false, idle_said = true;
  uint64_t ahead_ns = 0;  // of what is pending, by what it took last
};

uint64_t next_random(uint64_t* state) {
  uint64_t x = *state += 0x9e3779b97f4a7c15ULL;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
  return x ^ x >> 31;
}

struct Free {
  void operator()(void* memory) const { free(memory); }
};

}  // namespace
}  // namespace standin

using namespace standin;

struct rp_stage {
  std::unique_ptr<void, Free> memory;
  st_device* device = nullptr;
  uint64_t now = 0;
  std::vector<Replay> replays;

  void begin_step(Replay* r);
  Pass may_pass(Replay* r);
  bool stand_at_gate(Replay* r, rp_event* event);
  void launch(Replay* r);
  bool act(Replay* r, rp_event* event);
  uint64_t end_of(Replay* r);
  void see_ends(Replay* r);
  bool busy(Replay* r) { return st_finished(device, r->queue, now) < r->position; }
  uint64_t next_of(Replay* r);
  uint64_t idle_at(Replay* r);
  int32_t number_of(const Replay* r) const { return static_cast<int32_t>(r - replays.data()); }
};

// The host starts on its part of the step.
void rp_stage::begin_step(Replay* r) {
  if (r->step == r->steps.size()) {
    r->step = 0;
    ++r->requests;
    double chance = static_cast<double>(next_random(&r->random) >> 11) * 0x1p-53;
    r->pace = 1 + r->spread * (2 * chance - 1);
  }
  r->state = State::kHost;
  r->at_ns = now + static_cast<uint64_t>(static_cast<double>(r->steps[r->step].host_ns) * r->pace);
}

void rp_stage::see_ends(Replay* r) {
  uint64_t finished = st_finished(device, r->queue, now);
  while (r->seen < finished) {
    Launched launched = r->pending.front();
    r->pending.pop_front();
    r->ahead_ns -= launched.cost_ns;
    uint64_t end = st_ended_ns(device, r->queue, ++r->seen, now);
    r->cost_ns[launched.kernel] = end - std::max(launched.at_ns, r->seen_end_ns);
    r->seen_end_ns = end;
  }
}

// When all that it launched will have ended, by how long it took last; as the hook reckons.
uint64_t rp_stage::end_of(Replay* r) {
  see_ends(r);
  if (r->pending.empty()) return now;
  return std::max(now, std::max(r->seen_end_ns, r->pending.front().at_ns) + r->ahead_ns);
}

Pass rp_stage::may_pass(Replay* r) {
  if (now >= r->until_ns) return Pass::kNo;
  if (r->depth_ns == 0 || r->one_more) return Pass::kYes;
  uint64_t end = end_of(r);
  if (end + r->cost_ns[r->steps[r->step].kernel] > r->until_ns) return Pass::kNo;
  return end - now < r->depth_ns ? Pass::kYes : Pass::kDeep;
}

void rp_stage::launch(Replay* r) {
  see_ends(r);
  uint32_t kernel = r->steps[r->step].kernel;
  uint64_t position = st_submit(device, r->queue, &r->works[kernel], now);
  if (position == 0) {
    r->state = State::kFull;
    return;
  }
  r->position = position;
  r->pending.push_back({kernel, now, r->cost_ns[kernel]});
  r->ahead_ns += r->cost_ns[kernel];
  r->idle_said = r->one_more = false;
  ++r->step;
  begin_step(r);
}

// Passes, or waits, or (true) asks for a permit.
bool rp_stage::stand_at_gate(Replay* r, rp_event* event) {
  Pass pass = may_pass(r);
  if (pass == Pass::kYes) {
    launch(r);
    return false;
  }
  r->state = State::kGate;
  if (pass == Pass::kDeep || r->asked) return false;
  r->asked = true;
  see_ends(r);
  *event = {now, r->cost_ns[r->steps[r->step].kernel], number_of(r), RP_WANTS};
  return true;
}

// What a replay does now that its time has come. True: there is an event.
bool rp_stage::act(Replay* r, rp_event* event) {
  if (now >= idle_at(r)) {
    r->idle_said = true;
    *event = {now, 0, number_of(r), RP_IDLE};
    return true;
  }
  if (r->state == State::kFull) {
    launch(r);
  } else if (r->state == State::kGate || (r->steps[r->step].kind == RP_LAUNCH && r->state == State::kHost)) {
    return stand_at_gate(r, event);
  } else if (r->steps[r->step].kind == RP_SYNC && busy(r)) {
    r->state = State::kSync;
  } else {
    ++r->step;
    begin_step(r);
  }
  return false;
}

// When its being idle is to be said; ~0: not as long as the device does not finish something.
uint64_t rp_stage::idle_at(Replay* r) {
  if (r->watched_ns == kForever || r->idle_said || busy(r)) return kForever;
  uint64_t since = st_ended_ns(device, r->queue, r->position, now);
  return r->state == State::kGate ? std::max(now, since) : since + r->watched_ns;
}

// When a replay does something next, if the device finishes nothing before.
uint64_t rp_stage::next_of(Replay* r) {
  uint64_t next = idle_at(r);
  switch (r->state) {
    case State::kHost:
      return std::min(next, r->at_ns);
    case State::kSync:
      return busy(r) ? next : now;
    case State::kFull:
      return std::min(next, st_finished(device, r->queue, now) > r->seen ? now : kForever);
    case State::kGate:
      break;
  }
  Pass pass = may_pass(r);
  return pass == Pass::kYes || (pass == Pass::kNo && !r->asked) ? now : next;
}

rp_stage* rp_open(uint32_t sms, uint32_t turns, uint64_t now) {
  auto* stage = new rp_stage();
  stage->memory.reset(calloc(1, st_size()));
  st_config config{};
  config.sms = sms;
  config.mem_bytes = 1;
  config.turns = turns;
  stage->device = stage->memory ? st_create(stage->memory.get(), &config) : nullptr;
  stage->now = now;
  if (stage->device != nullptr) return stage;
  delete stage;
  return nullptr;
}

void rp_close(rp_stage* stage) { delete stage; }

int rp_add(rp_stage* stage, uint32_t sm_millipercent, const rp_step* steps, uint32_t step_count,
           const rp_kernel* kernels, uint32_t kernel_count, uint32_t spread, uint64_t seed) {
  Replay r;
  int number = static_cast<int>(stage->replays.size());
  r.process = st_join(stage->device, static_cast<uint32_t>(number) + 1, sm_millipercent, 1, stage->now);
  if (r.process >= 0) r.queue = st_open_queue(stage->device, r.process);
  if (r.queue < 0) return -1;
  r.steps.assign(steps, steps + step_count);
  for (uint32_t i = 0; i < kernel_count; ++i) {
    const rp_kernel& k = kernels[i];
    r.works.push_back({ST_KERNEL, k.blocks, k.blocks_per_sm, k.bandwidth, k.full_ns});
    r.cost_ns.push_back(k.full_ns);
  }
  r.spread = spread / 1000.0;
  r.random = seed;
  stage->begin_step(&r);
  stage->replays.push_back(std::move(r));
  return number;
}

void rp_permit(rp_stage* stage, int replay, uint64_t until_ns, uint64_t depth_ns) {
  Replay* r = &stage->replays[static_cast<size_t>(replay)];
  r->until_ns = until_ns;
  r->one_more = r->state == State::kGate;
  r->asked = false;
  r->depth_ns = depth_ns;
}

void rp_watch(rp_stage* stage, int replay, uint64_t idle_ns) {
  stage->replays[static_cast<size_t>(replay)].watched_ns = idle_ns;
}

void rp_run(rp_stage* stage, uint64_t until_ns, rp_event* event) {
  for (;;) {
    Replay* first = nullptr;
    uint64_t next = st_next_ns(stage->device, stage->now);
    for (Replay& r : stage->replays) {
      uint64_t at = stage->next_of(&r);
      if (at < next) next = at, first = &r;
    }
    if (next > until_ns) break;
    stage->now = std::max(stage->now, next);
    if (first != nullptr && stage->act(first, event)) return;
  }
  stage->now = std::max(stage->now, until_ns);
  *event = {stage->now, 0, -1, RP_REACHED};
}

int rp_busy(rp_stage* stage, int replay) { return stage->busy(&stage->replays[static_cast<size_t>(replay)]); }

uint64_t rp_requests(const rp_stage* stage, int replay) {
  return stage->replays[static_cast<size_t>(replay)].requests;
}

void rp_usage(rp_stage* stage, int replay, st_usage* out) {
  *out = {};
  st_usage_of(stage->device, stage->replays[static_cast<size_t>(replay)].process, out, stage->now);
}

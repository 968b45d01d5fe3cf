// The model: how fast everything that runs progresses.
#include <math.h>

#include "engine.h"

namespace standin {
namespace {

constexpr double kNeverNs = 4.6e18;  // 2^62: longer than that is not an end

// What the kernels of one process want and get.
struct Party {
  double occupied;  // SMs, if there were no bound
  double share;     // of that, that it gets
  int group;        // which of the scene's
};

// Processes that run at once.
struct Group {
  uint64_t name;
  double wanted = 0;  // SMs
  double demand = 0;  // of bandwidth, of its kernels
};

struct Scene {
  uint64_t present = 0;  // bits of processes
  Party parties[kProcesses];
  Group groups[kProcesses];
  int group_count = 0;
  double turn = 1;    // of the time, that is each group's
  double copies = 0;  // bandwidth that copies ask for
  double kernels = 0;
};

Queue* run_of(st_device* device, uint64_t i) { return &device->queues[device->runs[i]]; }

void count_wishes(st_device* device, Scene* scene) {
  for (uint64_t i = 0; i < device->running; ++i) {
    const Queue* queue = run_of(device, i);
    if (!queue->kernel) {
      scene->copies += queue->bandwidth;
      continue;
    }
    uint64_t bit = 1ULL << queue->process;
    if (!(scene->present & bit)) scene->parties[queue->process] = Party{};
    scene->present |= bit;
    scene->parties[queue->process].occupied += queue->sms;
  }
}

int group_in(Scene* scene, uint64_t name) {
  int at = 0;
  while (at < scene->group_count && scene->groups[at].name != name) ++at;
  if (at == scene->group_count) scene->groups[scene->group_count++].name = name;
  return at;
}

void share_sms(const st_device* device, Scene* scene) {
  double all = device->config.sms;
  for (uint64_t rest = scene->present; rest; rest &= rest - 1) {
    int p = __builtin_ctzll(rest);
    Party* party = &scene->parties[p];
    double cap = static_cast<double>(device->processes[p].sms);
    party->share = party->occupied > cap ? cap / party->occupied : 1;
    party->group = group_in(scene, device->processes[p].group);
    scene->groups[party->group].wanted += party->occupied * party->share;
  }
  if (scene->group_count > 1) scene->turn = (1 - device->config.turn_loss / 1000.0) / scene->group_count;
  for (uint64_t rest = scene->present; rest; rest &= rest - 1) {
    Party* party = &scene->parties[__builtin_ctzll(rest)];
    double wanted = scene->groups[party->group].wanted;
    if (wanted > all) party->share *= all / wanted;
  }
}

double speed_of(const Queue& queue, const Scene& scene) {
  return queue.kernel ? queue.speed * scene.parties[queue.process].share : 1;
}

void count_demands(st_device* device, Scene* scene) {
  for (uint64_t i = 0; i < device->running; ++i) {
    const Queue* queue = run_of(device, i);
    if (!queue->kernel) continue;
    double demand = queue->bandwidth * speed_of(*queue, *scene);
    scene->groups[scene->parties[queue->process].group].demand += demand;
    scene->kernels += demand * scene->turn;
  }
}

// What is asked of the memory while this piece runs, by others than itself.
double others_of(const Queue& queue, const Scene& scene) {
  double own = queue.bandwidth * speed_of(queue, scene);
  if (own == 0) return 0;
  if (!queue.kernel) return fmax(0, scene.kernels + scene.copies - own);
  return fmax(0, scene.groups[scene.parties[queue.process].group].demand + scene.copies - own);
}

void set_rate(Change* change, Queue* queue, const Scene& scene) {
  double turn = queue->kernel ? scene.turn : 1;
  double slow = (1 + others_of(*queue, scene)) / (speed_of(*queue, scene) * turn);
  // Who goes on as before keeps its end: so times hold to the nanosecond.
  if (slow == queue->slow) return;
  double left = queue->left_ns;
  if (queue->slow > 0) left = fmax(0, left - static_cast<double>(change->at - queue->since_ns) / queue->slow);
  double rest = left * slow;
  change->set(&queue->left_ns, left);
  change->set(&queue->since_ns, change->at);
  change->set(&queue->slow, slow);
  uint64_t end = rest >= kNeverNs ? kForever : change->at + static_cast<uint64_t>(rest + 0.5);
  change->set(&queue->end_ns, end);
}

// From here on a process uses that many SMs, in that part of the time.
void set_usage(Change* change, Process* process, double busy, double sms) {
  if (busy == process->busy_now && sms == process->sms_now) return;
  double passed = static_cast<double>(change->at - process->since_ns);
  change->set(&process->busy_ns, process->busy_ns + passed * process->busy_now);
  change->set(&process->sm_ns, process->sm_ns + passed * process->sms_now);
  change->set(&process->since_ns, change->at);
  change->set(&process->busy_now, busy);
  change->set(&process->sms_now, sms);
}

void set_usages(Change* change, const Scene& scene) {
  st_device* device = change->device;
  for (uint64_t rest = scene.present | device->active; rest; rest &= rest - 1) {
    int p = __builtin_ctzll(rest);
    bool present = scene.present >> p & 1;
    const Party& party = scene.parties[p];
    double busy = present ? scene.turn : 0;
    set_usage(change, &device->processes[p], busy, present ? party.occupied * party.share * scene.turn : 0);
  }
  if (device->active == 0 && scene.present != 0) change->set(&device->busy_since_ns, change->at);
  if (device->active != 0 && scene.present == 0)
    change->set(&device->busy_ns, device->busy_ns + change->at - device->busy_since_ns);
  change->set(&device->active, scene.present);
}

uint64_t ceil_div(uint64_t a, uint64_t b) { return (a + b - 1) / b; }

}  // namespace

void measure(const st_config& config, uint64_t sms, const st_work& work, double* occupied, double* speed) {
  uint64_t blocks = work.blocks ? work.blocks : 1;
  uint64_t per_sm = work.blocks_per_sm ? work.blocks_per_sm : 1;
  uint64_t needed = ceil_div(blocks, per_sm);
  *occupied = static_cast<double>(needed < sms ? needed : sms);
  *speed = static_cast<double>(ceil_div(blocks, per_sm * config.sms)) /
           static_cast<double>(ceil_div(blocks, per_sm * sms));
}

void set_rates(Change* change) {
  st_device* device = change->device;
  Scene scene;
  count_wishes(device, &scene);
  share_sms(device, &scene);
  count_demands(device, &scene);
  uint64_t next = kForever;
  for (uint64_t i = 0; i < device->running; ++i) {
    Queue* queue = run_of(device, i);
    set_rate(change, queue, scene);
    if (queue->end_ns < next) next = queue->end_ns;
  }
  set_usages(change, scene);
  change->set(&device->next_ns, next);
}

}  // namespace standin

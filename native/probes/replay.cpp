// Plays a kernel trace through the CUDA driver API, request after request, and says how many it answered.
//
// On a GPU every kernel spins for as long as the trace says, on as many thread blocks; on the stand-in its
// lines in the PTX say how long it takes there. native/standin/replays does the same in virtual time.
#include <dlfcn.h>
#include <sys/prctl.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>

#include "replay_trace.h"

namespace replay {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kWorthSleepingNs = 20'000;  // the host is let run ahead by so much
constexpr uint64_t kHeldUpNs = 100'000;        // a launch that takes longer was kept waiting
constexpr int kVersion = 12000;                // of the functions that are asked for

[[noreturn]] void fail(int status, const std::string& text) {
  fprintf(stderr, "replay: %s\n", text.c_str());
  exit(status);
}

struct Driver {
  decltype(&::cuInit) cuInit;
  decltype(&::cuGetErrorName) cuGetErrorName;
  decltype(&::cuDeviceGet) cuDeviceGet;
  decltype(&::cuDeviceGetName) cuDeviceGetName;
  decltype(&::cuDeviceGetAttribute) cuDeviceGetAttribute;
  decltype(&::cuDevicePrimaryCtxSetFlags_v2) cuDevicePrimaryCtxSetFlags;
  decltype(&::cuDevicePrimaryCtxRetain) cuDevicePrimaryCtxRetain;
  decltype(&::cuCtxSetCurrent) cuCtxSetCurrent;
  decltype(&::cuModuleLoadData) cuModuleLoadData;
  decltype(&::cuModuleGetFunction) cuModuleGetFunction;
  decltype(&::cuStreamCreate) cuStreamCreate;
  decltype(&::cuStreamSynchronize) cuStreamSynchronize;
  decltype(&::cuLaunchKernel) cuLaunchKernel;
} driver;

void check(CUresult result, const char* call) {
  if (result == CUDA_SUCCESS) return;
  const char* name = nullptr;
  if (driver.cuGetErrorName == nullptr || driver.cuGetErrorName(result, &name) != CUDA_SUCCESS) name = "?";
  fail(1, std::string(call) + ": " + name + " (" + std::to_string(result) + ")");
}
#define CALL(function, ...) check(driver.function(__VA_ARGS__), #function)

void find_driver() {
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) fail(1, dlerror());
  using Find = CUresult (*)(const char*, void**, int, cuuint64_t);
  auto find = reinterpret_cast<Find>(dlsym(library, "cuGetProcAddress"));
  if (find == nullptr) fail(1, "the driver is older than 11.3: it has no cuGetProcAddress");
  auto get = [&](const char* name, auto* function) {
    void* found = nullptr;
    if (find(name, &found, kVersion, 0) != CUDA_SUCCESS || found == nullptr)
      fail(1, std::string("the driver has no ") + name);
    *function = reinterpret_cast<std::remove_pointer_t<decltype(function)>>(found);
  };
#define GET(name) get(#name, &driver.name)
  GET(cuInit), GET(cuGetErrorName), GET(cuDeviceGet), GET(cuDeviceGetName), GET(cuDeviceGetAttribute);
  GET(cuDevicePrimaryCtxSetFlags), GET(cuDevicePrimaryCtxRetain), GET(cuCtxSetCurrent), GET(cuModuleLoadData);
  GET(cuModuleGetFunction), GET(cuStreamCreate), GET(cuStreamSynchronize), GET(cuLaunchKernel);
#undef GET
}

// --- the kernels
// -----------------------------------------------------------------------------------------------------

std::string entry_name(const Trace& trace, size_t kernel) {
  std::string name = "trace" + std::to_string(kernel) + "_";
  for (char c : trace.kernels[kernel].name) name += isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
}

std::string ptx_of(const Trace& trace) {
  std::string ptx = ".version 6.4\n.target sm_70\n.address_size 64\n";
  for (size_t i = 0; i < trace.kernels.size(); ++i) {
    const Kernel& k = trace.kernels[i];
    ptx += "//.standin full_ns=" + std::to_string(k.full_ns) +
           " blocks_per_sm=" + std::to_string(k.blocks_per_sm) + " bandwidth=" + std::to_string(k.bandwidth) +
           "\n.visible .entry " + entry_name(trace, i) +
           "(.param .u64 block_ns)\n{\n"
           "  .reg .u64 %now, %end;\n  .reg .pred %more;\n"
           "  ld.param.u64 %end, [block_ns];\n  mov.u64 %now, %globaltimer;\n  add.u64 %end, %end, %now;\n"
           "SPIN:\n  mov.u64 %now, %globaltimer;\n  setp.lt.u64 %more, %now, %end;\n  @%more bra SPIN;\n  "
           "ret;\n}\n";
  }
  return ptx;
}

// A kernel as it is launched. Threads: as many as let no more than blocks_per_sm of its blocks onto an SM (of
// one block an SM, two: a block has at most 1024).
struct Launch {
  CUfunction function = nullptr;
  uint32_t blocks = 1, threads = 1;
  uint64_t block_ns = 0;
};

Launch launch_of(const Kernel& k, CUfunction function, int sms) {
  uint64_t at_once = uint64_t{k.blocks_per_sm} * static_cast<uint64_t>(sms);
  uint64_t waves = (k.blocks + at_once - 1) / at_once;
  uint32_t threads = std::clamp(2048 / k.blocks_per_sm / 32 * 32, 32U, 1024U);
  return {function, k.blocks, threads, k.full_ns / waves};
}

// --- the host
// --------------------------------------------------------------------------------------------------------

uint64_t now_ns() {
  timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return static_cast<uint64_t>(ts.tv_sec) * kSecond + static_cast<uint64_t>(ts.tv_nsec);
}

// The host's work: time that passes. What it is late by it makes up for, as long as it waits for nothing.
class Host {
 public:
  void work(uint64_t ns) {
    at_ns_ += ns;
    if (at_ns_ > now_ns() + kWorthSleepingNs) {
      timespec until{static_cast<time_t>(at_ns_ / kSecond), static_cast<long>(at_ns_ % kSecond)};
      while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == EINTR) {
      }
    }
  }
  void has_waited() { at_ns_ = std::max(at_ns_, now_ns()); }
  void wait_until(uint64_t ns) {
    at_ns_ = std::max(at_ns_, ns);
    work(0);
    has_waited();
  }

 private:
  uint64_t at_ns_ = now_ns();
};

// As native/standin/replays draws it.
uint64_t next_random(uint64_t* state) {
  uint64_t x = *state += 0x9e3779b97f4a7c15ULL;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
  return x ^ x >> 31;
}

// From 0 to less than 1.
double chance(uint64_t* state) { return static_cast<double>(next_random(state) >> 11) * 0x1p-53; }

uint64_t in_ns(double seconds) { return static_cast<uint64_t>(seconds * 1e9); }

class Player {
 public:
  Player(const Trace& trace, uint64_t seed) : trace_(trace), random_(seed) { open(); }
  void answer_one();
  void wait_until(uint64_t ns) { host_.wait_until(ns); }
  const std::string& device() const { return device_; }

 private:
  void open();
  void launch(size_t kernel);

  const Trace& trace_;
  uint64_t random_;
  std::string device_;
  std::vector<Launch> launches_;
  CUstream stream_ = nullptr;
  Host host_;
  double pace_ = 1;
};

void Player::open() {
  find_driver();
  CUdevice device;
  CUcontext context;
  CUmodule module;
  char name[256] = {};
  int sms = 0;
  CALL(cuInit, 0);
  CALL(cuDeviceGet, &device, 0);
  CALL(cuDeviceGetName, name, sizeof(name), device);
  CALL(cuDeviceGetAttribute, &sms, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device);
  CALL(cuDevicePrimaryCtxSetFlags, device, CU_CTX_SCHED_BLOCKING_SYNC);
  CALL(cuDevicePrimaryCtxRetain, &context, device);
  CALL(cuCtxSetCurrent, context);
  CALL(cuModuleLoadData, &module, ptx_of(trace_).c_str());
  CALL(cuStreamCreate, &stream_, CU_STREAM_NON_BLOCKING);
  for (size_t i = 0; i < trace_.kernels.size(); ++i) {
    CUfunction function;
    CALL(cuModuleGetFunction, &function, module, entry_name(trace_, i).c_str());
    launches_.push_back(launch_of(trace_.kernels[i], function, sms));
  }
  device_ = name;
}

void Player::launch(size_t kernel) {
  Launch& l = launches_[kernel];
  void* params[] = {&l.block_ns};
  uint64_t before = now_ns();
  CALL(cuLaunchKernel, l.function, l.blocks, 1, 1, l.threads, 1, 1, 0, stream_, params, nullptr);
  if (now_ns() - before > kHeldUpNs) host_.has_waited();
}

void Player::answer_one() {
  for (const Step& step : trace_.steps) {
    host_.work(static_cast<uint64_t>(static_cast<double>(step.host_ns) * pace_));
    if (step.kind == StepKind::kLaunch) launch(step.kernel);
    if (step.kind == StepKind::kSync) CALL(cuStreamSynchronize, stream_), host_.has_waited();
  }
  pace_ = 1 + trace_.spread * (2 * chance(&random_) - 1);
}

// --- what is asked, and what is said
// -----------------------------------------------------------------------------------

struct Asked {
  std::string trace;
  double seconds = 5;
  uint64_t requests = 0;  // 0: as many as the time allows
  uint64_t seed = 1;
  double settle = 0;  // seconds that do not count, before those that do
  double rate = 0;    // arrivals a second; 0: one request after the other
};

constexpr const char* kUsage =
    "usage: replay TRACE [--seconds S | --requests N] [--seed N] [--settle S] [--rate R]\n"
    "Plays the kernel trace in file TRACE through the CUDA driver, one request after the other, and prints "
    "what it\n"
    "answered as JSON. After one request to warm up, and S seconds to settle: S seconds (default 5), or N "
    "requests.\n"
    "Rate: requests arrive by chance, R a second, and may have to wait in line; each one's latency is "
    "printed.\n"
    "Seed: of host times and "
    "arrivals.\n";

double positive(const char* option, const char* text) {
  char* end = nullptr;
  double value = text == nullptr ? 0 : strtod(text, &end);
  if (text == nullptr || *end != 0 || !(value > 0 && value <= 1e9))
    fail(2,
         std::string(option) + " is " + (text ? text : "missing") + "; allowed: a number above 0 up to 1e9");
  return value;
}

Asked read_arguments(char** argv) {
  Asked asked;
  for (char** at = argv + 1; *at != nullptr; ++at) {
    std::string word = *at;
    if (word == "--help" || word == "-h") {
      fputs(kUsage, stdout);
      exit(0);
    } else if (word == "--seconds" || word == "--requests" || word == "--seed" || word == "--settle" ||
               word == "--rate") {
      double value = positive(word.c_str(), at[1]);
      if (word == "--seconds") asked.seconds = value;
      if (word == "--requests") asked.requests = static_cast<uint64_t>(std::max(1.0, value));
      if (word == "--seed") asked.seed = static_cast<uint64_t>(value);
      if (word == "--settle") asked.settle = value;
      if (word == "--rate") asked.rate = value;
      ++at;
    } else if (word[0] == '-' || !asked.trace.empty()) {
      fail(2, word + " is not known; try replay --help");
    } else {
      asked.trace = word;
    }
  }
  if (asked.trace.empty()) fail(2, "no TRACE is given; try replay --help");
  return asked;
}

double percentile_ms(const std::vector<uint64_t>& sorted, double part) {
  size_t index = static_cast<size_t>(part * static_cast<double>(sorted.size() - 1) + 0.5);
  return static_cast<double>(sorted[index]) / 1e6;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) >= 0x20) out += c;
  }
  return out + "\"";
}

// What a request is: launches, and milliseconds of the host and of the device, each kernel alone on all of
// it.
void describe(const Trace& trace) {
  size_t launches = 0;
  uint64_t host_ns = 0, device_ns = 0;
  for (const Step& step : trace.steps) {
    host_ns += step.host_ns;
    if (step.kind == StepKind::kLaunch) ++launches, device_ns += trace.kernels[step.kernel].full_ns;
  }
  printf("\"launches\": %zu, \"host_ms\": %.6f, \"device_ms\": %.6f, ", launches,
         static_cast<double>(host_ns) / 1e6, static_cast<double>(device_ns) / 1e6);
}

struct Played {
  std::vector<uint64_t> latencies;
  uint64_t passed_ns = 0;
  size_t unanswered = 0;  // arrivals that were left over
};

void list_ms(const std::vector<uint64_t>& latencies) {
  printf("\"latencies_ms\": [");
  for (size_t i = 0; i < latencies.size(); ++i)
    printf("%s%.3f", i == 0 ? "" : ", ", static_cast<double>(latencies[i]) / 1e6);
  printf("], ");
}

void report(const Asked& asked, const Trace& trace, const Player& player, Played played) {
  std::vector<uint64_t>& latencies = played.latencies;
  std::sort(latencies.begin(), latencies.end());
  double seconds = static_cast<double>(played.passed_ns) / 1e9;
  printf("{\"trace\": %s, \"device\": %s, ", quoted(asked.trace).c_str(), quoted(player.device()).c_str());
  describe(trace);
  printf("\"requests\": %zu, \"unanswered\": %zu, \"seconds\": %.3f, \"rps\": %.2f, ", latencies.size(),
         played.unanswered, seconds, static_cast<double>(latencies.size()) / seconds);
  if (asked.rate > 0) list_ms(latencies);
  if (latencies.empty()) latencies.push_back(0);
  printf("\"latency_ms\": {\"p50\": %.3f, \"p90\": %.3f, \"p99\": %.3f, \"max\": %.3f}}\n",
         percentile_ms(latencies, 0.5), percentile_ms(latencies, 0.9), percentile_ms(latencies, 0.99),
         percentile_ms(latencies, 1));
}

Played back_to_back(const Asked& asked, Player* player) {
  Played played;
  uint64_t start = now_ns(), now = start;
  for (uint64_t settled = start + in_ns(asked.settle); now < settled; now = now_ns()) player->answer_one();
  start = now;
  uint64_t end = start + in_ns(asked.seconds);
  while (asked.requests != 0 ? played.latencies.size() < asked.requests : now < end) {
    uint64_t began = now;
    player->answer_one();
    now = now_ns();
    played.latencies.push_back(now - began);
  }
  played.passed_ns = now - start;
  return played;
}

// Arrivals do not wait for answers: what a request waits in line for is part of its latency.
Played as_they_arrive(const Asked& asked, Player* player) {
  Played played;
  uint64_t random = asked.seed, arrives = now_ns(), from = arrives + in_ns(asked.settle);
  uint64_t end = from + in_ns(asked.seconds);
  auto next = [&] { return arrives + in_ns(-std::log(1 - chance(&random)) / asked.rate); };
  auto wanted = [&] {
    return asked.requests != 0 ? played.latencies.size() < asked.requests : arrives < end;
  };
  for (; wanted() && (asked.requests != 0 || now_ns() < end); arrives = next()) {
    player->wait_until(arrives);
    player->answer_one();
    if (arrives >= from) played.latencies.push_back(now_ns() - arrives);
  }
  played.passed_ns = asked.requests != 0 ? now_ns() - std::min(from, now_ns()) : end - from;
  for (; asked.requests == 0 && arrives < end; arrives = next()) ++played.unanswered;
  return played;
}

int play(char** argv) {
  Asked asked = read_arguments(argv);
  Trace trace;
  std::string error;
  if (!read_trace(asked.trace, &trace, &error)) fail(2, error);
  prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
  Player player(trace, asked.seed);
  player.answer_one();
  report(asked, trace, player,
         asked.rate > 0 ? as_they_arrive(asked, &player) : back_to_back(asked, &player));
  return 0;
}

}  // namespace
}  // namespace replay

int main(int, char** argv) { return replay::play(argv); }

// A device set up for launching kernels that last as long as they are told.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "calls.h"

namespace probe {

constexpr size_t kKernels = 4;

// The first error of a probe's own calls ends it: that is a finding, and the suite reports it.
struct Failure {
  std::string call;
  CUresult error;
};
void check(CUresult result, const char* call);
#define CHECK_CU(function, ...) probe::check(probe::cu.function(__VA_ARGS__), #function)

uint64_t now_ns();              // CLOCK_MONOTONIC
void sleep_until(uint64_t ns);  // CLOCK_MONOTONIC

// Contexts, the first made current, and in each some kernels spin(ns) that are all alike.
struct Device {
  explicit Device(int contexts = 1);
  CUdevice device = 0;
  std::vector<CUcontext> contexts;
  std::vector<std::array<CUfunction, kKernels>> spins;  // of each context
  CUfunction spin() const { return spins[0][0]; }
  void enter(size_t context) const;
};

}  // namespace probe

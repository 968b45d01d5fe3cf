// Images of programs: what the stand-in needs to know of them, which is little: names, sizes, and what
// kernels cost.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "api.h"

namespace standin::driver {

struct Parameter {
  size_t offset = 0, size = 0;
};

// What a kernel costs, as `//.standin key=value ...` before its .entry says.
struct Cost {
  uint64_t full_ns = 0;        // on the whole device
  int full_from = -1;          // the parameter that says it instead; -1: none
  uint32_t blocks_per_sm = 0;  // 0: as the block's size lets it
  uint32_t bandwidth = 300;    // in thousandths
  uint32_t fault = 0;          // the error by which it fails at its end; 0: it does not
  bool described = false;
};

struct KernelImage {
  std::string name;
  std::vector<Parameter> params;
  bool params_known = true;
  Cost cost;
  uint32_t max_threads = 1024;
  uint32_t shared_bytes = 0;
};

struct Variable {
  std::string name;
  size_t size = 0;
  std::vector<std::byte> initial;  // what it begins with; zeroes where this is shorter
  bool managed = false;
};

struct Image {
  std::vector<KernelImage> kernels;
  std::vector<Variable> variables;
  bool any_name = false;  // it could not be read to the end: every name is believed to be in it
  int ptx_version = 80, binary_version = 90;
};

// Reads an image of any kind; `size` 0: the image says its size itself.
CUresult read_image(const void* data, size_t size, Image* out);

CUresult read_ptx(std::string_view text, Image* out);
CUresult read_elf(std::string_view data, Image* out);
// `size` 0: as large as it says; then it may be what points to one.
CUresult read_fatbin(const void* data, size_t size, Image* out);

// "" or what is wrong: the key, the value and what is allowed.
std::string read_cost(std::string_view directive, Cost* out);

// One block of LZ4; false: it is not one of this size.
bool decompress(std::string_view packed, size_t size, std::string* out);

constexpr uint32_t kElfMagic = 0x464c457f, kFatbinMagic = 0xba55ed50, kWrapperMagic = 0x466243b1;

}  // namespace standin::driver

// Modules, libraries, functions, kernels.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <string>

#include "contexts.h"
#include "images.h"

namespace standin::driver {

using Kernel = std::shared_ptr<const KernelImage>;

// What a program may set of a function.
struct Tuning {
  int dynamic_shared_bytes = 48 << 10;
  int carveout = -1;
  int cluster_size[3] = {0, 0, 0};
  int non_portable_cluster = 0;
  int scheduling = 0;
  CUfunc_cache cache = CU_FUNC_CACHE_PREFER_NONE;
};

// cuFuncSetBlockShape, cuParamSet...: what cuLaunch launches with.
struct OldLaunch {
  int block[3] = {1, 1, 1};
  unsigned int shared_bytes = 0;
  std::vector<std::byte> params;
};

}  // namespace standin::driver

struct CUfunc_st {
  CUmodule module = nullptr;
  CUkernel kernel = nullptr;  // of a library that it is the function of
  standin::driver::Kernel image;
  standin::driver::Tuning tuning;
  standin::driver::OldLaunch old;
};

struct CUmod_st {
  CUcontext context = nullptr;
  CUlibrary library = nullptr;
  bool any_name = false;
  std::map<std::string, std::unique_ptr<CUfunc_st>> functions;
  std::map<std::string, uint64_t> variables;  // addresses
};

struct CUkern_st {
  CUlibrary library = nullptr;
  standin::driver::Kernel image;
  standin::driver::Tuning tuning;
};

struct CUlib_st {
  standin::driver::Image image;
  std::map<std::string, std::unique_ptr<CUkern_st>> kernels;
  std::map<std::string, uint64_t> managed;
};

namespace standin::driver {

// `library`: that it is the part of in this context; null: none.
CUresult load(CUcontext context, const Image& image, CUlibrary library, CUmodule* out);
// A variable's memory, with what it begins with.
CUresult place_variable(const Variable& variable, CUcontext context, uint64_t* address);
void unload(CUmodule module);
void unload_all(CUcontext context);
CUresult function_of(CUmodule module, const std::string& name, CUfunction* out);
CUresult variable_of(CUmodule module, const char* name, CUdeviceptr* address, size_t* size);
// A function or, as launches take it too, a kernel of a library; in the current context.
CUresult find_function(CUfunction handle, CUfunction* out);
CUresult function_of(CUkernel kernel, CUcontext context, CUfunction* out);
CUresult read_file(const char* path, std::string* out);

CUresult attribute_of(const KernelImage& image, const Tuning& tuning, CUfunction_attribute attribute,
                      int* out);
CUresult set_attribute(Tuning* tuning, CUfunction_attribute attribute, int value);
CUresult parameter_of(const KernelImage& image, size_t index, size_t* offset, size_t* size);

// Blocks of so many threads that one SM runs at once.
uint32_t blocks_per_sm(const KernelImage& image, uint64_t threads, uint64_t dynamic_shared_bytes);

constexpr int kSharedPerSm = 233472, kSharedPerBlock = 49152, kSharedOptin = 232448, kReservedShared = 1024;
constexpr int kRegisters = 65536, kRegistersOfKernel = 32;

}  // namespace standin::driver

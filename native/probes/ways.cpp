// The ways in which programs find the driver's calls.
#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "calls.h"

namespace probe {

Calls cu;

namespace {

using ProcV1 = CUresult (*)(const char*, void**, int, cuuint64_t);
using ProcV2 = CUresult (*)(const char*, void**, int, cuuint64_t, CUdriverProcAddressQueryResult*);
using Entry = int (*)(const char*, void**, unsigned int, unsigned long long, int*);

int asked_version = 0;  // of cuGetProcAddress; 0: found by name

// One way: how to find a symbol, or a name in a version.
struct Finder {
  virtual ~Finder() = default;
  virtual void* find(const char* symbol, const char* name, int version) = 0;
};

bool per_thread(const char* symbol) {
  size_t length = strlen(symbol);
  return length > 5 && strcmp(symbol + length - 5, "_ptsz") == 0;
}

struct ByName : Finder {
  explicit ByName(void* handle) : handle(handle) {}
  void* find(const char* symbol, const char*, int) override { return dlsym(handle, symbol); }
  void* handle;
};

struct ByProc : Finder {
  explicit ByProc(void* function) : function(reinterpret_cast<ProcV1>(function)) {}
  void* find(const char* symbol, const char* name, int version) override {
    cuuint64_t flags = per_thread(symbol) ? CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM : 0;
    void* found = nullptr;
    return function(name, &found, version, flags) == CUDA_SUCCESS ? found : nullptr;
  }
  ProcV1 function;
};

struct ByProc2 : Finder {
  explicit ByProc2(void* function) : function(reinterpret_cast<ProcV2>(function)) {}
  void* find(const char* symbol, const char* name, int version) override {
    cuuint64_t flags = per_thread(symbol) ? CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM
                                          : CU_GET_PROC_ADDRESS_LEGACY_STREAM;
    void* found = nullptr;
    CUdriverProcAddressQueryResult result;
    return function(name, &found, version, flags, &result) == CUDA_SUCCESS ? found : nullptr;
  }
  ProcV2 function;
};

// The runtime library's cudaGetDriverEntryPointByVersion.
struct ByRuntime : Finder {
  explicit ByRuntime(void* function) : function(reinterpret_cast<Entry>(function)) {}
  void* find(const char* symbol, const char* name, int version) override {
    void* found = nullptr;
    int result = 0;
    bool ok =
        function(name, &found, static_cast<unsigned>(version), per_thread(symbol) ? 2 : 1, &result) == 0;
    return ok ? found : nullptr;
  }
  Entry function;
};

// Newer functions have to be asked for in their own version, or nothing could be set up; within_version tells
// which.
void fill(Finder& finder) {
#define CALL(symbol, name, since, until)             \
  cu.symbol = reinterpret_cast<decltype(cu.symbol)>( \
      finder.find(#symbol, name, std::clamp(asked_version, since, until - 1)));
#include "calls.def"
#undef CALL
}

bool fill_by_name(void* handle) {
  ByName finder(handle);
  fill(finder);
  return true;
}

bool fill_linked(const Calls* calls, std::string* why) {
  if (calls == nullptr) *why = "not linked to the driver";
  if (calls != nullptr) cu = *calls;
  return calls != nullptr;
}

bool fill_plugin(int flags, std::string* why) {
  char here[4096] = {};
  ssize_t length = readlink("/proc/self/exe", here, sizeof here - 1);
  std::string path(here, length > 0 ? static_cast<size_t>(length) : 0);
  path = path.substr(0, path.rfind('/') + 1) + "libprobe_plugin.so";
  void* plugin = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | flags);
  if (plugin == nullptr) {
    *why = dlerror();
    return false;
  }
  auto calls = reinterpret_cast<const Calls* (*)()>(dlsym(plugin, "probe_plugin_calls"));
  return fill_linked(calls != nullptr ? calls() : nullptr, why);
}

bool fill_by_proc(const std::string& way, void* handle, std::string* why) {
  bool second = way.starts_with("proc2") || way == "proc-of-proc";
  void* function = handle ? dlsym(handle, second ? "cuGetProcAddress_v2" : "cuGetProcAddress") : nullptr;
  size_t colon = way.find(':');
  asked_version = colon == std::string::npos ? 12000 : atoi(way.c_str() + colon + 1);
  if (function != nullptr && way == "proc-of-proc") {
    function = ByProc2(function).find("cuGetProcAddress_v2", "cuGetProcAddress", asked_version);
  }
  if (function == nullptr) {
    *why = "the driver has no such cuGetProcAddress";
    return false;
  }
  ByProc first(function);
  ByProc2 later(function);
  fill(second ? static_cast<Finder&>(later) : static_cast<Finder&>(first));
  return true;
}

bool fill_by_runtime(std::string* why) {
  void* runtime = dlopen("libcudart.so.13", RTLD_NOW | RTLD_LOCAL);
  void* function = runtime ? dlsym(runtime, "cudaGetDriverEntryPointByVersion") : nullptr;
  if (function == nullptr) {
    *why = "no libcudart.so.13";
    return false;
  }
  asked_version = 12000;
  ByRuntime finder(function);
  fill(finder);
  return true;
}

}  // namespace

bool find_calls(const std::string& way, std::string* why) {
  if (way == "linked") return fill_linked(linked_calls(), why);
  if (way == "next" && linked_calls() != nullptr) return fill_by_name(RTLD_NEXT);
  if (way == "plugin") return fill_plugin(0, why);
  if (way == "deepbind") return fill_plugin(RTLD_DEEPBIND, why);
  if (way == "runtime") return fill_by_runtime(why);
  void* handle = dlopen("libcuda.so.1", RTLD_NOW | (way == "default" ? RTLD_GLOBAL : RTLD_LOCAL));
  if (handle == nullptr) {
    *why = dlerror();
    return false;
  }
  if (way == "default") return fill_by_name(RTLD_DEFAULT);
  if (way == "dlsym") return fill_by_name(handle);
  if (way.starts_with("proc")) return fill_by_proc(way, handle, why);
  *why = "there is no way " + way;
  return false;
}

bool within_version(const std::string& symbol) {
#define CALL(each, name, since, until) \
  if (symbol == #each) return asked_version == 0 || since <= asked_version;
#include "calls.def"
#undef CALL
  return false;
}

}  // namespace probe

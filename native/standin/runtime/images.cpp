// The program's own kernels and variables: nvcc's code registers them before main, they are loaded when first
// used.
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "driver.h"

namespace standin_runtime {
namespace {

struct Managed {
  void** host_pointer;
  const char* name;
};

struct Image {
  void* fat_binary;
  std::vector<Managed> managed;
  CUlibrary library = nullptr;
  bool placed = false;  // the managed variables' pointers are set
};

struct Function {
  Image* image;
  const char* name;
  CUkernel kernel = nullptr;
};

struct Variable {
  Image* image;
  const char* name;
};

struct Images {
  std::mutex mutex;
  std::unordered_map<const void*, Function> functions;
  std::unordered_map<const void*, Variable> variables;
  std::unordered_set<const void*> handles;  // kernels that the program got from us
};

Images& images() {
  static Images* one = new Images;  // programs unregister at the very end
  return *one;
}

// All below: called with the mutex held.

cudaError_t load(Image* image) {
  if (image->library != nullptr) return cudaSuccess;
  return try_call(&Driver::cuLibraryLoadData, &image->library, image->fat_binary, nullptr, nullptr, 0,
                  nullptr, nullptr, 0);
}

cudaError_t place_managed(Image* image) {
  if (image->placed) return cudaSuccess;
  cudaError_t result = load(image);
  for (const Managed& variable : image->managed) {
    CUdeviceptr address = 0;
    if (result == cudaSuccess)
      result = try_call(&Driver::cuLibraryGetManaged, &address, nullptr, image->library, variable.name);
    if (result == cudaSuccess) *variable.host_pointer = reinterpret_cast<void*>(address);
  }
  image->placed = result == cudaSuccess;
  return result;
}

cudaError_t find(Function* function) {
  if (function->kernel != nullptr) return cudaSuccess;
  cudaError_t result = place_managed(function->image);
  if (result != cudaSuccess) return result;
  result = try_call(&Driver::cuLibraryGetKernel, &function->kernel, function->image->library, function->name);
  if (result != cudaSuccess) return cudaErrorInvalidDeviceFunction;
  images().handles.insert(function->kernel);
  return cudaSuccess;
}

template <typename Map>
void forget(Map* map, const Image* image) {
  for (auto each = map->begin(); each != map->end();)
    each = each->second.image == image ? map->erase(each) : std::next(each);
}

Image* image_of(void** handle) { return reinterpret_cast<Image*>(handle); }

}  // namespace

cudaError_t kernel_of(const void* function, CUfunction* out) {
  cudaError_t result = prepare();
  if (result != cudaSuccess) return result;
  std::lock_guard<std::mutex> locked(images().mutex);
  auto registered = images().functions.find(function);
  if (registered != images().functions.end()) {
    result = find(&registered->second);
    // The driver takes a kernel wherever it takes a function.
    *out = reinterpret_cast<CUfunction>(registered->second.kernel);
    return result;
  }
  if (images().handles.count(function) == 0) return cudaErrorInvalidDeviceFunction;
  *out = reinterpret_cast<CUfunction>(const_cast<void*>(function));
  return cudaSuccess;
}

void know_kernel(CUkernel kernel) {
  std::lock_guard<std::mutex> locked(images().mutex);
  images().handles.insert(kernel);
}

cudaError_t variable_of(const void* symbol, CUdeviceptr* address, size_t* size) {
  cudaError_t result = prepare();
  if (result != cudaSuccess) return result;
  std::lock_guard<std::mutex> locked(images().mutex);
  auto registered = images().variables.find(symbol);
  if (registered == images().variables.end()) return cudaErrorInvalidSymbol;
  result = place_managed(registered->second.image);
  if (result != cudaSuccess) return result;
  return try_call(&Driver::cuLibraryGetGlobal, address, size, registered->second.image->library,
                  registered->second.name);
}

}  // namespace standin_runtime

using namespace standin_runtime;

void** __cudaRegisterFatBinary(void* fat_binary) {
  return reinterpret_cast<void**>(new Image{fat_binary, {}, nullptr, false});
}

void __cudaRegisterFatBinaryEnd(void**) {}

void __cudaUnregisterFatBinary(void** handle) {
  Image* image = image_of(handle);
  std::lock_guard<std::mutex> locked(images().mutex);
  forget(&images().functions, image);
  forget(&images().variables, image);
  if (image->library != nullptr) try_call(&Driver::cuLibraryUnload, image->library);
  delete image;
}

// Before a managed variable is touched for the first time.
char __cudaInitModule(void** handle) {
  cudaError_t result = prepare();
  std::lock_guard<std::mutex> locked(images().mutex);
  if (result == cudaSuccess) result = place_managed(image_of(handle));
  keep(result);
  return 1;
}

void __cudaRegisterFunction(void** handle, const char* host, char*, const char* name, int, uint3*, uint3*,
                            dim3*, dim3*, int*) {
  std::lock_guard<std::mutex> locked(images().mutex);
  images().functions[host] = {image_of(handle), name};
}

void __cudaRegisterVar(void** handle, char* host, char*, const char* name, int, size_t, int, int) {
  std::lock_guard<std::mutex> locked(images().mutex);
  images().variables[host] = {image_of(handle), name};
}

void __cudaRegisterManagedVar(void** handle, void** host_pointer, char*, const char* name, int, size_t, int,
                              int) {
  std::lock_guard<std::mutex> locked(images().mutex);
  image_of(handle)->managed.push_back({host_pointer, name});
  images().variables[host_pointer] = {image_of(handle), name};
}

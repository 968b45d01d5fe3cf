// Modules: an image in a context.
#include "modules.h"

#include <algorithm>
#include <cstdio>

#include "handles.h"
#include "implementations.h"
#include "memory.h"

namespace standin::driver {
namespace {

// Managed variables of a library are the same in all contexts.
CUresult add_variable(CUmodule module, const Variable& variable) {
  uint64_t& address = module->variables[variable.name];
  if (variable.managed && module->library != nullptr) {
    address = module->library->managed[variable.name];
    return CUDA_SUCCESS;
  }
  return place_variable(variable, module->context, &address);
}

bool owns(CUmodule module, const std::string& variable) {
  return module->library == nullptr || !module->library->managed.contains(variable);
}

CUfunction add_function(CUmodule module, Kernel image) {
  auto function = std::make_unique<CUfunc_st>();
  function->module = module;
  function->image = std::move(image);
  std::string name = function->image->name;
  return enlist((module->functions[name] = std::move(function)).get());
}

CUresult load_current(const Image& image, CUmodule* out) {
  CUcontext context;
  TRY(current(&context));
  return load(context, image, nullptr, out);
}

}  // namespace

CUresult place_variable(const Variable& variable, CUcontext context, uint64_t* address) {
  Range* range;
  TRY(take(variable.size, variable.managed ? Origin::kManaged : Origin::kVariable, context, &range));
  auto* memory = reinterpret_cast<std::byte*>(range->base);
  size_t given = std::min(variable.initial.size(), variable.size);
  std::copy_n(variable.initial.begin(), given, memory);
  std::fill_n(memory + given, variable.size - given, std::byte{0});
  *address = range->base;
  return CUDA_SUCCESS;
}

CUresult load(CUcontext context, const Image& image, CUlibrary library, CUmodule* out) {
  auto* module = enlist(new CUmod_st);
  module->context = context;
  module->library = library;
  module->any_name = image.any_name;
  context->modules.insert(module);
  for (const KernelImage& kernel : image.kernels) add_function(module, std::make_shared<KernelImage>(kernel));
  for (const Variable& variable : image.variables) {
    CUresult result = add_variable(module, variable);
    if (result == CUDA_SUCCESS) continue;
    unload(module);
    return result;
  }
  *out = module;
  return CUDA_SUCCESS;
}

void unload(CUmodule module) {
  for (auto& [name, address] : module->variables)
    if (Range* range = find_base(address); range != nullptr && owns(module, name)) give(range);
  for (auto& [name, function] : module->functions) all_of<CUfunc_st>().erase(function.get());
  module->context->modules.erase(module);
  std::erase_if(module->context->libraries, [&](const auto& entry) { return entry.second == module; });
  strike(module);
}

void unload_all(CUcontext context) {
  for (CUmodule module : std::set<CUmodule>(context->modules)) unload(module);
}

CUresult function_of(CUmodule module, const std::string& name, CUfunction* out) {
  auto found = module->functions.find(name);
  if (found == module->functions.end() && !module->any_name) return CUDA_ERROR_NOT_FOUND;
  if (found != module->functions.end()) {
    *out = found->second.get();
    return CUDA_SUCCESS;
  }
  auto image = std::make_shared<KernelImage>();
  image->name = name;
  image->params_known = false;
  *out = add_function(module, image);
  return CUDA_SUCCESS;
}

CUresult variable_of(CUmodule module, const char* name, CUdeviceptr* address, size_t* size) {
  auto found = module->variables.find(name);
  if (found == module->variables.end()) return CUDA_ERROR_NOT_FOUND;
  if (address != nullptr) *address = found->second;
  if (size != nullptr) *size = find_base(found->second)->size;
  return CUDA_SUCCESS;
}

CUresult read_file(const char* path, std::string* out) {
  FILE* file = path != nullptr ? fopen(path, "rbe") : nullptr;
  if (file == nullptr) return CUDA_ERROR_FILE_NOT_FOUND;
  char part[16384];
  for (size_t size; (size = fread(part, 1, sizeof(part), file)) > 0;) out->append(part, size);
  fclose(file);
  return CUDA_SUCCESS;
}

CUresult module_load(CUmodule* module, const char* fname) {
  if (module == nullptr || fname == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::string data;
  Image image;
  TRY(read_file(fname, &data));
  TRY(read_image(data.data(), data.size(), &image));
  return load_current(image, module);
}

CUresult module_load_data_ex(CUmodule* module, const void* image, unsigned int numOptions,
                             CUjit_option* options, void** optionValues) {
  if (module == nullptr || image == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (numOptions > 0 && (options == nullptr || optionValues == nullptr)) return CUDA_ERROR_INVALID_VALUE;
  Image read;
  TRY(read_image(image, 0, &read));
  return load_current(read, module);
}

CUresult module_load_data(CUmodule* module, const void* image) {
  return module_load_data_ex(module, image, 0, nullptr, nullptr);
}

CUresult module_load_fat_binary(CUmodule* module, const void* fatCubin) {
  if (module == nullptr || fatCubin == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Image image;
  TRY(read_fatbin(fatCubin, 0, &image));
  return load_current(image, module);
}

CUresult module_unload(CUmodule hmod) {
  if (!alive(hmod)) return CUDA_ERROR_INVALID_HANDLE;
  unload(hmod);
  return CUDA_SUCCESS;
}

CUresult module_get_loading_mode(CUmoduleLoadingMode* mode) { return set(mode, CU_MODULE_EAGER_LOADING); }

CUresult module_get_function(CUfunction* hfunc, CUmodule hmod, const char* name) {
  if (hfunc == nullptr || name == nullptr || *name == 0) return CUDA_ERROR_INVALID_VALUE;
  if (!alive(hmod)) return CUDA_ERROR_INVALID_HANDLE;
  return function_of(hmod, name, hfunc);
}

CUresult module_get_function_count(unsigned int* count, CUmodule mod) {
  if (!alive(mod)) return CUDA_ERROR_INVALID_HANDLE;
  return set(count, mod->functions.size());
}

CUresult module_enumerate_functions(CUfunction* functions, unsigned int numFunctions, CUmodule mod) {
  if (functions == nullptr || numFunctions == 0) return CUDA_ERROR_INVALID_VALUE;
  if (!alive(mod)) return CUDA_ERROR_INVALID_HANDLE;
  unsigned int at = 0;
  for (auto& [name, function] : mod->functions)
    if (at < numFunctions) functions[at++] = function.get();
  return CUDA_SUCCESS;
}

CUresult module_get_global(CUdeviceptr* dptr, size_t* bytes, CUmodule hmod, const char* name) {
  if (name == nullptr || (dptr == nullptr && bytes == nullptr)) return CUDA_ERROR_INVALID_VALUE;
  if (!alive(hmod)) return CUDA_ERROR_INVALID_HANDLE;
  return variable_of(hmod, name, dptr, bytes);
}

}  // namespace standin::driver

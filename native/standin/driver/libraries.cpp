// Libraries: an image that is loaded into each context when it is first used there.
#include "handles.h"
#include "implementations.h"
#include "memory.h"
#include "modules.h"

namespace standin::driver {
namespace {

CUresult module_of(CUlibrary library, CUcontext context, CUmodule* out) {
  auto found = context->libraries.find(library);
  if (found == context->libraries.end()) {
    CUmodule module;
    TRY(load(context, library->image, library, &module));
    found = context->libraries.emplace(library, module).first;
  }
  *out = found->second;
  return CUDA_SUCCESS;
}

CUkernel add_kernel(CUlibrary library, Kernel image) {
  auto kernel = std::make_unique<CUkern_st>();
  kernel->library = library;
  kernel->image = std::move(image);
  std::string name = kernel->image->name;
  return enlist((library->kernels[name] = std::move(kernel)).get());
}

CUresult kernel_of(CUlibrary library, const char* name, CUkernel* out) {
  auto found = library->kernels.find(name);
  if (found != library->kernels.end()) {
    *out = found->second.get();
    return CUDA_SUCCESS;
  }
  if (!library->image.any_name) return CUDA_ERROR_NOT_FOUND;
  auto image = std::make_shared<KernelImage>();
  image->name = name;
  image->params_known = false;
  *out = add_kernel(library, image);
  return CUDA_SUCCESS;
}

CUresult place_managed(CUlibrary library) {
  for (const Variable& variable : library->image.variables) {
    if (!variable.managed) continue;
    TRY(join_shared());
    TRY(place_variable(variable, nullptr, &library->managed[variable.name]));
  }
  return CUDA_SUCCESS;
}

CUresult make_library(Image image, CUlibrary* out) {
  CUlibrary library = enlist(new CUlib_st);
  library->image = std::move(image);
  for (const KernelImage& kernel : library->image.kernels)
    add_kernel(library, std::make_shared<KernelImage>(kernel));
  CUresult result = place_managed(library);
  if (result == CUDA_SUCCESS)
    *out = library;
  else
    library_unload(library);
  return result;
}

bool good_options(const void* names, const void* values, unsigned int count) {
  return count == 0 || (names != nullptr && values != nullptr);
}

CUresult global_of(CUlibrary library, const char* name, CUdeviceptr* address, size_t* size) {
  CUcontext context;
  CUmodule module;
  TRY(current(&context));
  TRY(module_of(library, context, &module));
  return variable_of(module, name, address, size);
}

}  // namespace

CUresult function_of(CUkernel kernel, CUcontext context, CUfunction* out) {
  CUmodule module;
  TRY(module_of(kernel->library, context, &module));
  TRY(function_of(module, kernel->image->name, out));
  (*out)->kernel = kernel;
  return CUDA_SUCCESS;
}

CUresult find_function(CUfunction handle, CUfunction* out) {
  if (alive(handle)) {
    *out = handle;
    return CUDA_SUCCESS;
  }
  auto* kernel = reinterpret_cast<CUkernel>(handle);
  if (!alive(kernel)) return CUDA_ERROR_INVALID_HANDLE;
  CUcontext context;
  TRY(current(&context));
  return function_of(kernel, context, out);
}

CUresult library_load_data(CUlibrary* library, const void* code, CUjit_option* jitOptions,
                           void** jitOptionsValues, unsigned int numJitOptions,
                           CUlibraryOption* libraryOptions, void** libraryOptionValues,
                           unsigned int numLibraryOptions) {
  if (library == nullptr || code == nullptr || !good_options(jitOptions, jitOptionsValues, numJitOptions))
    return CUDA_ERROR_INVALID_VALUE;
  if (numLibraryOptions > 0 && libraryOptions == nullptr) return CUDA_ERROR_INVALID_VALUE;
  (void)libraryOptionValues;  // null for options that are flags
  Image image;
  TRY(read_image(code, 0, &image));
  return make_library(std::move(image), library);
}

CUresult library_load_from_file(CUlibrary* library, const char* fileName, CUjit_option* jitOptions,
                                void** jitOptionsValues, unsigned int numJitOptions,
                                CUlibraryOption* libraryOptions, void** libraryOptionValues,
                                unsigned int numLibraryOptions) {
  if (library == nullptr || fileName == nullptr || !good_options(jitOptions, jitOptionsValues, numJitOptions))
    return CUDA_ERROR_INVALID_VALUE;
  if (numLibraryOptions > 0 && libraryOptions == nullptr) return CUDA_ERROR_INVALID_VALUE;
  (void)libraryOptionValues;
  std::string data;
  Image image;
  TRY(read_file(fileName, &data));
  TRY(read_image(data.data(), data.size(), &image));
  return make_library(std::move(image), library);
}

CUresult library_unload(CUlibrary library) {
  if (!alive(library)) return CUDA_ERROR_INVALID_HANDLE;
  for (CUcontext context : contexts())
    if (auto found = context->libraries.find(library); found != context->libraries.end())
      unload(found->second);
  for (auto& [name, kernel] : library->kernels) all_of<CUkern_st>().erase(kernel.get());
  for (auto& [name, address] : library->managed)
    if (Range* range = find_base(address)) give(range);
  strike(library);
  return CUDA_SUCCESS;
}

CUresult library_get_kernel(CUkernel* pKernel, CUlibrary library, const char* name) {
  if (pKernel == nullptr || name == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!alive(library)) return CUDA_ERROR_INVALID_HANDLE;
  return kernel_of(library, name, pKernel);
}

CUresult library_get_kernel_count(unsigned int* count, CUlibrary lib) {
  if (!alive(lib)) return CUDA_ERROR_INVALID_HANDLE;
  return set(count, lib->kernels.size());
}

CUresult library_enumerate_kernels(CUkernel* kernels, unsigned int numKernels, CUlibrary lib) {
  if (kernels == nullptr || numKernels == 0) return CUDA_ERROR_INVALID_VALUE;
  if (!alive(lib)) return CUDA_ERROR_INVALID_HANDLE;
  unsigned int at = 0;
  for (auto& [name, kernel] : lib->kernels)
    if (at < numKernels) kernels[at++] = kernel.get();
  return CUDA_SUCCESS;
}

CUresult library_get_module(CUmodule* pMod, CUlibrary library) {
  if (pMod == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!alive(library)) return CUDA_ERROR_INVALID_HANDLE;
  CUcontext context;
  TRY(current(&context));
  return module_of(library, context, pMod);
}

CUresult library_get_global(CUdeviceptr* dptr, size_t* bytes, CUlibrary library, const char* name) {
  if (name == nullptr || (dptr == nullptr && bytes == nullptr)) return CUDA_ERROR_INVALID_VALUE;
  if (!alive(library)) return CUDA_ERROR_INVALID_HANDLE;
  return global_of(library, name, dptr, bytes);
}

CUresult library_get_managed(CUdeviceptr* dptr, size_t* bytes, CUlibrary library, const char* name) {
  if (name == nullptr || (dptr == nullptr && bytes == nullptr)) return CUDA_ERROR_INVALID_VALUE;
  if (!alive(library)) return CUDA_ERROR_INVALID_HANDLE;
  auto found = library->managed.find(name);
  if (found == library->managed.end()) return CUDA_ERROR_NOT_FOUND;
  if (dptr != nullptr) *dptr = found->second;
  if (bytes != nullptr) *bytes = find_base(found->second)->size;
  return CUDA_SUCCESS;
}

CUresult library_get_unified_function(void** fptr, CUlibrary library, const char* symbol) {
  if (fptr == nullptr || symbol == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!alive(library)) return CUDA_ERROR_INVALID_HANDLE;
  return CUDA_ERROR_NOT_FOUND;
}

CUresult kernel_get_function(CUfunction* pFunc, CUkernel kernel) {
  if (pFunc == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!alive(kernel)) return CUDA_ERROR_INVALID_HANDLE;
  CUcontext context;
  TRY(current(&context));
  return function_of(kernel, context, pFunc);
}

CUresult kernel_get_library(CUlibrary* pLib, CUkernel kernel) {
  if (!alive(kernel)) return CUDA_ERROR_INVALID_HANDLE;
  return set(pLib, kernel->library);
}

CUresult kernel_get_name(const char** name, CUkernel hfunc) {
  if (!alive(hfunc)) return CUDA_ERROR_INVALID_HANDLE;
  return set(name, hfunc->image->name.c_str());
}

CUresult kernel_get_param_info(CUkernel kernel, size_t paramIndex, size_t* paramOffset, size_t* paramSize) {
  if (!alive(kernel)) return CUDA_ERROR_INVALID_HANDLE;
  return parameter_of(*kernel->image, paramIndex, paramOffset, paramSize);
}

CUresult kernel_get_attribute(int* pi, CUfunction_attribute attrib, CUkernel kernel, CUdevice dev) {
  if (dev != 0) return CUDA_ERROR_INVALID_DEVICE;
  if (!alive(kernel)) return CUDA_ERROR_INVALID_HANDLE;
  return attribute_of(*kernel->image, kernel->tuning, attrib, pi);
}

CUresult kernel_set_attribute(CUfunction_attribute attrib, int val, CUkernel kernel, CUdevice dev) {
  if (dev != 0) return CUDA_ERROR_INVALID_DEVICE;
  if (!alive(kernel)) return CUDA_ERROR_INVALID_HANDLE;
  return set_attribute(&kernel->tuning, attrib, val);
}

CUresult kernel_set_cache_config(CUkernel kernel, CUfunc_cache config, CUdevice dev) {
  if (dev != 0) return CUDA_ERROR_INVALID_DEVICE;
  if (!alive(kernel)) return CUDA_ERROR_INVALID_HANDLE;
  kernel->tuning.cache = config;
  return CUDA_SUCCESS;
}

}  // namespace standin::driver

// Functions: what can be asked of them and set.
#include <cstring>

#include "../identity.h"
#include "handles.h"
#include "implementations.h"
#include "modules.h"

namespace standin::driver {

CUresult attribute_of(const KernelImage& image, const Tuning& tuning, CUfunction_attribute attribute,
                      int* out) {
  switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
      return set(out, image.max_threads);
    case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
      return set(out, image.shared_bytes);
    case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
    case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
    case CU_FUNC_ATTRIBUTE_CACHE_MODE_CA:
    case CU_FUNC_ATTRIBUTE_CLUSTER_SIZE_MUST_BE_SET:
      return set(out, 0);
    case CU_FUNC_ATTRIBUTE_NUM_REGS:
      return set(out, kRegistersOfKernel);
    case CU_FUNC_ATTRIBUTE_PTX_VERSION:
    case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
      return set(out, kMajor * 10 + kMinor);
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
      return set(out, tuning.dynamic_shared_bytes);
    case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
      return set(out, tuning.carveout);
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
      return set(out, tuning.cluster_size[attribute - CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH]);
    case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
      return set(out, tuning.non_portable_cluster);
    case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
      return set(out, tuning.scheduling);
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult set_attribute(Tuning* tuning, CUfunction_attribute attribute, int value) {
  switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
      if (value < 0 || value > kSharedOptin) return CUDA_ERROR_INVALID_VALUE;
      return set(&tuning->dynamic_shared_bytes, value);
    case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
      if (value < -1 || value > 100) return CUDA_ERROR_INVALID_VALUE;
      return set(&tuning->carveout, value);
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
      return set(&tuning->cluster_size[attribute - CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH], value);
    case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
      return set(&tuning->non_portable_cluster, value);
    case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
      return set(&tuning->scheduling, value);
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult parameter_of(const KernelImage& image, size_t index, size_t* offset, size_t* size) {
  if (offset == nullptr || index >= image.params.size()) return CUDA_ERROR_INVALID_VALUE;
  *offset = image.params[index].offset;
  if (size != nullptr) *size = image.params[index].size;
  return CUDA_SUCCESS;
}

CUresult func_get_attribute(int* pi, CUfunction_attribute attrib, CUfunction hfunc) {
  CUfunction function;
  TRY(find_function(hfunc, &function));
  return attribute_of(*function->image, function->tuning, attrib, pi);
}

CUresult func_set_attribute(CUfunction hfunc, CUfunction_attribute attrib, int value) {
  CUfunction function;
  TRY(find_function(hfunc, &function));
  return set_attribute(&function->tuning, attrib, value);
}

CUresult func_set_cache_config(CUfunction hfunc, CUfunc_cache config) {
  CUfunction function;
  TRY(find_function(hfunc, &function));
  function->tuning.cache = config;
  return CUDA_SUCCESS;
}

CUresult func_set_shared_mem_config(CUfunction hfunc, CUsharedconfig config) {
  CUfunction function;
  if (config > CU_SHARED_MEM_CONFIG_EIGHT_BYTE_BANK_SIZE) return CUDA_ERROR_INVALID_VALUE;
  return find_function(hfunc, &function);
}

CUresult func_get_module(CUmodule* hmod, CUfunction hfunc) {
  CUfunction function;
  TRY(find_function(hfunc, &function));
  return set(hmod, function->module);
}

CUresult func_get_name(const char** name, CUfunction hfunc) {
  CUfunction function;
  TRY(find_function(hfunc, &function));
  return set(name, function->image->name.c_str());
}

CUresult func_get_param_info(CUfunction func, size_t paramIndex, size_t* paramOffset, size_t* paramSize) {
  CUfunction function;
  TRY(find_function(func, &function));
  return parameter_of(*function->image, paramIndex, paramOffset, paramSize);
}

CUresult func_is_loaded(CUfunctionLoadingState* state, CUfunction function) {
  if (!alive(function)) return CUDA_ERROR_INVALID_HANDLE;
  return set(state, CU_FUNCTION_LOADING_STATE_LOADED);
}

CUresult func_load(CUfunction function) { return alive(function) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE; }

CUresult func_set_block_shape(CUfunction hfunc, int x, int y, int z) {
  if (!alive(hfunc)) return CUDA_ERROR_INVALID_HANDLE;
  if (x < 1 || y < 1 || z < 1) return CUDA_ERROR_INVALID_VALUE;
  hfunc->old.block[0] = x, hfunc->old.block[1] = y, hfunc->old.block[2] = z;
  return CUDA_SUCCESS;
}

CUresult func_set_shared_size(CUfunction hfunc, unsigned int bytes) {
  if (!alive(hfunc)) return CUDA_ERROR_INVALID_HANDLE;
  hfunc->old.shared_bytes = bytes;
  return CUDA_SUCCESS;
}

CUresult param_set_size(CUfunction hfunc, unsigned int numbytes) {
  if (!alive(hfunc)) return CUDA_ERROR_INVALID_HANDLE;
  if (numbytes > 4096) return CUDA_ERROR_INVALID_VALUE;
  hfunc->old.params.resize(numbytes);
  return CUDA_SUCCESS;
}

CUresult param_setv(CUfunction hfunc, int offset, void* ptr, unsigned int numbytes) {
  if (!alive(hfunc)) return CUDA_ERROR_INVALID_HANDLE;
  if (offset < 0 || ptr == nullptr || numbytes > 4096u ||
      static_cast<unsigned int>(offset) > 4096u - numbytes)
    return CUDA_ERROR_INVALID_VALUE;
  std::vector<std::byte>& params = hfunc->old.params;
  params.resize(std::max<size_t>(params.size(), static_cast<size_t>(offset) + numbytes));
  memcpy(params.data() + offset, ptr, numbytes);
  return CUDA_SUCCESS;
}

CUresult param_seti(CUfunction hfunc, int offset, unsigned int value) {
  return param_setv(hfunc, offset, &value, sizeof(value));
}

CUresult param_setf(CUfunction hfunc, int offset, float value) {
  return param_setv(hfunc, offset, &value, sizeof(value));
}

}  // namespace standin::driver

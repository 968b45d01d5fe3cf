// Linking: what was added last and can be read as an image is the result; nothing is compiled.
#include <cstring>

#include "handles.h"
#include "implementations.h"
#include "modules.h"

struct CUlinkState_st {
  std::string image;
};

namespace standin::driver {
namespace {

bool readable(CUjitInputType type) {
  return type == CU_JIT_INPUT_CUBIN || type == CU_JIT_INPUT_PTX || type == CU_JIT_INPUT_FATBINARY;
}

// PTX ends with a zero, whether its size says so or not; several pieces of PTX are one.
CUresult add_image(CUlinkState state, CUjitInputType type, std::string data) {
  if (!readable(type)) return CUDA_ERROR_NOT_SUPPORTED;
  Image image;
  TRY(read_image(data.c_str(), data.size(), &image));
  if (type != CU_JIT_INPUT_PTX) {
    state->image = std::move(data);
    return CUDA_SUCCESS;
  }
  while (!state->image.empty() && state->image.back() == 0) state->image.pop_back();
  if (!state->image.empty()) state->image += '\n';
  state->image.append(data.c_str());
  state->image.push_back(0);
  return CUDA_SUCCESS;
}

}  // namespace

CUresult link_create(unsigned int numOptions, CUjit_option* options, void** optionValues,
                     CUlinkState* stateOut) {
  if (stateOut == nullptr || (numOptions > 0 && (options == nullptr || optionValues == nullptr)))
    return CUDA_ERROR_INVALID_VALUE;
  *stateOut = enlist(new CUlinkState_st);
  return CUDA_SUCCESS;
}

CUresult link_add_data(CUlinkState state, CUjitInputType type, void* data, size_t size, const char*,
                       unsigned int, CUjit_option*, void**) {
  if (!alive(state)) return CUDA_ERROR_INVALID_HANDLE;
  if (data == nullptr || size == 0) return CUDA_ERROR_INVALID_VALUE;
  return add_image(state, type, std::string(static_cast<const char*>(data), size));
}

CUresult link_add_file(CUlinkState state, CUjitInputType type, const char* path, unsigned int, CUjit_option*,
                       void**) {
  if (!alive(state)) return CUDA_ERROR_INVALID_HANDLE;
  std::string data;
  TRY(read_file(path, &data));
  return add_image(state, type, std::move(data));
}

CUresult link_complete(CUlinkState state, void** cubinOut, size_t* sizeOut) {
  if (!alive(state)) return CUDA_ERROR_INVALID_HANDLE;
  if (cubinOut == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (state->image.empty()) return CUDA_ERROR_NO_BINARY_FOR_GPU;
  *cubinOut = state->image.data();
  if (sizeOut != nullptr) *sizeOut = state->image.size();
  return CUDA_SUCCESS;
}

CUresult link_destroy(CUlinkState state) {
  if (!alive(state)) return CUDA_ERROR_INVALID_HANDLE;
  strike(state);
  return CUDA_SUCCESS;
}

}  // namespace standin::driver

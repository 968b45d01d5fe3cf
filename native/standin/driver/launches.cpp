// Launches of kernels: what is checked, what they cost, and their bodies on the host.
#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "../standin.h"
#include "events.h"
#include "handles.h"
#include "implementations.h"
#include "modules.h"
#include "work.h"

namespace standin::driver {
namespace {

using Params = CUDA_KERNEL_NODE_PARAMS_v3;
using Body = void (*)(const standin_launch*);

std::unordered_map<std::string, Body>& bodies() {
  static auto* all = new std::unordered_map<std::string, Body>;
  return *all;
}

Body body_of(const std::string& kernel) {
  if (bodies().empty()) return nullptr;
  auto found = bodies().find(kernel);
  return found != bodies().end() ? found->second : nullptr;
}

uint64_t threads_of(const Params& p) { return uint64_t{p.blockDimX} * p.blockDimY * p.blockDimZ; }
uint64_t blocks_of(const Params& p) { return uint64_t{p.gridDimX} * p.gridDimY * p.gridDimZ; }

// The function that a node or a launch means: its function, or its kernel in a context.
CUresult function_in(const Params& p, CUfunction* out) {
  if (p.func != nullptr) return find_function(p.func, out);
  if (p.kern == nullptr || !alive(p.kern)) return CUDA_ERROR_INVALID_HANDLE;
  CUcontext context = p.ctx;
  if (context == nullptr) TRY(current(&context));
  if (!is_context(context)) return CUDA_ERROR_INVALID_CONTEXT;
  return function_of(p.kern, context, out);
}

// CU_LAUNCH_PARAM_...: one buffer with everything in it.
const std::byte* buffer_of(void** extra, size_t* size) {
  const std::byte* buffer = nullptr;
  *size = 0;
  for (; extra != nullptr && extra[0] != CU_LAUNCH_PARAM_END; extra += 2) {
    if (extra[0] == CU_LAUNCH_PARAM_BUFFER_POINTER) buffer = static_cast<const std::byte*>(extra[1]);
    if (extra[0] == CU_LAUNCH_PARAM_BUFFER_SIZE) *size = *static_cast<const size_t*>(extra[1]);
  }
  return buffer;
}

size_t size_of_params(const KernelImage& image) {
  return image.params.empty() ? 0 : image.params.back().offset + image.params.back().size;
}

std::shared_ptr<Arguments> copy_arguments(const KernelImage& image, const Params& p) {
  auto copy = std::make_shared<Arguments>();
  copy->bytes.resize(size_of_params(image));
  size_t size;
  const std::byte* buffer = buffer_of(p.extra, &size);
  if (buffer != nullptr) memcpy(copy->bytes.data(), buffer, std::min(size, copy->bytes.size()));
  for (size_t i = 0; i < image.params.size(); ++i) {
    std::byte* place = copy->bytes.data() + image.params[i].offset;
    if (p.kernelParams != nullptr && buffer == nullptr)
      memcpy(place, p.kernelParams[i], image.params[i].size);
    copy->pointers.push_back(place);
  }
  return copy;
}

uint64_t argument(const KernelImage& image, void** params, size_t index) {
  uint64_t value = 0;
  if (params != nullptr && index < image.params.size())
    memcpy(&value, params[index], std::min<size_t>(sizeof(value), image.params[index].size));
  return value;
}

st_work work_of(const KernelImage& image, const Params& p, void** params) {
  const Cost& cost = image.cost;
  uint32_t fit = cost.blocks_per_sm;
  if (fit == 0) fit = std::max(1u, blocks_per_sm(image, threads_of(p), p.sharedMemBytes));
  uint64_t blocks = blocks_of(p), full_ns = cost.full_ns;
  if (cost.full_from >= 0) full_ns = argument(image, params, static_cast<size_t>(cost.full_from));
  uint64_t at_once = uint64_t{settings().sms} * fit;
  if (!cost.described) full_ns = settings().kernel_ns * ((blocks + at_once - 1) / at_once);
  return {ST_KERNEL, static_cast<uint32_t>(std::min<uint64_t>(blocks, UINT32_MAX)),
          fit,       cost.bandwidth,
          full_ns,   cost.fault,
          0};
}

CUresult check_launch(CUfunction function, const Params& p) {
  if (blocks_of(p) == 0 || threads_of(p) == 0) return CUDA_ERROR_INVALID_VALUE;
  if (p.gridDimX > 0x7fffffffu || p.gridDimY > 65535 || p.gridDimZ > 65535) return CUDA_ERROR_INVALID_VALUE;
  if (p.blockDimX > 1024 || p.blockDimY > 1024 || p.blockDimZ > 64 || threads_of(p) > 1024)
    return CUDA_ERROR_INVALID_VALUE;
  if (threads_of(p) > function->image->max_threads) return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
  if (p.kernelParams != nullptr && p.extra != nullptr) return CUDA_ERROR_INVALID_VALUE;
  bool wants = !function->image->params.empty();
  if (wants && p.kernelParams == nullptr && p.extra == nullptr) return CUDA_ERROR_INVALID_VALUE;
  int most = std::max(function->tuning.dynamic_shared_bytes,
                      function->kernel != nullptr ? function->kernel->tuning.dynamic_shared_bytes : 0);
  return p.sharedMemBytes > static_cast<unsigned int>(most) ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

// All blocks of a cooperative kernel must run at once.
CUresult check_cooperative(CUfunction function, const Params& p) {
  uint64_t fit = uint64_t{blocks_per_sm(*function->image, threads_of(p), p.sharedMemBytes)} * settings().sms;
  return blocks_of(p) > fit ? CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE : CUDA_SUCCESS;
}

bool cooperative(const Attributes& attributes) {
  auto found = attributes.find(CU_LAUNCH_ATTRIBUTE_COOPERATIVE);
  return found != attributes.end() && found->second.cooperative != 0;
}

void call_body(Body body, const KernelImage& image, const Params& p, void** params) {
  standin_launch launch = {
      image.name.c_str(), {p.gridDimX, p.gridDimY, p.gridDimZ},       {p.blockDimX, p.blockDimY, p.blockDimZ},
      p.sharedMemBytes,   static_cast<uint32_t>(image.params.size()), params};
  body(&launch);
}

void run_body(CUstream stream, const Kernel& image, const Operation& work, void** params) {
  Body body = body_of(image->name);
  if (body == nullptr) return;
  forget_done(stream->hosts);
  const Params& p = work.params.kernel;
  if (stream->hosts.empty()) return call_body(body, *image, p, params);
  auto copy = work.arguments != nullptr ? work.arguments : copy_arguments(*image, p);
  after(stream->hosts, [=] { call_body(body, *image, p, copy->pointers.data()); });
}

// Events that a launch records by an attribute instead of a call.
CUresult record_attached(CUstream stream, const Attributes& attributes) {
  for (const auto& [id, value] : attributes) {
    CUevent event = nullptr;
    if (id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT) event = value.programmaticEvent.event;
    if (id == CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT) event = value.launchCompletionEvent.event;
    if (event != nullptr) TRY(event_record(event, stream));
  }
  return CUDA_SUCCESS;
}

Operation launch_of(CUfunction f, const unsigned int (&grid)[3], const unsigned int (&block)[3],
                    unsigned int shared, void** params, void** extra) {
  Operation work = operation(CU_GRAPH_NODE_TYPE_KERNEL);
  work.params.kernel = {f,        grid[0], grid[1], grid[2], block[0], block[1],
                        block[2], shared,  params,  extra,   nullptr,  nullptr};
  return work;
}

CUresult launch_in(CUstream handle, Operation& work) {
  CUstream stream;
  TRY(find_working_stream(handle, &stream));
  if (cooperative(work.attributes)) {
    CUfunction function;
    TRY(function_in(work.params.kernel, &function));
    TRY(check_cooperative(function, work.params.kernel));
  }
  TRY(issue(stream, work));
  return record_attached(stream, work.attributes);
}

CUresult launch_old(CUfunction f, int width, int height, CUstream stream) {
  if (!alive(f)) return CUDA_ERROR_INVALID_HANDLE;
  if (width < 1 || height < 1) return CUDA_ERROR_INVALID_VALUE;
  OldLaunch& old = f->old;
  size_t size = old.params.size();
  void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, old.params.data(), CU_LAUNCH_PARAM_BUFFER_SIZE, &size,
                   CU_LAUNCH_PARAM_END};
  auto side = [](int value) { return static_cast<unsigned int>(value); };
  Operation work = launch_of(f, {side(width), side(height), 1},
                             {side(old.block[0]), side(old.block[1]), side(old.block[2])}, old.shared_bytes,
                             nullptr, extra);
  return launch_in(stream, work);
}

}  // namespace

CUresult check_kernel(const Operation& work) {
  CUfunction function;
  TRY(function_in(work.params.kernel, &function));
  return check_launch(function, work.params.kernel);
}

void own_arguments(Operation& work) {
  CUfunction function;
  Params& p = work.params.kernel;
  if (function_in(p, &function) != CUDA_SUCCESS) return;
  work.arguments = copy_arguments(*function->image, p);
  p.kernelParams = work.arguments->pointers.data();
  p.extra = nullptr;
}

CUresult perform_kernel(CUstream stream, const Operation& work) {
  const Params& p = work.params.kernel;
  CUfunction function;
  TRY(function_in(p, &function));
  TRY(check_launch(function, p));
  Kernel image = function->image;
  std::shared_ptr<Arguments> unpacked;
  void** params = p.kernelParams;
  if (p.extra != nullptr) {
    unpacked = copy_arguments(*image, p);
    params = unpacked->pointers.data();
  }
  st_work piece = work_of(*image, p, params);
  submit(stream, piece);
  run_body(stream, image, work, params);
  return CUDA_SUCCESS;
}

CUresult launch_kernel(CUfunction f, unsigned int gridDimX, unsigned int gridDimY, unsigned int gridDimZ,
                       unsigned int blockDimX, unsigned int blockDimY, unsigned int blockDimZ,
                       unsigned int sharedMemBytes, CUstream hStream, void** kernelParams, void** extra) {
  Operation work = launch_of(f, {gridDimX, gridDimY, gridDimZ}, {blockDimX, blockDimY, blockDimZ},
                             sharedMemBytes, kernelParams, extra);
  return launch_in(hStream, work);
}

CUresult launch_kernel_ex(const CUlaunchConfig* config, CUfunction f, void** kernelParams, void** extra) {
  if (config == nullptr || (config->numAttrs > 0 && config->attrs == nullptr))
    return CUDA_ERROR_INVALID_VALUE;
  Operation work = launch_of(f, {config->gridDimX, config->gridDimY, config->gridDimZ},
                             {config->blockDimX, config->blockDimY, config->blockDimZ},
                             config->sharedMemBytes, kernelParams, extra);
  for (unsigned int i = 0; i < config->numAttrs; ++i)
    work.attributes[config->attrs[i].id] = config->attrs[i].value;
  return launch_in(config->hStream, work);
}

CUresult launch_cooperative_kernel(CUfunction f, unsigned int gridDimX, unsigned int gridDimY,
                                   unsigned int gridDimZ, unsigned int blockDimX, unsigned int blockDimY,
                                   unsigned int blockDimZ, unsigned int sharedMemBytes, CUstream hStream,
                                   void** kernelParams) {
  Operation work = launch_of(f, {gridDimX, gridDimY, gridDimZ}, {blockDimX, blockDimY, blockDimZ},
                             sharedMemBytes, kernelParams, nullptr);
  work.attributes[CU_LAUNCH_ATTRIBUTE_COOPERATIVE].cooperative = 1;
  return launch_in(hStream, work);
}

// One device: a list of more than one launch cannot be right.
CUresult launch_cooperative_kernel_multi_device(CUDA_LAUNCH_PARAMS* launchParamsList, unsigned int numDevices,
                                                unsigned int flags) {
  if (launchParamsList == nullptr || numDevices != 1 || flags > 3) return CUDA_ERROR_INVALID_VALUE;
  const CUDA_LAUNCH_PARAMS& p = launchParamsList[0];
  return launch_cooperative_kernel(p.function, p.gridDimX, p.gridDimY, p.gridDimZ, p.blockDimX, p.blockDimY,
                                   p.blockDimZ, p.sharedMemBytes, p.hStream, p.kernelParams);
}

CUresult launch(CUfunction f) { return launch_old(f, 1, 1, CU_STREAM_LEGACY); }

CUresult launch_grid(CUfunction f, int grid_width, int grid_height) {
  return launch_old(f, grid_width, grid_height, CU_STREAM_LEGACY);
}

CUresult launch_grid_async(CUfunction f, int grid_width, int grid_height, CUstream hStream) {
  return launch_old(f, grid_width, grid_height, hStream);
}

}  // namespace standin::driver

STANDIN_EXPORT int standin_register_body(const char* kernel, void (*body)(const standin_launch*)) {
  using namespace standin::driver;
  if (kernel == nullptr || mode == Mode::kChild) return -1;
  std::lock_guard<std::mutex> held(lock());
  if (body == nullptr)
    bodies().erase(kernel);
  else
    bodies()[kernel] = body;
  return 0;
}

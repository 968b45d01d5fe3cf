// A program as nvcc's users write them: it says what it found, one finding a line, and knows nothing of the
// stand-in but that kernels there do what `standin_register_body` says.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <thread>
#include <vector>

struct standin_launch {  // native/standin/standin.h
  const char* kernel;
  unsigned grid[3], block[3], shared_bytes, params;
  void** param;
};

__constant__ float factor = 2.0f;
__device__ int numbers[4];
__managed__ int shared_number = 7;

extern "C" __global__ void add(float* values, float what, int count) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) values[i] += what;
}

// The same on a CPU.
static void add_body(const standin_launch* launch) {
  float* values = *static_cast<float**>(launch->param[0]);
  float what = *static_cast<float*>(launch->param[1]);
  int count = *static_cast<int*>(launch->param[2]);
  for (int i = 0; i < count && i < static_cast<int>(launch->grid[0] * launch->block[0]); ++i)
    values[i] += what;
}

static void be_the_gpu() {
  void* driver = dlopen("libcuda.so.1", RTLD_NOW);
  auto bind = reinterpret_cast<int (*)(const char*, void (*)(const standin_launch*))>(
      dlsym(driver, "standin_register_body"));
  if (bind != nullptr) bind("add", add_body);
}

#define MUST(call)                                                                                 \
  do {                                                                                             \
    cudaError_t result = (call);                                                                   \
    if (result != cudaSuccess) {                                                                   \
      printf("line %d: %s: %s\n", __LINE__, cudaGetErrorName(result), cudaGetErrorString(result)); \
      exit(1);                                                                                     \
    }                                                                                              \
  } while (0)

constexpr int kCount = 1000;
constexpr size_t kBytes = kCount * sizeof(float);
const dim3 kGrid(4), kBlock(256);

static std::vector<float> ramp() {
  std::vector<float> values(kCount);
  std::iota(values.begin(), values.end(), 0.0f);
  return values;
}

// By how much all of them were raised; -1 if not all by the same.
static int raised(const std::vector<float>& values) {
  int by = static_cast<int>(values[0]);
  for (int i = 0; i < kCount; ++i)
    if (values[i] != static_cast<float>(i + by)) return -1;
  return by;
}

static void say_device() {
  int count, driver, runtime;
  cudaDeviceProp is;
  size_t free_bytes, total_bytes;
  MUST(cudaGetDeviceCount(&count));
  MUST(cudaDriverGetVersion(&driver));
  MUST(cudaRuntimeGetVersion(&runtime));
  MUST(cudaGetDeviceProperties(&is, 0));
  MUST(cudaMemGetInfo(&free_bytes, &total_bytes));
  printf("device %d %s\n", count, is.name);
  printf("sms %d capability %d.%d warp %d\n", is.multiProcessorCount, is.major, is.minor, is.warpSize);
  printf("versions %d %d\n", driver, runtime);
  printf("memory %zu\n", total_bytes);
}

static void use_streams() {
  std::vector<float> values = ramp();
  float* memory;
  cudaStream_t stream;
  cudaEvent_t start, end;
  MUST(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  MUST(cudaEventCreate(&start));
  MUST(cudaEventCreate(&end));
  MUST(cudaMalloc(&memory, kBytes));
  MUST(cudaMemcpyAsync(memory, values.data(), kBytes, cudaMemcpyHostToDevice, stream));
  MUST(cudaEventRecord(start, stream));
  add<<<kGrid, kBlock, 0, stream>>>(memory, 3.0f, kCount);
  MUST(cudaGetLastError());
  MUST(cudaEventRecord(end, stream));
  MUST(cudaMemcpyAsync(values.data(), memory, kBytes, cudaMemcpyDeviceToHost, stream));
  MUST(cudaStreamSynchronize(stream));
  MUST(cudaEventQuery(end));
  float ms;
  MUST(cudaEventElapsedTime(&ms, start, end));
  printf("streams %d %d\n", raised(values), ms > 0.0f);
  MUST(cudaFree(memory));
  MUST(cudaEventDestroy(start));
  MUST(cudaEventDestroy(end));
  MUST(cudaStreamDestroy(stream));
}

// The null stream, and memory of its order.
static void use_pools() {
  std::vector<float> values = ramp();
  float* memory;
  MUST(cudaMallocAsync(&memory, kBytes, nullptr));
  MUST(cudaMemcpy(memory, values.data(), kBytes, cudaMemcpyDefault));
  add<<<kGrid, kBlock>>>(memory, 5.0f, kCount);
  MUST(cudaMemcpy(values.data(), memory, kBytes, cudaMemcpyDefault));
  MUST(cudaFreeAsync(memory, nullptr));
  MUST(cudaDeviceSynchronize());
  printf("pools %d\n", raised(values));
}

static void use_captured_graph() {
  std::vector<float> values = ramp();
  float* memory;
  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  MUST(cudaMalloc(&memory, kBytes));
  MUST(cudaMemcpy(memory, values.data(), kBytes, cudaMemcpyHostToDevice));
  MUST(cudaStreamCreate(&stream));
  MUST(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  add<<<kGrid, kBlock, 0, stream>>>(memory, 1.0f, kCount);
  add<<<kGrid, kBlock, 0, stream>>>(memory, 10.0f, kCount);
  MUST(cudaMemcpyAsync(values.data(), memory, kBytes, cudaMemcpyDeviceToHost, stream));
  MUST(cudaStreamEndCapture(stream, &graph));
  size_t nodes = 0;
  MUST(cudaGraphGetNodes(graph, nullptr, &nodes));
  printf("captured %zu %d\n", nodes, raised(values));
  MUST(cudaGraphInstantiate(&exec, graph, 0));
  for (int i = 0; i < 3; ++i) MUST(cudaGraphLaunch(exec, stream));
  MUST(cudaStreamSynchronize(stream));
  printf("graph %d\n", raised(values));
  MUST(cudaGraphExecDestroy(exec));
  MUST(cudaGraphDestroy(graph));
  MUST(cudaStreamDestroy(stream));
  MUST(cudaFree(memory));
}

static void use_built_graph() {
  std::vector<float> values(kCount);
  float* memory;
  float what = 4.0f;
  int count = kCount;
  MUST(cudaMalloc(&memory, kBytes));
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  cudaGraphNode_t clear, raise;
  MUST(cudaGraphCreate(&graph, 0));
  cudaMemsetParams zeros = {};
  zeros.dst = memory;
  zeros.elementSize = 4;
  zeros.width = kCount;
  zeros.height = 1;
  MUST(cudaGraphAddMemsetNode(&clear, graph, nullptr, 0, &zeros));
  void* arguments[] = {&memory, &what, &count};
  cudaKernelNodeParams kernel = {};
  kernel.func = reinterpret_cast<void*>(add);
  kernel.gridDim = kGrid;
  kernel.blockDim = kBlock;
  kernel.kernelParams = arguments;
  MUST(cudaGraphAddKernelNode(&raise, graph, &clear, 1, &kernel));
  MUST(cudaGraphInstantiate(&exec, graph, 0));
  for (int i = 0; i < 2; ++i) MUST(cudaGraphLaunch(exec, nullptr));
  MUST(cudaMemcpy(values.data(), memory, kBytes, cudaMemcpyDeviceToHost));
  printf("built %g %g\n", values[0], values[kCount - 1]);
  MUST(cudaGraphExecDestroy(exec));
  MUST(cudaGraphDestroy(graph));
  MUST(cudaFree(memory));
}

static void use_variables() {
  int four[4] = {1, 2, 3, 4}, back[4] = {};
  float f = 0.0f;
  void* address;
  size_t size;
  MUST(cudaMemcpyToSymbol(numbers, four, sizeof(four)));
  MUST(cudaMemcpyFromSymbol(back, numbers, 2 * sizeof(int), 2 * sizeof(int)));
  MUST(cudaMemcpyFromSymbol(&f, factor, sizeof(f)));
  MUST(cudaGetSymbolAddress(&address, numbers));
  MUST(cudaGetSymbolSize(&size, numbers));
  printf("variables %d %d %g %zu %d\n", back[0], back[1], f, size, shared_number);
  shared_number = 8;
  printf("beyond %s\n", cudaGetErrorName(cudaMemcpyToSymbol(numbers, four, sizeof(four), 4)));
  cudaGetLastError();
}

static void launch_otherwise() {
  std::vector<float> values = ramp();
  float* memory;
  float what = 1.0f;
  int count = kCount;
  MUST(cudaMalloc(&memory, kBytes));
  MUST(cudaMemcpy(memory, values.data(), kBytes, cudaMemcpyHostToDevice));
  void* arguments[] = {&memory, &what, &count};
  cudaLaunchConfig_t config = {};
  config.gridDim = kGrid;
  config.blockDim = kBlock;
  MUST(cudaLaunchKernelExC(&config, reinterpret_cast<void*>(add), arguments));
  MUST(cudaLaunchKernelEx(&config, add, memory, 1.0f, kCount));
  MUST(cudaLaunchKernel(reinterpret_cast<void*>(add), kGrid, kBlock, arguments, 0, nullptr));
  MUST(cudaLaunchCooperativeKernel(reinterpret_cast<void*>(add), kGrid, kBlock, arguments, 0, nullptr));
  int called = 0;
  MUST(cudaLaunchHostFunc(nullptr, [](void* data) { *static_cast<int*>(data) = 1; }, &called));
  MUST(cudaMemcpy(values.data(), memory, kBytes, cudaMemcpyDeviceToHost));
  MUST(cudaDeviceSynchronize());
  printf("launches %d %d\n", raised(values), called);
  MUST(cudaFree(memory));
}

static void copy_rows() {
  char from[4][10], to[4][6] = {};
  for (int y = 0; y < 4; ++y)
    for (int x = 0; x < 10; ++x) from[y][x] = static_cast<char>('a' + y + x);
  void* memory;
  size_t pitch;
  MUST(cudaMallocPitch(&memory, &pitch, 6, 4));
  MUST(cudaMemcpy2D(memory, pitch, from, 10, 6, 4, cudaMemcpyHostToDevice));
  MUST(cudaMemset2D(static_cast<char*>(memory) + pitch, pitch, '-', 3, 1));
  MUST(cudaMemcpy2D(to, 6, memory, pitch, 6, 4, cudaMemcpyDeviceToHost));
  printf("rows %.6s %.6s %.6s pitch %d\n", to[0], to[1], to[3], pitch >= 6 && pitch % 4 == 0);
  MUST(cudaFree(memory));
}

static void copy_through_arrays() {
  constexpr int kWide = 5, kHigh = 3;
  float from[kHigh][kWide], to[kHigh][kWide] = {};
  for (int i = 0; i < kWide * kHigh; ++i) from[i / kWide][i % kWide] = static_cast<float>(i);
  cudaArray_t array;
  cudaChannelFormatDesc floats = cudaCreateChannelDesc<float>(), is;
  cudaExtent extent;
  MUST(cudaMallocArray(&array, &floats, kWide, kHigh));
  MUST(cudaArrayGetInfo(&is, &extent, nullptr, array));
  MUST(cudaMemcpy2DToArray(array, 0, 0, from, sizeof(from[0]), sizeof(from[0]), kHigh,
                           cudaMemcpyHostToDevice));
  cudaMemcpy3DParms back = {};  // the last two rows, without the first column
  back.srcArray = array;
  back.srcPos = make_cudaPos(1, 1, 0);
  back.dstPtr = make_cudaPitchedPtr(to, sizeof(to[0]), kWide, kHigh);
  back.extent = make_cudaExtent(kWide - 1, 2, 1);
  back.kind = cudaMemcpyDeviceToHost;
  MUST(cudaMemcpy3D(&back));
  printf("arrays %d %zu %zu %g %g %g\n", is.x, extent.width, extent.height, to[0][0], to[1][3], to[2][0]);
  MUST(cudaFreeArray(array));
}

static void use_volumes() {
  constexpr size_t kWide = 5, kHigh = 3, kDeep = 2;
  cudaExtent extent = make_cudaExtent(kWide, kHigh, kDeep);
  cudaPitchedPtr memory;
  char to[kDeep][kHigh][kWide] = {};
  MUST(cudaMalloc3D(&memory, extent));
  MUST(cudaMemset3D(memory, 'x', extent));
  MUST(cudaMemset3DAsync(memory, 'y', make_cudaExtent(2, 2, 1), nullptr));
  cudaMemcpy3DParms back = {};
  back.srcPtr = memory;
  back.dstPtr = make_cudaPitchedPtr(to, kWide, kWide, kHigh);
  back.extent = extent;
  back.kind = cudaMemcpyDefault;
  MUST(cudaMemcpy3D(&back));
  printf("volumes %.5s %.5s %.5s\n", to[0][1], to[0][2], to[1][0]);
  MUST(cudaFree(memory.ptr));
}

static void go_wrong() {
  void* memory = nullptr;
  printf("too much %s\n", cudaGetErrorName(cudaMalloc(&memory, size_t{1} << 45)));
  printf("last %s\n", cudaGetErrorName(cudaPeekAtLastError()));
  printf("taken %s\n", cudaGetErrorName(cudaGetLastError()));
  printf("after %s\n", cudaGetErrorName(cudaGetLastError()));
  add<<<0, 256>>>(nullptr, 0.0f, 0);
  printf("no blocks %s\n", cudaGetErrorName(cudaGetLastError()));
  printf("no device %s\n", cudaGetErrorName(cudaSetDevice(1)));
  printf("no kernel %s\n", cudaGetErrorName(cudaLaunchKernel("add", kGrid, kBlock, nullptr, 0, nullptr)));
  cudaGetLastError();
  MUST(cudaMalloc(&memory, 1024));  // and it goes on
  MUST(cudaFree(memory));
  MUST(cudaFree(nullptr));
}

static void ask() {
  int blocks;
  cudaFuncAttributes attributes;
  MUST(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, add, 256, 0));
  MUST(cudaFuncGetAttributes(&attributes, add));
  printf("occupancy %d threads %d\n", blocks, attributes.maxThreadsPerBlock);
  void* function = nullptr;
  cudaDriverEntryPointQueryResult status;
  MUST(cudaGetDriverEntryPointByVersion("cuCtxGetCurrent", &function, 12000, cudaEnableDefault, &status));
  void* context = nullptr;
  reinterpret_cast<int (*)(void**)>(function)(&context);
  printf("entry %d %d\n", static_cast<int>(status), context != nullptr);
  int on_host;
  void* on_device;
  cudaPointerAttributes is;
  MUST(cudaMalloc(&on_device, 64));
  MUST(cudaPointerGetAttributes(&is, on_device));
  cudaMemoryType first = is.type;
  MUST(cudaPointerGetAttributes(&is, &on_host));
  printf("pointers %d %d\n", first == cudaMemoryTypeDevice, is.type == cudaMemoryTypeUnregistered);
  MUST(cudaFree(on_device));
}

// Every thread works on memory of its own in the null stream, which they share or which is each thread's own.
static void use_threads() {
  std::vector<int> results(8);
  std::vector<std::thread> threads;
  for (int& result : results)
    threads.emplace_back([&result] {
      std::vector<float> values = ramp();
      float* memory;
      MUST(cudaMalloc(&memory, kBytes));
      MUST(cudaMemcpy(memory, values.data(), kBytes, cudaMemcpyHostToDevice));
      for (int i = 0; i < 20; ++i) add<<<kGrid, kBlock>>>(memory, 1.0f, kCount);
      MUST(cudaMemcpy(values.data(), memory, kBytes, cudaMemcpyDeviceToHost));
      cudaMalloc(nullptr, 1);
      result = cudaGetLastError() == cudaErrorInvalidValue ? raised(values) : -1;
      MUST(cudaFree(memory));
    });
  for (std::thread& each : threads) each.join();
  printf("threads %d %d\n", std::accumulate(results.begin(), results.end(), 0), cudaGetLastError());
}

// What another process has: the handle's bytes come as text.
static int show_shared(const char* text) {
  cudaIpcMemHandle_t handle;
  for (size_t i = 0; i < sizeof(handle); ++i)
    sscanf(text + 2 * i, "%2hhx", reinterpret_cast<char*>(&handle) + i);
  void* memory;
  char word[8] = {};
  MUST(cudaIpcOpenMemHandle(&memory, handle, cudaIpcMemLazyEnablePeerAccess));
  MUST(cudaMemcpy(word, memory, 6, cudaMemcpyDeviceToHost));
  MUST(cudaMemcpy(memory, "theirs", 6, cudaMemcpyHostToDevice));
  MUST(cudaIpcCloseMemHandle(memory));
  printf("shared %s", word);
  return 0;
}

static void share(const char* program) {
  void* memory;
  cudaIpcMemHandle_t handle;
  MUST(cudaMalloc(&memory, 64));
  MUST(cudaMemcpy(memory, "mine\0", 6, cudaMemcpyHostToDevice));
  MUST(cudaIpcGetMemHandle(&handle, memory));
  char command[512];
  int length = snprintf(command, sizeof(command), "%s ", program);
  for (char byte : handle.reserved) length += sprintf(command + length, "%02hhx", byte);
  fflush(stdout);
  int result = system(command);
  char word[8] = {};
  MUST(cudaMemcpy(word, memory, 6, cudaMemcpyDeviceToHost));
  printf(" %s %d\n", word, result);
  MUST(cudaFree(memory));
}

int main(int count, char** arguments) {
  if (count > 1) return show_shared(arguments[1]);
  be_the_gpu();
  say_device();
  use_streams();
  use_pools();
  use_captured_graph();
  use_built_graph();
  use_variables();
  launch_otherwise();
  copy_rows();
  copy_through_arrays();
  use_volumes();
  use_threads();
  share(arguments[0]);
  go_wrong();
  ask();
  MUST(cudaDeviceReset());
  use_pools();  // after the end of a context comes another
  printf("done\n");
}

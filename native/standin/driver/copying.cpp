// What copies and fills do, and how long they take.
#include <algorithm>
#include <cstring>

#include "captures.h"
#include "copies.h"
#include "handles.h"
#include "implementations.h"
#include "memory.h"
#include "virtual_memory.h"

namespace standin::driver {
namespace {

// Bytes a nanosecond: the link to the host, and the device's own memory.
constexpr double kLink = 50, kMemory = 3350;
constexpr uint32_t kLinkShare = 15, kWhole = 1000;  // of the device's bandwidth, in thousandths
constexpr uint64_t kStartNs = 1000;

// One side of a copy, as rows.
struct Rows {
  std::byte* first = nullptr;
  size_t pitch = 0, height = 0;
  bool device = false;
};

Rows rows_of(CUmemorytype type, const void* host, CUdeviceptr device, CUarray array, size_t pitch,
             size_t height, const CUDA_MEMCPY3D& copy) {
  pitch = pitch != 0 ? pitch : copy.WidthInBytes;
  height = height != 0 ? height : copy.Height;
  if (type == CU_MEMORYTYPE_ARRAY)
    return {reinterpret_cast<std::byte*>(array->base), pitch_of(array), height_of(array), true};
  uint64_t address = type == CU_MEMORYTYPE_HOST ? reinterpret_cast<uint64_t>(host) : device;
  return {reinterpret_cast<std::byte*>(address), pitch, height, on_device(address)};
}

std::byte* at(const Rows& rows, size_t x, size_t y, size_t z) {
  return rows.first + (z * rows.height + y) * rows.pitch + x;
}

Rows source(const CUDA_MEMCPY3D& c) {
  return rows_of(c.srcMemoryType, c.srcHost, c.srcDevice, c.srcArray, c.srcPitch, c.srcHeight, c);
}

Rows target(const CUDA_MEMCPY3D& c) {
  return rows_of(c.dstMemoryType, c.dstHost, c.dstDevice, c.dstArray, c.dstPitch, c.dstHeight, c);
}

void copy_rows(const Rows& from, const Rows& to, const CUDA_MEMCPY3D& c) {
  for (size_t z = 0; z < c.Depth; ++z)
    for (size_t y = 0; y < c.Height; ++y)
      memmove(at(to, c.dstXInBytes, c.dstY + y, c.dstZ + z), at(from, c.srcXInBytes, c.srcY + y, c.srcZ + z),
              c.WidthInBytes);
}

// The bytes from the first to the last that a side of the copy touches.
size_t span(const Rows& rows, const CUDA_MEMCPY3D& c) {
  return ((c.Depth - 1) * rows.height + c.Height - 1) * rows.pitch + c.WidthInBytes;
}

CUresult check_side(CUmemorytype type, CUarray array, const Rows& rows, size_t x, size_t y, size_t z,
                    const CUDA_MEMCPY3D& c) {
  if (type == CU_MEMORYTYPE_ARRAY) {
    size_t depth = std::max<size_t>(array->descriptor.Depth, 1);
    bool fits = x + c.WidthInBytes <= rows.pitch && y + c.Height <= rows.height && z + c.Depth <= depth;
    return fits ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  }
  if (rows.first == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if ((c.Height > 1 || c.Depth > 1) && rows.pitch < x + c.WidthInBytes) return CUDA_ERROR_INVALID_VALUE;
  // Memory of the host that nobody registered may be anything; what is called the device's must be it.
  auto first = reinterpret_cast<uint64_t>(at(rows, x, y, z));
  bool must = type == CU_MEMORYTYPE_DEVICE || rows.device;
  return !must || reachable(first, span(rows, c)) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

bool known_type(CUmemorytype type, CUarray array) {
  if (type == CU_MEMORYTYPE_ARRAY) return alive(array);
  return type == CU_MEMORYTYPE_HOST || type == CU_MEMORYTYPE_DEVICE || type == CU_MEMORYTYPE_UNIFIED;
}

uint64_t bytes_of(const CUDA_MEMCPY3D& c) { return c.WidthInBytes * c.Height * c.Depth; }

st_work cost_of(uint64_t bytes, bool within) {
  double ns = static_cast<double>(bytes) / (within ? kMemory / 2 : kLink);
  return {ST_COPY, 0, 0, within ? kWhole : kLinkShare, kStartNs + static_cast<uint64_t>(ns)};
}

uint64_t row_bytes(const CUDA_MEMSET_NODE_PARAMS_v2& f) { return f.width * f.elementSize; }

void fill_rows(const CUDA_MEMSET_NODE_PARAMS_v2& f) {
  for (size_t y = 0; y < f.height; ++y) {
    auto* row = reinterpret_cast<std::byte*>(f.dst + y * f.pitch);
    if (f.elementSize == 1) {
      memset(row, static_cast<int>(f.value & 0xff), f.width);
      continue;
    }
    for (size_t x = 0; x < f.width; ++x) memcpy(row + x * f.elementSize, &f.value, f.elementSize);
  }
}

CUresult wait_after(CUstream stream, bool wait) {
  if (!wait) return CUDA_SUCCESS;
  wait_for({stream->queue, stream->last});
  trim_pools();
  return CUDA_SUCCESS;
}

}  // namespace

bool reachable(uint64_t address, size_t bytes) {
  for (uint64_t end = address + bytes; address < end;) {
    Range* range = find_range(address);
    if (range == nullptr || !accessible(*range)) return false;
    address = range->base + range->size;
  }
  return true;
}

CUDA_MEMCPY3D line(const Side& from, const Side& to, size_t bytes) {
  CUDA_MEMCPY3D c{};
  c.srcMemoryType = from.type, c.dstMemoryType = to.type;
  c.srcHost = reinterpret_cast<const void*>(from.address), c.dstHost = reinterpret_cast<void*>(to.address);
  c.srcDevice = from.address, c.dstDevice = to.address;
  c.srcArray = from.array, c.dstArray = to.array;
  c.srcXInBytes = from.x, c.dstXInBytes = to.x;
  c.WidthInBytes = bytes, c.Height = 1, c.Depth = 1;
  return c;
}

CUresult check_copy(const CUDA_MEMCPY3D& c) {
  if (!known_type(c.srcMemoryType, c.srcArray) || !known_type(c.dstMemoryType, c.dstArray))
    return CUDA_ERROR_INVALID_VALUE;
  if (bytes_of(c) == 0) return CUDA_SUCCESS;
  TRY(check_side(c.srcMemoryType, c.srcArray, source(c), c.srcXInBytes, c.srcY, c.srcZ, c));
  return check_side(c.dstMemoryType, c.dstArray, target(c), c.dstXInBytes, c.dstY, c.dstZ, c);
}

CUresult check_fill(const CUDA_MEMSET_NODE_PARAMS_v2& f) {
  if (f.elementSize != 1 && f.elementSize != 2 && f.elementSize != 4) return CUDA_ERROR_INVALID_VALUE;
  if (f.width == 0 || f.height == 0) return CUDA_SUCCESS;
  if (f.dst % f.elementSize != 0 || f.pitch % f.elementSize != 0) return CUDA_ERROR_INVALID_VALUE;
  if (f.height > 1 && f.pitch < row_bytes(f)) return CUDA_ERROR_INVALID_VALUE;
  bool good = f.dst != 0 && reachable(f.dst, (f.height - 1) * f.pitch + row_bytes(f));
  return good ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult perform_copy(CUstream stream, const CUDA_MEMCPY3D& c) {
  TRY(check_copy(c));
  if (bytes_of(c) == 0) return CUDA_SUCCESS;
  Rows from = source(c), to = target(c);
  submit(stream, cost_of(bytes_of(c), from.device && to.device));
  after(stream->hosts, [=] { copy_rows(from, to, c); });
  return CUDA_SUCCESS;
}

CUresult perform_fill(CUstream stream, const CUDA_MEMSET_NODE_PARAMS_v2& f) {
  TRY(check_fill(f));
  if (f.width == 0 || f.height == 0) return CUDA_SUCCESS;
  submit(stream, cost_of(row_bytes(f) * f.height / 2, true));
  after(stream->hosts, [=] { fill_rows(f); });
  return CUDA_SUCCESS;
}

CUresult copy_in(CUstream handle, const CUDA_MEMCPY3D& copy, bool wait) {
  CUstream stream;
  TRY(find_working_stream(handle, &stream));
  if (wait) TRY(unsafe());
  if (wait) TRY(not_while_captured(stream));
  TRY(check_copy(copy));
  Operation work = operation(CU_GRAPH_NODE_TYPE_MEMCPY);
  work.params.memcpy = {0, 0, stream->context, copy};
  TRY(issue(stream, work));
  return wait_after(stream, wait);
}

CUresult fill_in(CUstream handle, const CUDA_MEMSET_NODE_PARAMS_v2& fill, bool synchronous) {
  CUstream stream;
  TRY(find_working_stream(handle, &stream));
  if (synchronous) TRY(unsafe());
  if (synchronous) TRY(not_while_captured(stream));
  TRY(check_fill(fill));
  Operation work = operation(CU_GRAPH_NODE_TYPE_MEMSET);
  work.params.memset = fill;
  work.params.memset.ctx = stream->context;
  return issue(stream, work);  // even the synchronous ones return before the device is done
}

}  // namespace standin::driver

// Linear memory, pools, and how much there seems to be.
#include "allocations.h"
#include "queues.h"

using namespace fasthook;

namespace {

// How a call is to be treated comes first: that also finds the driver, whose functions are null before.
template <typename Call, typename Remember, typename Undo>
CUresult allocate(uint64_t bytes, Call&& call, Remember&& remember, Undo&& undo) {
  Inside inside;
  Treatment how = treatment(inside);
  if (how == Treatment::kCount) [[likely]]
    return count(0, bytes, call, remember, undo);
  return how == Treatment::kRefuse ? CUDA_ERROR_NOT_PERMITTED : call();
}

template <typename Pointer, typename Call, typename Undo>
CUresult take(Pointer* out, uint64_t asked, Call&& call, Undo&& undo) {
  uint64_t bytes = whole(asked);
  auto remember = [&] { return pointers.put(*out, linear(bytes)); };
  return allocate(bytes, call, remember, undo);
}

// --- rows at a distance that only the driver knows ---------------------------------------------------------

// No device known keeps rows farther apart. If one does, the rest is counted when it has told.
constexpr uint64_t kLikelyPitch = 512;

uint64_t likely_bytes(uint64_t width, uint64_t height) {
  uint64_t bytes;
  bool over =
      width > kMostBytes ||
      __builtin_mul_overflow((width + kLikelyPitch - 1) / kLikelyPitch * kLikelyPitch, height, &bytes);
  return over ? ~0ULL : bytes;
}

template <typename Pointer, typename Size, typename Call, typename Undo>
CUresult take_rows(Pointer* out, const Size* pitch, Size width, Size height, Call&& call, Undo&& undo) {
  uint64_t guessed = likely_bytes(width, height);
  auto remember = [&] {
    uint64_t bytes = whole(static_cast<uint64_t>(*pitch) * height),
             more = bytes > guessed ? bytes - guessed : 0;
    if (more > 0 && !charge(more)) return false;
    if (!pointers.put(*out, linear(bytes))) return give_back(more), false;
    if (bytes < guessed) give_back(guessed - bytes);
    return true;
  };
  return allocate(guessed, call, remember, undo);
}

// --- in stream order ---------------------------------------------------------------------------------------

template <auto IsCapturing>
bool goes_into_graph(CUstream stream) {
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  return __atomic_load_n(&capturing, __ATOMIC_RELAXED) > 0 && real.*IsCapturing != nullptr &&
         (real.*IsCapturing)(stream, &status) == CUDA_SUCCESS && status != CU_STREAM_CAPTURE_STATUS_NONE;
}

// What is captured allocates nothing yet: see graph_memory.cpp.
template <auto IsCapturing, auto Free, typename Pool, typename Call>
CUresult take_pooled(CUdeviceptr* out, size_t bytes, CUstream stream, Pool&& pool_number, Call&& call) {
  Inside inside;
  Treatment how = treatment(inside);
  if (how == Treatment::kRefuse) return CUDA_ERROR_NOT_PERMITTED;
  if (how == Treatment::kPass || goes_into_graph<IsCapturing>(stream)) return call();
  uint8_t pool = pool_number();
  if (is_on_host(pool)) return call();
  bytes = whole(bytes);
  Allocation allocation = {bytes, Kind::kPooled, pool};
  auto remember = [&] { return *out == 0 || pointers.put(*out, allocation.word()); };
  return count(pool, bytes, call, remember, [&] { (real.*Free)(*out, stream); });
}

constexpr auto kCapturing = &Real::cuStreamIsCapturing;
constexpr auto kCapturingPtsz = &Real::cuStreamIsCapturing_ptsz;

}  // namespace

HOOKED CUresult cuMemAlloc(CUdeviceptr_v1* out, unsigned bytes) {
  return take(out, bytes, [&] { return real.cuMemAlloc(out, bytes); }, [&] { real.cuMemFree(*out); });
}

HOOKED CUresult cuMemAlloc_v2(CUdeviceptr* out, size_t bytes) {
  return take(out, bytes, [&] { return real.cuMemAlloc_v2(out, bytes); }, [&] { real.cuMemFree_v2(*out); });
}

HOOKED CUresult cuMemAllocManaged(CUdeviceptr* out, size_t bytes, unsigned flags) {
  return take(
      out, bytes, [&] { return real.cuMemAllocManaged(out, bytes, flags); },
      [&] { real.cuMemFree_v2(*out); });
}

HOOKED CUresult cuMemAllocPitch(CUdeviceptr_v1* out, unsigned* pitch, unsigned width, unsigned height,
                                unsigned element) {
  return take_rows(
      out, pitch, width, height, [&] { return real.cuMemAllocPitch(out, pitch, width, height, element); },
      [&] { real.cuMemFree(*out); });
}

HOOKED CUresult cuMemAllocPitch_v2(CUdeviceptr* out, size_t* pitch, size_t width, size_t height,
                                   unsigned element) {
  return take_rows(
      out, pitch, width, height, [&] { return real.cuMemAllocPitch_v2(out, pitch, width, height, element); },
      [&] { real.cuMemFree_v2(*out); });
}

HOOKED CUresult cuMemFree(CUdeviceptr_v1 address) {
  return release(&pointers, address, [=] { return real.cuMemFree(address); });
}

HOOKED CUresult cuMemFree_v2(CUdeviceptr address) {
  return release(&pointers, address, [=] { return real.cuMemFree_v2(address); });
}

HOOKED CUresult cuMemAllocAsync(CUdeviceptr* out, size_t bytes, CUstream stream) {
  return take_pooled<kCapturing, &Real::cuMemFreeAsync>(
      out, bytes, stream, current_pool_number, [=] { return real.cuMemAllocAsync(out, bytes, stream); });
}

HOOKED CUresult cuMemAllocAsync_ptsz(CUdeviceptr* out, size_t bytes, CUstream stream) {
  return take_pooled<kCapturingPtsz, &Real::cuMemFreeAsync_ptsz>(
      out, bytes, stream, current_pool_number, [=] { return real.cuMemAllocAsync_ptsz(out, bytes, stream); });
}

HOOKED CUresult cuMemAllocFromPoolAsync(CUdeviceptr* out, size_t bytes, CUmemoryPool pool, CUstream stream) {
  return take_pooled<kCapturing, &Real::cuMemFreeAsync>(
      out, bytes, stream, [=] { return pool_number(pool); },
      [=] { return real.cuMemAllocFromPoolAsync(out, bytes, pool, stream); });
}

HOOKED CUresult cuMemAllocFromPoolAsync_ptsz(CUdeviceptr* out, size_t bytes, CUmemoryPool pool,
                                             CUstream stream) {
  return take_pooled<kCapturingPtsz, &Real::cuMemFreeAsync_ptsz>(
      out, bytes, stream, [=] { return pool_number(pool); },
      [=] { return real.cuMemAllocFromPoolAsync_ptsz(out, bytes, pool, stream); });
}

HOOKED CUresult cuMemFreeAsync(CUdeviceptr address, CUstream stream) {
  return release(&pointers, address, [=] { return real.cuMemFreeAsync(address, stream); });
}

HOOKED CUresult cuMemFreeAsync_ptsz(CUdeviceptr address, CUstream stream) {
  return release(&pointers, address, [=] { return real.cuMemFreeAsync_ptsz(address, stream); });
}

// --- how much there is -------------------------------------------------------------------------------------

namespace {

template <typename Size>
void lower(Size* shown, uint64_t most) {
  if (shown != nullptr && *shown > most) *shown = static_cast<Size>(most);
}

// The device as large as the cap, and as full as this instance has made it.
template <typename Size, typename Ask>
CUresult show_cap(Size* free, Size* total, Ask&& ask) {
  Inside inside;
  bool counts = treatment(inside) == Treatment::kCount;
  CUresult result = ask();
  if (result != CUDA_SUCCESS || !counts) return result;
  settle_memory(false);
  uint64_t used, cap;
  fg_memory(gate(), &used, &cap);
  if (cap == 0) return result;
  lower(free, used < cap ? cap - used : 0);
  lower(total, cap);
  return result;
}

}  // namespace

HOOKED CUresult cuMemGetInfo(unsigned* free, unsigned* total) {
  return show_cap(free, total, [&] { return real.cuMemGetInfo(free, total); });
}

HOOKED CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
  return show_cap(free, total, [&] { return real.cuMemGetInfo_v2(free, total); });
}

HOOKED CUresult cuDeviceTotalMem(unsigned* bytes, CUdevice device) {
  return show_cap<unsigned>(nullptr, bytes, [&] { return real.cuDeviceTotalMem(bytes, device); });
}

HOOKED CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
  return show_cap<size_t>(nullptr, bytes, [&] { return real.cuDeviceTotalMem_v2(bytes, device); });
}

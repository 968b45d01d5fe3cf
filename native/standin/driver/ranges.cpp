// Ranges of memory: which there are, and what they cost the device.
#include <algorithm>

#include "arena.h"
#include "memory.h"
#include "mps.h"

namespace standin::driver {
namespace {

// Room for what fragments: addresses are plenty, memory is counted elsewhere.
constexpr uint64_t kSpare = 4;
constexpr uint64_t kLowBytes = 256 << 20;

Arena* opened(uint64_t size, bool low) {
  auto* arena = new Arena;
  return arena->open(size, low) ? arena : nullptr;
}

Arena* arena() {
  static Arena* one = opened(round_up(settings().mem_bytes, kGranularity) * kSpare, false);
  return one;
}

// For the first version of the API, whose addresses have 32 bits.
Arena* low_arena() {
  static Arena* one = opened(kLowBytes, true);
  return one;
}

Arena* arena_of(uint64_t address) {
  Arena* big = arena();
  return big != nullptr && big->holds(address) ? big : low_arena();
}

CUresult take_from(Arena* from, uint64_t size, Origin origin, CUcontext context, uint64_t charged,
                   Range** out) {
  uint64_t base = from != nullptr ? from->take(round_up(size, kUnit)) : 0;
  if (base == 0) return CUDA_ERROR_OUT_OF_MEMORY;
  *out = add_range({.origin = origin, .base = base, .size = size, .charged = charged, .context = context});
  return CUDA_SUCCESS;
}

bool mps_allows(int process, uint64_t bytes) {
  st_usage usage;
  uint64_t limit = mps().mem_bytes;
  if (limit == 0 || st_usage_of(device(), process, &usage, now_ns()) != 0) return true;
  return bytes <= limit && usage.mem_bytes <= limit - bytes;
}

}  // namespace

uint64_t round_up(uint64_t size, uint64_t unit) { return (size + unit - 1) / unit * unit; }

std::map<uint64_t, Range>& ranges() {
  static auto* all = new std::map<uint64_t, Range>;
  return *all;
}

int arena_file() { return arena() != nullptr ? arena()->file() : -1; }
uint64_t arena_base() { return arena() != nullptr ? arena()->base() : 0; }
uint64_t arena_offset(uint64_t address) { return address - arena_base(); }

Range* add_range(const Range& range) {
  static unsigned long long ids = 0;
  Range& added = ranges()[range.base] = range;
  added.id = ++ids;
  return &added;
}

void drop_range(uint64_t base) { ranges().erase(base); }

Range* find_range(uint64_t address) {
  auto after = ranges().upper_bound(address);
  if (after == ranges().begin()) return nullptr;
  Range& range = std::prev(after)->second;
  return address - range.base < std::max<uint64_t>(range.size, 1) ? &range : nullptr;
}

Range* find_base(uint64_t address) {
  auto found = ranges().find(address);
  return found != ranges().end() ? &found->second : nullptr;
}

bool on_device(uint64_t address) {
  Range* range = find_range(address);
  return range != nullptr && range->origin != Origin::kHost && range->origin != Origin::kRegistered;
}

bool charge(uint64_t bytes) {
  int process = members().empty() ? -1 : members().front()->process;
  if (process < 0 || bytes > INT64_MAX) return false;
  if (mps_allows(process, bytes) && st_charge(device(), process, static_cast<int64_t>(bytes)) == 0)
    return true;
  st_reap(device(), now_ns());
  trim_pools_to_zero();
  return mps_allows(process, bytes) && st_charge(device(), process, static_cast<int64_t>(bytes)) == 0;
}

void discharge(uint64_t bytes) {
  if (bytes == 0 || members().empty()) return;
  st_charge(device(), members().front()->process, -static_cast<int64_t>(bytes));
}

CUresult take(uint64_t size, Origin origin, CUcontext context, Range** out, bool low) {
  if (size == 0) return CUDA_ERROR_INVALID_VALUE;
  if (size > settings().mem_bytes) return CUDA_ERROR_OUT_OF_MEMORY;
  uint64_t charged = round_up(size, kUnit);
  if (!charge(charged)) return CUDA_ERROR_OUT_OF_MEMORY;
  CUresult result = take_from(low ? low_arena() : arena(), size, origin, context, charged, out);
  if (result != CUDA_SUCCESS) discharge(charged);
  return result;
}

CUresult take_unpaid(uint64_t size, Origin origin, CUcontext context, Range** out) {
  return take_from(arena(), size, origin, context, 0, out);
}

void give(Range* range) {
  discharge(range->charged);
  arena_of(range->base)->give(range->base, round_up(range->size, kUnit));
  drop_range(range->base);
}

}  // namespace standin::driver

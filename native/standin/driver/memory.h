// Memory: every range that the API has given out, and the arena that device memory lies in.
#pragma once

#include <map>
#include <memory>

#include "contexts.h"

namespace standin::driver {

struct Physical;

enum class Origin : uint8_t {
  kDevice,      // cuMemAlloc and its like
  kManaged,     // cuMemAllocManaged
  kPooled,      // cuMemAllocAsync
  kHost,        // pinned memory of the host
  kRegistered,  // memory of the program's that was pinned
  kMapped,      // cuMemMap
  kImported,    // of another process
  kVariable,    // of a module
};

struct Range {
  Origin origin = Origin::kDevice;
  uint64_t base = 0, size = 0;  // size: as asked for
  uint64_t charged = 0;         // bytes of the device's memory
  CUcontext context = nullptr;
  unsigned long long id = 0;
  unsigned int flags = 0;
  CUmemoryPool pool = nullptr;
  std::shared_ptr<Physical> physical{};
  int uses = 1;  // of an imported one: how often it was opened
  uint64_t imported_inode = 0, imported_offset = 0;
  bool in_use = true;  // by a graph that allocates it
  bool of_graph = false;
  unsigned int sync_memops = 0;
};

// Takes memory of the device from the arena; null address: out of memory. `low`: an address of 32 bits.
CUresult take(uint64_t size, Origin origin, CUcontext context, Range** out, bool low = false);
// The same without a charge: whoever asks has paid.
CUresult take_unpaid(uint64_t size, Origin origin, CUcontext context, Range** out);
void give(Range* range);

Range* add_range(const Range& range);
void drop_range(uint64_t base);
// The one that an address lies in; null: none.
Range* find_range(uint64_t address);
Range* find_base(uint64_t address);
std::map<uint64_t, Range>& ranges();

// Whether a pointer points to the device's memory.
bool on_device(uint64_t address);
// Counts memory of the whole device; looks for processes that have died before it says no.
bool charge(uint64_t bytes);
void discharge(uint64_t bytes);

void free_all(CUcontext context);

// Waits for everything that the process has submitted.
void wait_for_all();
// Takes memory that came from a pool out of use.
CUresult release_pooled(Range* range);

// The file behind the arena, and where an address lies in it.
int arena_file();
uint64_t arena_offset(uint64_t address);
uint64_t arena_base();

uint64_t round_up(uint64_t size, uint64_t unit);

constexpr uint64_t kUnit = 512;             // addresses and charges are multiples of this
constexpr uint64_t kGranularity = 2 << 20;  // of virtual memory management

// Gives back what pools keep without need: called whenever a program has waited for something.
void trim_pools();
uint64_t trim_pools_to_zero();

}  // namespace standin::driver

// What this process has allocated on the device: tables from handles to sizes, and the account that they are
// for.
#pragma once

#include <cstdint>

#include "functions.h"
#include "pools.h"
#include "table.h"

namespace fasthook {

enum class Kind : uint8_t { kLinear = 1, kPooled };  // what it belongs to: a context, or a pool

constexpr uint64_t kMostBytes = 0xffff'ffff'ffff;

// However little is asked for, the driver gives so much.
constexpr uint64_t kUnit = 512;
inline uint64_t whole(uint64_t bytes) {
  return bytes > kMostBytes ? bytes : (bytes + kUnit - 1) & ~(kUnit - 1);
}

// One allocation; in a table it is one word.
struct Allocation {
  uint64_t bytes;  // kMostBytes at most
  Kind kind;
  uint8_t owner;  // current_context(), or a pool's number

  uint64_t word() const {
    return bytes | static_cast<uint64_t>(kind) << 48 | static_cast<uint64_t>(owner) << 56;
  }
  static Allocation of(uint64_t word) {
    return {word & kMostBytes, static_cast<Kind>(word >> 48 & 0xff), static_cast<uint8_t>(word >> 56)};
  }
};

extern Table pointers;  // device addresses
extern Table arrays;    // CUarray and CUmipmappedArray

// A number for the calling thread's context, from 1; 0 if there is none, or there are very many.
uint8_t current_context();

// The word of an allocation in the calling thread's context.
inline uint64_t linear(uint64_t bytes) { return Allocation{bytes, Kind::kLinear, current_context()}.word(); }

enum class Treatment { kPass, kCount, kRefuse };
// How a call of the program is to be treated that allocates.
inline Treatment treatment(const Inside& inside) {
  if (inside.nested()) return Treatment::kPass;
  switch (enforcement()) {
    case Enforcement::kEnforced:
      return Treatment::kCount;
    case Enforcement::kRefused:
      return Treatment::kRefuse;
    default:
      return Treatment::kPass;
  }
}

// Counts against the cap, or changes nothing and returns false.
bool charge(uint64_t bytes);
void give_back(uint64_t bytes);
void give_back(Allocation allocation);
// Gives back what has ended without a call that said so. `trim`: and has the driver let go of what is not in
// use.
void settle_memory(bool trim);

// Every way to allocate: counted first and given back if the driver fails, so that at no moment more is in
// use than is counted. `remember` says under what it is to be found; if that is not possible `undo` frees it.
// `pool`: its number, or 0.
template <typename Call, typename Remember, typename Undo>
CUresult count(uint8_t pool, uint64_t bytes, Call&& call, Remember&& remember, Undo&& undo) {
  if (!charge_to_pool(pool, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
  CUresult result = call();
  if (result == CUDA_SUCCESS && remember()) [[likely]]
    return result;
  if (result == CUDA_SUCCESS) {
    undo();
    result = CUDA_ERROR_OUT_OF_MEMORY;
  }
  give_back_to_pool(pool, bytes);
  if (pool != 0) settle_pools(false);
  return result;
}

// Forgotten first and remembered again if the driver fails: once it is free, its address may be another's.
template <typename Free>
CUresult release(Table* table, uint64_t key, Free&& free) {
  Inside inside;
  if (inside.nested() || enforcement() != Enforcement::kEnforced) return free();
  uint64_t word = table->take(key);
  CUresult result = free();
  if (word == 0) return result;
  if (result == CUDA_SUCCESS)
    give_back(Allocation::of(word));
  else
    table->put(key, word);
  return result;
}

inline uint64_t key_of(const void* handle) { return reinterpret_cast<uint64_t>(handle); }

// --- what is counted elsewhere -----------------------------------------------------------------------------

void settle_exports();  // what was exported
// An array is gone, and with it what was mapped into it.
void forget_array(uint64_t array);

void forget_allocations();
void forget_virtual_memory();
void forget_limits_of(CUcontext context);
void forget_limits();
void forget_graph_memory();

}  // namespace fasthook

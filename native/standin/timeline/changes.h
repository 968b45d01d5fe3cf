// One change of the device: it happens wholly or, if its process is killed meanwhile, not at all.
#pragma once

#include "layout.h"

namespace standin {

template <typename T>
T load(const T* at) {
  return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}
template <typename T>
void store(T* at, T value) {
  __atomic_store_n(at, value, __ATOMIC_RELEASE);
}

// Holds the device's lock. Puts in order what one that died under it left behind.
class Lock {
 public:
  explicit Lock(st_device* device);
  ~Lock();
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  st_device* device_;
};

// Queues, each at most once.
class QueueSet {
 public:
  void add(int index) {
    uint64_t bit = 1ULL << (index % 64);
    if (bits_[index / 64] & bit) return;
    bits_[index / 64] |= bit;
    items_[count_++] = static_cast<uint16_t>(index);
  }
  bool empty() const { return count_ == 0; }
  int take() {
    int index = items_[--count_];
    bits_[index / 64] &= ~(1ULL << (index % 64));
    return index;
  }

 private:
  uint64_t bits_[kQueues / 64] = {};
  uint16_t items_[kQueues];
  int count_ = 0;
};

class Change {
 public:
  // Of a device whose lock is held; never before the one before it. Who makes a trial must undo it.
  Change(st_device* device, uint64_t now, bool trial = false);
  ~Change();
  Change(const Change&) = delete;
  Change& operator=(const Change&) = delete;

  // All words of the device that say how things are change through this.
  template <typename T>
  void set(T* word, T value) {
    static_assert(sizeof(T) == 8);
    uint64_t count = device->undos;
    uint64_t old;
    __builtin_memcpy(&old, word, 8);
    device->undo[count] = {
        static_cast<uint64_t>(reinterpret_cast<char*>(word) - reinterpret_cast<char*>(device)), old};
    // Its own process alone may be cut short here, so it is the compiler that must keep the order.
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    device->undos = count + 1;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    __atomic_store(word, &value, __ATOMIC_RELAXED);
  }
  // Keeps what was done until now, if there would soon be no room to undo it. Only where Lock can go on from.
  void relieve();
  bool crowded() const { return device->undos > kUndos / 2; }

  st_device* const device;
  const uint64_t at;  // when it happens
  const bool trial;
  bool rates_differ = false;
  QueueSet to_do;  // queues that may go on

 private:
  friend void finish(Change* change, int index);
  friend void drop(Change* change, int index);
  QueueSet finished_;
};

// Takes back what is not kept.
void undo(st_device* device);

}  // namespace standin

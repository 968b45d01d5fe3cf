// Which handles are alive: one that is not is an error, not a crash.
#pragma once

#include <unordered_set>

namespace standin::driver {

template <typename T>
std::unordered_set<const T*>& all_of() {
  static auto* set = new std::unordered_set<const T*>;
  return *set;
}

template <typename T>
bool alive(const T* handle) {
  return all_of<T>().contains(handle);
}

template <typename T>
T* enlist(T* handle) {
  all_of<T>().insert(handle);
  return handle;
}

// Ends the handle's life and frees it.
template <typename T>
void strike(T* handle) {
  all_of<T>().erase(handle);
  delete handle;
}

}  // namespace standin::driver

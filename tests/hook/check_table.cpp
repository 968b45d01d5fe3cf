// The hook's table beside std::unordered_map: the same steps on both, in one thread and in several.
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <unordered_map>
#include <vector>

#include "table.h"

using fasthook::Table;
using Model = std::unordered_map<uint64_t, uint64_t>;

constinit Table table = {};

void check(bool holds, const char* what) {
  if (holds) return;
  printf("%s\n", what);
  exit(1);
}

// Keys as devices have addresses: aligned, close to each other, or anywhere.
uint64_t some_key(std::mt19937_64& random, uint64_t range) {
  uint64_t index = 1 + random() % range;
  switch (range % 3) {
    case 0:
      return index * 512 + (uint64_t{1} << 40);
    case 1:
      return index << 21;
    default:
      return index * 0x9e3779b97f4a7c15ULL | 1;
  }
}

void compare(const Model& model) {
  size_t seen = 0;
  Model found;
  table.remove_if([&](uint64_t key, uint64_t value) {
    ++seen;
    found[key] = value;
    return false;
  });
  check(found == model && seen == model.size(), "not the same content");
}

void one_round(uint64_t seed, uint64_t range, int steps) {
  std::mt19937_64 random(seed);
  Model model;
  for (int step = 0; step < steps; ++step) {
    uint64_t key = some_key(random, range), value = 1 + random() % 1000;
    auto there = model.find(key);
    uint64_t before = there == model.end() ? 0 : there->second;
    switch (random() % 5) {
      case 0:
      case 1:
        check(table.put(key, value), "no room");
        model[key] = value;
        break;
      case 2:
        check(table.take(key) == before, "took another value");
        model.erase(key);
        break;
      case 3:
        check(table.find(key) == before, "found another value");
        break;
      default:
        check(table.change(key, [&](uint64_t& v) { v = v > 500 ? v - 500 : 0; }) == (before != 0),
              "changed nothing");
        if (before > 500)
          model[key] = before - 500;
        else
          model.erase(key);
    }
    if (step % 1000 == 999) {
      table.remove_if([&](uint64_t, uint64_t v) { return v % 7 == 0; });
      std::erase_if(model, [](const auto& entry) { return entry.second % 7 == 0; });
      compare(model);
    }
  }
  table.remove_if([](uint64_t, uint64_t) { return true; });
  compare({});
}

// Each has keys of its own, and all of them share the table.
void in_threads(int count, int steps) {
  std::vector<std::thread> threads;
  for (int thread = 0; thread < count; ++thread) {
    threads.emplace_back([=] {
      std::mt19937_64 random(thread);
      Model model;
      for (int step = 0; step < steps; ++step) {
        uint64_t key = (1 + random() % 500) * 4096 + thread * 512, value = 1 + random() % 1000;
        auto there = model.find(key);
        uint64_t before = there == model.end() ? 0 : there->second;
        check(table.take(key) == before, "another thread's value");
        check(table.put(key, value), "no room");
        model[key] = value;
        if (step % 5000 == 0) table.remove_if([](uint64_t, uint64_t) { return false; });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

int main() {
  for (uint64_t range : {1, 20, 300, 3001, 20000}) one_round(range, range, 20000);
  in_threads(4, 20000);
  table.forget();
  compare({});
  puts("as it should be");
}

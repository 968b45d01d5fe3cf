#include "replay_trace.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>

namespace replay {
namespace {

constexpr size_t kMostSteps = 100'000;

using Fields = std::map<std::string, double>;

double number(const std::string& field, const std::string& text, double most = 1e9) {
  char* end = nullptr;
  double value = strtod(text.c_str(), &end);
  if (text.empty() || *end != 0 || !(value >= 0 && value <= most))
    throw std::invalid_argument(field + " is '" + text + "'; allowed: a number from 0 to " +
                                std::to_string(most));
  return value;
}

uint32_t whole(const std::string& field, double value) {
  if (value < 1 || value != std::floor(value))
    throw std::invalid_argument(field + " is " + std::to_string(value) + "; allowed: a whole number from 1");
  return static_cast<uint32_t>(value);
}

uint64_t ns_of(double us) { return static_cast<uint64_t>(std::llround(1000 * us)); }

class Reader {
 public:
  void read(const std::vector<std::string>& words);
  Trace finish();

 private:
  Fields fields(const std::vector<std::string>& words, size_t from, Fields known) const;
  void add_kernel(const std::vector<std::string>& words);
  void add(const std::vector<Step>& steps);

  Trace trace_;
  Fields scales_ = {{"device", 1}, {"blocks", 1}, {"bandwidth", 1}, {"launch", 1}, {"host", 1}};
  std::vector<std::vector<Step>> blocks_{1};  // the steps outside, and of every repeat that is open
  std::vector<uint32_t> repeats_;
};

// NAME=NUMBER words over what is known already; a field that is not is refused.
Fields Reader::fields(const std::vector<std::string>& words, size_t from, Fields known) const {
  for (size_t i = from; i < words.size(); ++i) {
    size_t at = words[i].find('=');
    std::string key = words[i].substr(0, at);
    if (at == std::string::npos || !known.count(key))
      throw std::invalid_argument("'" + words[i] + "' is not known");
    known[key] = number(key, words[i].substr(at + 1));
  }
  return known;
}

void Reader::add_kernel(const std::vector<std::string>& words) {
  if (words.size() < 2) throw std::invalid_argument("a kernel has a name");
  Fields f = fields(words, 2, {{"blocks", 0}, {"per_sm", 1}, {"us", -1}, {"gap_us", 0}, {"bandwidth", 0}});
  if (f["us"] < 0) throw std::invalid_argument("a kernel has blocks and us");
  trace_.kernels.push_back({words[1], whole("blocks", f["blocks"]), whole("per_sm", f["per_sm"]),
                            ns_of(f["us"]), ns_of(f["gap_us"]),
                            static_cast<uint32_t>(std::lround(1000 * f["bandwidth"]))});
}

void Reader::add(const std::vector<Step>& steps) {
  std::vector<Step>& block = blocks_.back();
  if (block.size() + steps.size() > kMostSteps) throw std::invalid_argument("a request has too many steps");
  block.insert(block.end(), steps.begin(), steps.end());
}

void Reader::read(const std::vector<std::string>& words) {
  const std::string& word = words[0];
  std::string value = words.size() == 2 ? words[1] : "";
  if (word == "title") {
    for (size_t i = 1; i < words.size(); ++i) trace_.title += (i > 1 ? " " : "") + words[i];
  } else if (word == "spread") {
    trace_.spread = number(word, value, 1);
  } else if (word == "scale") {
    scales_ = fields(words, 1, scales_);
  } else if (word == "kernel") {
    add_kernel(words);
  } else if (word == "repeat") {
    repeats_.push_back(whole(word, number(word, value)));
    blocks_.emplace_back();
  } else if (word == "end" && !repeats_.empty()) {
    std::vector<Step> block = std::move(blocks_.back());
    blocks_.pop_back();
    for (uint32_t i = 0; i < repeats_.back(); ++i) add(block);
    repeats_.pop_back();
  } else if (word == "host") {
    add({{StepKind::kHost, ns_of(number(word, value)), 0}});
  } else if (word == "sync") {
    add({{StepKind::kSync, 0, 0}});
  } else {
    auto same = [&](const Kernel& k) { return k.name == word; };
    auto found = std::find_if(trace_.kernels.begin(), trace_.kernels.end(), same);
    if (found == trace_.kernels.end())
      throw std::invalid_argument("'" + word + "' is no kernel and no other line");
    add({{StepKind::kLaunch, found->gap_ns, static_cast<size_t>(found - trace_.kernels.begin())}});
  }
}

uint64_t scaled(uint64_t value, double by) {
  return static_cast<uint64_t>(std::llround(static_cast<double>(value) * by));
}

Trace Reader::finish() {
  if (!repeats_.empty()) throw std::invalid_argument("a repeat has no end");
  trace_.steps = std::move(blocks_[0]);
  auto launches = [](const Step& s) { return s.kind == StepKind::kLaunch; };
  if (!std::any_of(trace_.steps.begin(), trace_.steps.end(), launches))
    throw std::invalid_argument("a request launches something");
  if (launches(trace_.steps.back())) trace_.steps.push_back({StepKind::kSync, 0, 0});
  for (Step& s : trace_.steps) s.host_ns = scaled(s.host_ns, scales_[launches(s) ? "launch" : "host"]);
  for (Kernel& k : trace_.kernels) {
    k.blocks = static_cast<uint32_t>(std::max<uint64_t>(1, scaled(k.blocks, scales_["blocks"])));
    k.full_ns = scaled(k.full_ns, scales_["device"]);
    k.bandwidth = static_cast<uint32_t>(std::min<uint64_t>(1000, scaled(k.bandwidth, scales_["bandwidth"])));
  }
  return trace_;
}

std::vector<std::string> words_of(std::string line) {
  std::istringstream in(line.substr(0, line.find('#')));
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

}  // namespace

bool read_trace(const std::string& path, Trace* trace, std::string* error) {
  std::ifstream in(path);
  Reader reader;
  std::string line;
  int number = 0;
  try {
    if (!in) throw std::invalid_argument("it cannot be read");
    for (; std::getline(in, line);) {
      ++number;
      std::vector<std::string> words = words_of(line);
      if (!words.empty()) reader.read(words);
    }
    *trace = reader.finish();
    return true;
  } catch (const std::exception& problem) {
    *error = path + ", line " + std::to_string(number) + ": " + problem.what();
    return false;
  }
}

}  // namespace replay

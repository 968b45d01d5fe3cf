// What a probe says: one JSON object a line, on standard output.
#pragma once

#include <cstdint>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

namespace probe {

class Line {
 public:
  Line& add(const char* key, const std::string& text) { return raw(key, '"' + text + '"'); }
  Line& add(const char* key, const char* text) { return add(key, std::string(text)); }
  Line& add(const char* key, uint64_t number) { return raw(key, std::to_string(number)); }
  Line& add(const char* key, int number) { return raw(key, std::to_string(number)); }
  template <typename T>
  Line& add(const char* key, const std::vector<T>& numbers) {
    std::string list;
    for (const T& number : numbers) list += (list.empty() ? "" : ",") + std::to_string(number);
    return raw(key, '[' + list + ']');
  }
  Line& raw(const char* key, const std::string& value) {
    text_ += (text_.empty() ? "\"" : ",\"") + std::string(key) + "\":" + value;
    return *this;
  }
  void print() const {
    printf("{%s}\n", text_.c_str());
    fflush(stdout);
  }

 private:
  std::string text_;
};

// KEY=VALUE of the command line.
class Options {
 public:
  Options(char** from, char** to) {
    for (; from != to; ++from) {
      std::string word = *from;
      size_t equals = word.find('=');
      if (equals != std::string::npos) values_[word.substr(0, equals)] = word.substr(equals + 1);
    }
  }
  std::string text(const char* key, const char* otherwise = "") const {
    auto found = values_.find(key);
    return found != values_.end() ? found->second : otherwise;
  }
  uint64_t number(const char* key, uint64_t otherwise) const {
    auto found = values_.find(key);
    return found != values_.end() ? std::stoull(found->second) : otherwise;
  }
  double real(const char* key, double otherwise) const {
    auto found = values_.find(key);
    return found != values_.end() ? std::stod(found->second) : otherwise;
  }
  std::vector<uint64_t> numbers(const char* key, uint64_t otherwise) const {
    std::vector<uint64_t> list;
    std::string rest = text(key);
    while (!rest.empty()) {
      size_t comma = rest.find(',');
      list.push_back(std::stoull(rest.substr(0, comma)));
      rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
    }
    return list.empty() ? std::vector<uint64_t>{otherwise} : list;
  }

 private:
  std::map<std::string, std::string> values_;
};

// Waits until standard input says something; false at its end.
inline bool wait_for_word() {
  char line[256];
  return fgets(line, sizeof line, stdin) != nullptr;
}

}  // namespace probe

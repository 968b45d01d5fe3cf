// What FASTGSHARE_STANDIN says: `key=value`, separated by commas.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>

namespace standin {

struct Settings {
  uint32_t sms = 132;
  uint64_t mem_bytes = uint64_t{80} << 30;
  std::string state;  // file that all processes on the device share; "": a device of this process alone
  uint64_t kernel_ns = 10'000;  // time of a wave of kernels that nobody described
  bool null = false;            // calls do nothing
  bool mps_is_real = false;     // MPS is there if a control daemon answers; else: as if one server served all
  std::string die_function;     // of the driver; "": do not
  uint64_t die_at = 0;          // its call that kills the process, from 1
  bool die_before = false;      // it, or after it
};

// "" or what is wrong: the key, the value and what is allowed.
std::string read_settings(const std::string& text, Settings* out);

namespace detail {

inline bool read_number(const std::string& text, uint64_t least, uint64_t most, uint64_t* out) {
  if (text.empty() || text.size() > 19) return false;
  uint64_t number = 0;
  for (char c : text) {
    if (c < '0' || c > '9') return false;
    number = number * 10 + static_cast<uint64_t>(c - '0');
  }
  if (number < least || number > most) return false;
  *out = number;
  return true;
}

inline bool read_death(const std::string& text, Settings* out) {
  size_t first = text.find(':'), second = text.find(':', first + 1);
  if (first == 0 || first == std::string::npos || second == std::string::npos) return false;
  std::string when = text.substr(second + 1);
  out->die_function = text.substr(0, first);
  out->die_before = when == "before";
  return (when == "before" || when == "after") &&
         read_number(text.substr(first + 1, second - first - 1), 1, UINT64_MAX, &out->die_at);
}

// Null, or what is allowed.
inline const char* read_setting(const std::string& key, const std::string& value, Settings* out) {
  uint64_t number = 0;
  if (key == "sms") {
    if (!read_number(value, 1, 1024, &number)) return "1 to 1024";
    out->sms = static_cast<uint32_t>(number);
  } else if (key == "mem") {
    if (!read_number(value, 1 << 20, uint64_t{1} << 50, &out->mem_bytes)) return "bytes, 1048576 to 2^50";
  } else if (key == "kernel_ns") {
    if (!read_number(value, 1, 3'600'000'000'000, &out->kernel_ns)) return "nanoseconds, 1 to 3600000000000";
  } else if (key == "null") {
    if (!read_number(value, 0, 1, &number)) return "0 or 1";
    out->null = number == 1;
  } else if (key == "state") {
    if (value.empty()) return "path of a file";
    out->state = value;
  } else if (key == "mps") {
    if (value != "assumed" && value != "real") return "assumed or real";
    out->mps_is_real = value == "real";
  } else if (key == "die") {
    if (!read_death(value, out)) return "FUNCTION:N:before or FUNCTION:N:after, N from 1";
  } else {
    return "the keys sms, mem, state, kernel_ns, null, mps and die";
  }
  return nullptr;
}

}  // namespace detail

inline std::string read_settings(const std::string& text, Settings* out) {
  for (size_t start = 0; start < text.size();) {
    size_t end = std::min(text.find(',', start), text.size());
    std::string pair = text.substr(start, end - start);
    size_t equals = std::min(pair.find('='), pair.size());
    std::string value = equals < pair.size() ? pair.substr(equals + 1) : "";
    const char* allowed = detail::read_setting(pair.substr(0, equals), value, out);
    if (allowed != nullptr) return pair + ": allowed is " + allowed;
    start = end + 1;
  }
  return "";
}

// From the environment.
inline std::string read_settings(Settings* out) {
  const char* text = getenv("FASTGSHARE_STANDIN");
  return read_settings(text != nullptr ? text : "", out);
}

}  // namespace standin

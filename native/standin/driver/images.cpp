// Which kind of image something is, and what its directives say.
#include "images.h"

#include <elf.h>

#include <charconv>
#include <cstring>

namespace standin::driver {
namespace {

uint32_t magic_of(const void* data) {
  uint32_t magic;
  memcpy(&magic, data, sizeof(magic));
  return magic;
}

// As far as its last section or its section headers.
size_t elf_size(const void* data) {
  Elf64_Ehdr header;
  memcpy(&header, data, sizeof(header));
  size_t size = header.e_shoff + size_t{header.e_shnum} * header.e_shentsize;
  for (unsigned i = 0; i < header.e_shnum; ++i) {
    Elf64_Shdr section;
    memcpy(&section, static_cast<const char*>(data) + header.e_shoff + i * sizeof(section), sizeof(section));
    if (section.sh_type != SHT_NOBITS) size = std::max<size_t>(size, section.sh_offset + section.sh_size);
  }
  size_t segments = header.e_phoff + size_t{header.e_phnum} * header.e_phentsize;
  return std::max(size, segments);
}

template <typename T>
bool number(std::string_view text, T least, T most, T* out) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && end == text.data() + text.size() && *out >= least && *out <= most;
}

// Null, or what is allowed.
const char* read_key(std::string_view key, std::string_view value, Cost* out) {
  bool from = key == "full_ns" && value.starts_with('@');
  if (from)
    return number(value.substr(1), 0, 4095, &out->full_from) ? nullptr
                                                             : "@ and the number of a parameter, from 0";
  if (key == "full_ns")
    return number<uint64_t>(value, 0, 3'600'000'000'000, &out->full_ns) ? nullptr
                                                                        : "0 to 3600000000000, or @PARAMETER";
  if (key == "blocks_per_sm") return number(value, 1u, 32u, &out->blocks_per_sm) ? nullptr : "1 to 32";
  if (key == "bandwidth")
    return number(value, 0u, 1000u, &out->bandwidth) ? nullptr : "0 to 1000 (thousandths)";
  if (key == "fault")
    return number(value, 1u, 999u, &out->fault) ? nullptr : "1 to 999, an error of the driver";
  return "the keys full_ns, blocks_per_sm, bandwidth and fault";
}

}  // namespace

std::string read_cost(std::string_view directive, Cost* out) {
  out->described = true;
  for (size_t start = 0; (start = directive.find_first_not_of(" \t\r", start)) != directive.npos;) {
    size_t end = std::min(directive.find_first_of(" \t\r", start), directive.size());
    std::string_view pair = directive.substr(start, end - start);
    size_t equals = std::min(pair.find('='), pair.size());
    const char* allowed =
        read_key(pair.substr(0, equals), pair.substr(std::min(equals + 1, pair.size())), out);
    if (allowed != nullptr) return std::string(pair) + ": allowed is " + allowed;
    start = end;
  }
  bool timed = out->full_ns != 0 || out->full_from >= 0 || directive.find("full_ns=") != directive.npos;
  return timed ? "" : "full_ns is missing: allowed is 0 to 3600000000000, or @PARAMETER";
}

CUresult read_image(const void* data, size_t size, Image* out) {
  if (data == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto* text = static_cast<const char*>(data);
  bool word = size >= 4 || (size == 0 && text[0] != 0 && text[1] != 0 && text[2] != 0);
  uint32_t magic = word ? magic_of(data) : 0;
  if (magic == kFatbinMagic || magic == kWrapperMagic) return read_fatbin(data, size, out);
  if (magic == kElfMagic) return read_elf({text, size != 0 ? size : elf_size(data)}, out);
  return read_ptx({text, size != 0 ? strnlen(text, size) : strlen(text)}, out);
}

}  // namespace standin::driver

// Cubins: ELF files whose sections are named after kernels.
#include <elf.h>

#include <algorithm>
#include <cstring>

#include "images.h"

namespace standin::driver {
namespace {

constexpr uint8_t kSized = 0x04;      // an attribute with a length of 16 bits and as many bytes
constexpr uint8_t kParameter = 0x17;  // of a kernel: ordinal, offset, size
constexpr uint8_t kMaxThreads = 0x05;
constexpr uint8_t kManaged = 0x04;  // of a symbol's st_other

template <typename T>
bool load(std::string_view data, size_t at, T* out) {
  if (at > data.size() || data.size() - at < sizeof(T)) return false;
  memcpy(out, data.data() + at, sizeof(T));
  return true;
}

struct Section {
  std::string name;
  Elf64_Shdr header;
  std::string_view data;
};

std::string text_at(std::string_view strings, size_t at) {
  if (at >= strings.size()) return "";
  return std::string(strings.substr(at, std::min(strings.find('\0', at), strings.size()) - at));
}

std::string_view part(std::string_view data, const Elf64_Shdr& header) {
  if (header.sh_type == SHT_NOBITS || header.sh_offset > data.size()) return {};
  return data.substr(header.sh_offset, header.sh_size);
}

bool read_sections(std::string_view data, std::vector<Section>* out) {
  Elf64_Ehdr header;
  if (!load(data, 0, &header) || header.e_shentsize != sizeof(Elf64_Shdr)) return false;
  for (unsigned i = 0; i < header.e_shnum; ++i) {
    Section section;
    if (!load(data, header.e_shoff + i * sizeof(Elf64_Shdr), &section.header)) return false;
    section.data = part(data, section.header);
    out->push_back(std::move(section));
  }
  if (header.e_shstrndx >= out->size()) return false;
  std::string_view names = (*out)[header.e_shstrndx].data;
  for (Section& section : *out) section.name = text_at(names, section.header.sh_name);
  return true;
}

const Section* find(const std::vector<Section>& sections, const std::string& name) {
  auto found =
      std::find_if(sections.begin(), sections.end(), [&](const Section& s) { return s.name == name; });
  return found != sections.end() ? &*found : nullptr;
}

void read_parameter(std::string_view value, KernelImage* kernel) {
  uint16_t ordinal, offset;
  uint32_t bits;
  if (!load(value, 4, &ordinal) || !load(value, 6, &offset) || !load(value, 8, &bits)) return;
  if (kernel->params.size() <= ordinal) kernel->params.resize(ordinal + 1u);
  kernel->params[ordinal] = {offset, (bits >> 18) & 0x3fff};
}

void read_max_threads(std::string_view value, KernelImage* kernel) {
  uint32_t x, y, z;
  if (load(value, 0, &x) && load(value, 4, &y) && load(value, 8, &z))
    kernel->max_threads = static_cast<uint32_t>(std::clamp<uint64_t>(uint64_t{x} * y * z, 1, 1024));
}

void read_attributes(std::string_view data, KernelImage* kernel) {
  for (size_t at = 0; at + 4 <= data.size();) {
    uint8_t form = static_cast<uint8_t>(data[at]), attribute = static_cast<uint8_t>(data[at + 1]);
    uint16_t length = 0;
    if (form == kSized) load(data, at + 2, &length);
    std::string_view value = data.substr(at + 4, length);
    if (attribute == kParameter) read_parameter(value, kernel);
    if (attribute == kMaxThreads) read_max_threads(value, kernel);
    at += 4u + length;
  }
}

void read_kernel(const std::vector<Section>& sections, const std::string& name, Image* out) {
  KernelImage kernel;
  kernel.name = name;
  const Section* info = find(sections, ".nv.info." + name);
  kernel.params_known = info != nullptr;
  if (info != nullptr) read_attributes(info->data, &kernel);
  const Section* shared = find(sections, ".nv.shared." + name);
  if (shared != nullptr) kernel.shared_bytes = static_cast<uint32_t>(shared->header.sh_size);
  out->kernels.push_back(std::move(kernel));
}

bool of_variables(const std::string& section) {
  return section.starts_with(".nv.global") || section.starts_with(".nv.constant3");
}

void read_symbols(const std::vector<Section>& sections, const Section& table, Image* out) {
  if (table.header.sh_link >= sections.size()) return;
  std::string_view names = sections[table.header.sh_link].data;
  for (size_t at = 0; at + sizeof(Elf64_Sym) <= table.data.size(); at += sizeof(Elf64_Sym)) {
    Elf64_Sym symbol;
    load(table.data, at, &symbol);
    if (ELF64_ST_TYPE(symbol.st_info) != STT_OBJECT || symbol.st_shndx >= sections.size()) continue;
    const Section& home = sections[symbol.st_shndx];
    if (!of_variables(home.name) || symbol.st_size == 0) continue;
    bool managed = (symbol.st_other & kManaged) != 0;
    Variable variable = {text_at(names, symbol.st_name), symbol.st_size, {}, managed};
    if (symbol.st_value < home.data.size()) {
      std::string_view bytes = home.data.substr(symbol.st_value, symbol.st_size);
      const auto* first = reinterpret_cast<const std::byte*>(bytes.data());
      variable.initial.assign(first, first + bytes.size());
    }
    out->variables.push_back(std::move(variable));
  }
}

}  // namespace

CUresult read_elf(std::string_view data, Image* out) {
  std::vector<Section> sections;
  if (!read_sections(data, &sections)) return CUDA_ERROR_INVALID_IMAGE;
  for (const Section& section : sections) {
    if (section.name.starts_with(".text.")) read_kernel(sections, section.name.substr(6), out);
    if (section.header.sh_type == SHT_SYMTAB) read_symbols(sections, section, out);
  }
  return CUDA_SUCCESS;
}

}  // namespace standin::driver

// Fat binaries: containers of PTX and cubins. PTX is preferred: it says more.
#include <cstdio>
#include <cstring>

#include "images.h"

namespace standin::driver {
namespace {

struct Wrapper {
  uint32_t magic, version;
  const void* data;
  void* other;
};

struct Header {
  uint32_t magic;
  uint16_t version, size;
  uint64_t bytes;  // behind the header
};

struct Entry {
  uint16_t kind, version;
  uint32_t size;
  uint64_t bytes;  // behind the entry, padded
  uint32_t packed_bytes, unused;
  uint16_t minor, major;
  uint32_t arch, name_offset, name_bytes;
  uint64_t flags, zero, unpacked_bytes;
};

constexpr uint16_t kPtx = 1, kCubin = 2;
constexpr uint64_t kMostBytes = 1 << 30;  // of an image, unpacked
constexpr uint64_t kLz4 = 0x2000, kZstd = 0x8000;

// What an entry holds; false: it is packed in a way that we cannot unpack.
bool content(const Entry& entry, const char* data, std::string* out) {
  if ((entry.flags & kZstd) != 0) return false;
  if ((entry.flags & kLz4) != 0 && (entry.packed_bytes > entry.bytes || entry.unpacked_bytes > kMostBytes))
    return false;
  if ((entry.flags & kLz4) != 0) return decompress({data, entry.packed_bytes}, entry.unpacked_bytes, out);
  out->assign(data, entry.bytes);
  return true;
}

CUresult read_entry(const Entry& entry, const std::string& data, Image* out) {
  if (entry.kind == kPtx) return read_ptx({data.c_str()}, out);
  return read_elf(data, out);
}

// Reads the entries of a kind into the image; true: there was one that could be read.
bool read_entries(const char* at, const char* end, uint16_t kind, Image* out) {
  while (static_cast<size_t>(end - at) >= sizeof(Entry)) {
    Entry entry;
    memcpy(&entry, at, sizeof(entry));
    if (entry.size < sizeof(Entry) || entry.size > static_cast<size_t>(end - at) ||
        entry.bytes > static_cast<size_t>(end - at) - entry.size)
      return false;
    std::string data;
    Image image;
    if (entry.kind == kind && content(entry, at + entry.size, &data) &&
        read_entry(entry, data, &image) == CUDA_SUCCESS) {
      *out = std::move(image);
      return true;
    }
    at += entry.size + entry.bytes;
  }
  return false;
}

}  // namespace

CUresult read_fatbin(const void* data, size_t size, Image* out) {
  Wrapper wrapper;
  memcpy(&wrapper.magic, data, sizeof(wrapper.magic));
  if (wrapper.magic == kWrapperMagic && size == 0) {
    memcpy(&wrapper, data, sizeof(wrapper));
    data = wrapper.data;
  }
  Header header;
  if (data == nullptr || (size != 0 && size < sizeof(header))) return CUDA_ERROR_INVALID_IMAGE;
  memcpy(&header, data, sizeof(header));
  if (header.magic != kFatbinMagic || header.size < sizeof(header) || header.bytes < sizeof(Entry))
    return CUDA_ERROR_INVALID_IMAGE;
  if (size != 0 && (header.size > size || header.bytes > size - header.size)) return CUDA_ERROR_INVALID_IMAGE;
  const char* first = static_cast<const char*>(data) + header.size;
  const char* end = first + header.bytes;
  if (read_entries(first, end, kPtx, out) || read_entries(first, end, kCubin, out)) return CUDA_SUCCESS;
  out->any_name = true;
  static bool said = false;  // under the driver's lock
  if (!said)
    fprintf(stderr,
            "stand-in libcuda: device code is packed in a way that it cannot unpack; "
            "nvcc --compress-mode=none keeps it readable\n");
  said = true;
  return CUDA_SUCCESS;
}

}  // namespace standin::driver

// The block format of LZ4: literals, then copies of what came before.
#include "images.h"

namespace standin::driver {
namespace {

struct Reader {
  std::string_view data;
  size_t at = 0;
  bool good = true;

  uint8_t byte() {
    good &= at < data.size();
    return good ? static_cast<uint8_t>(data[at++]) : 0;
  }
  // Four bits, and bytes on top while they are full.
  size_t length(uint8_t nibble) {
    size_t length = nibble;
    for (uint8_t more = 255; nibble == 15 && more == 255 && good;) length += more = byte();
    return length;
  }
};

bool copy_literals(Reader& in, size_t length, size_t size, std::string* out) {
  if (length > in.data.size() - in.at || length > size - out->size()) return false;
  out->append(in.data.substr(in.at, length));
  in.at += length;
  return true;
}

// What is copied may reach into what this copy writes.
bool copy_match(size_t offset, size_t length, size_t size, std::string* out) {
  if (offset == 0 || offset > out->size() || length > size - out->size()) return false;
  for (size_t i = 0; i < length; ++i) out->push_back((*out)[out->size() - offset]);
  return true;
}

}  // namespace

bool decompress(std::string_view packed, size_t size, std::string* out) {
  Reader in{packed};
  out->clear();
  out->reserve(size);
  while (in.good && in.at < packed.size()) {
    uint8_t token = in.byte();
    size_t literals = in.length(token >> 4);
    if (!in.good || !copy_literals(in, literals, size, out)) return false;
    if (in.at == packed.size()) break;
    size_t offset = in.byte();
    offset |= static_cast<size_t>(in.byte()) << 8;
    size_t length = in.length(token & 15) + 4;
    if (!in.good || !copy_match(offset, length, size, out)) return false;
  }
  return in.good && out->size() == size;
}

}  // namespace standin::driver

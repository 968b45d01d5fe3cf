// The ways in to functions by name: dlsym, dlvsym, and cuGetProcAddress.
#include <dlfcn.h>
#include <elf.h>
#include <link.h>

#include "functions.h"

// The linker's, but not one more library to need.
#pragma weak _r_debug

namespace fasthook {
namespace {

// None of libc's functions here: a sanitizer's runtime has its own for those, and calls us before they are
// ready.
bool same(const char* a, const char* b) {
  while (*a == *b && *a != 0) ++a, ++b;
  return *a == *b;
}

bool ends_with_name(const char* path, const char* name) {
  const char* last = path;
  for (; *path; ++path)
    if (*path == '/') last = path + 1;
  return same(last, name);
}

// --- past our own dlsym ------------------------------------------------------------------------------------

// What the linker knows of a library, in its own tables.
struct Tables {
  const ElfW(Sym) * symbols = nullptr;
  const char* names = nullptr;
  const uint32_t* hash = nullptr;  // DT_GNU_HASH
  const uint16_t* versions = nullptr;
  ElfW(Addr) base = 0;
};

uint32_t gnu_hash(const char* name) {
  uint32_t hash = 5381;
  for (; *name; ++name) hash = hash * 33 + static_cast<unsigned char>(*name);
  return hash;
}

// The default version of a function that the library defines, or null.
void* look_up(const Tables& tables, const char* name) {
  constexpr uint16_t kHidden = 0x8000;
  uint32_t buckets = tables.hash[0], first = tables.hash[1], words = tables.hash[2];
  const uint32_t* bucket = tables.hash + 4 + words * (sizeof(ElfW(Addr)) / 4);
  const uint32_t* chain = bucket + buckets;
  uint32_t hash = gnu_hash(name), at = bucket[hash % buckets];
  for (; at >= first; ++at) {
    uint32_t other = chain[at - first];
    const ElfW(Sym) & symbol = tables.symbols[at];
    bool is_it = (other | 1) == (hash | 1) && same(tables.names + symbol.st_name, name);
    if (is_it && !(tables.versions[at] & kHidden))
      return reinterpret_cast<void*>(tables.base + symbol.st_value);
    if (other & 1) break;
  }
  return nullptr;
}

Tables tables_of(const link_map* library) {
  Tables tables;
  tables.base = library->l_addr;
  for (const ElfW(Dyn)* entry = library->l_ld; entry->d_tag != DT_NULL; ++entry) {
    auto* at = reinterpret_cast<const void*>(entry->d_un.d_ptr);
    if (entry->d_tag == DT_SYMTAB) tables.symbols = static_cast<const ElfW(Sym)*>(at);
    if (entry->d_tag == DT_STRTAB) tables.names = static_cast<const char*>(at);
    if (entry->d_tag == DT_GNU_HASH) tables.hash = static_cast<const uint32_t*>(at);
    if (entry->d_tag == DT_VERSYM) tables.versions = static_cast<const uint16_t*>(at);
  }
  return tables;
}

Dlsym found_dlsym = nullptr;
Dlvsym found_dlvsym = nullptr;

// A versioned reference of ours would find our own definition, for that is what interposing means. libc comes
// among the libraries of the start, which stay as they are: so the list may be read without the linker's
// lock.
[[gnu::cold, gnu::noinline]] void find_libc() {
  const link_map* library = _r_debug.r_map;
  while (!ends_with_name(library->l_name, "libc.so.6")) library = library->l_next;
  Tables tables = tables_of(library);
  auto* dlvsym = reinterpret_cast<Dlvsym>(look_up(tables, "dlvsym"));
  auto* dlsym = reinterpret_cast<Dlsym>(look_up(tables, "dlsym"));
  __atomic_store_n(&found_dlvsym, dlvsym, __ATOMIC_RELEASE);
  __atomic_store_n(&found_dlsym, dlsym, __ATOMIC_RELEASE);
}

// --- dlsym -------------------------------------------------------------------------------------------------

// Whether there is a point in asking what a name of this look was found to be: "cuM...", not "cuda...".
bool may_be_wrapped(const char* name) {
  if (name == nullptr) return false;
  if (name[0] == 'c') return name[1] == 'u' && name[2] >= 'A' && name[2] <= 'Z';
  if (name[0] == 'n') return name[1] == 'v' && name[2] == 'm' && name[3] == 'l';
  return name[0] == 'd' && (same(name, "dlsym") || same(name, "dlvsym"));
}

// Over all libraries ours is found by itself; after the caller comes what the caller itself stands for.
bool depends_on_caller(const void* handle) { return handle == RTLD_DEFAULT || handle == RTLD_NEXT; }

void* instead_of(void* found) {
  if (found == nullptr || !settings().configured) return found;
  if (found == reinterpret_cast<void*>(libc_dlsym())) return reinterpret_cast<void*>(&::dlsym);
  if (found == reinterpret_cast<void*>(libc_dlvsym())) return reinterpret_cast<void*>(&::dlvsym);
  void* wrapper = wrapper_of(found);
  return wrapper != nullptr ? wrapper : found;
}

// --- cuGetProcAddress --------------------------------------------------------------------------------------

constexpr int kKnownVersion = 13000;  // hooked.def lists all forms up to here

CUresult refuse() { return CUDA_ERROR_NOT_PERMITTED; }

// A form that is younger than this hook. What it takes is not known, but what it returns is.
void* instead_of_unknown(const char* symbol, void* function) {
  static bool said = false;
  bool refuses = settings().refuses;
  say_once(&said,
           refuses ? "a newer form of a function than is known here is refused: "
                   : "NOT ENFORCED, a newer form of a function than is known here passes: ",
           symbol);
  return refuses ? reinterpret_cast<void*>(&refuse) : function;
}

// `ask` asks the driver for the same function in another version.
template <typename Ask>
void* instead_of_form(const char* symbol, void* function, int version, cuuint64_t flags, Ask ask) {
  if (void* wrapper = wrapper_of(function)) return wrapper;
  bool per_thread = flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;
  const Hook* form = form_of(symbol, version, per_thread ? PER_THREAD : LEGACY);
  if (form == nullptr) return function;
  if (version > kKnownVersion && ask(kKnownVersion) != function) return instead_of_unknown(symbol, function);
  take_as_real(form, function);
  return form->wrapper;
}

template <typename Ask>
void replace(CUresult result, const char* symbol, void** function, int version, cuuint64_t flags, Ask ask) {
  if (result != CUDA_SUCCESS || symbol == nullptr || function == nullptr || *function == nullptr) return;
  if (settings().configured) *function = instead_of_form(symbol, *function, version, flags, ask);
}

}  // namespace

Dlsym libc_dlsym() {
  Dlsym found = __atomic_load_n(&found_dlsym, __ATOMIC_ACQUIRE);
  if (found == nullptr) [[unlikely]]
    find_libc(), found = __atomic_load_n(&found_dlsym, __ATOMIC_ACQUIRE);
  return found;
}

Dlvsym libc_dlvsym() {
  libc_dlsym();
  return __atomic_load_n(&found_dlvsym, __ATOMIC_ACQUIRE);
}

}  // namespace fasthook

using namespace fasthook;

// libc's looks at where it is called from. So it is jumped to, with our caller's return address, wherever
// that matters.
#define JUMPS HOOKED __attribute__((optimize("optimize-sibling-calls")))

JUMPS void* dlsym(void* handle, const char* name) noexcept {
  Dlsym real_dlsym = libc_dlsym();
  if (depends_on_caller(handle) || !may_be_wrapped(name)) return real_dlsym(handle, name);
  return instead_of(real_dlsym(handle, name));
}

JUMPS void* dlvsym(void* handle, const char* name, const char* version) noexcept {
  Dlvsym real_dlvsym = libc_dlvsym();
  if (depends_on_caller(handle) || !may_be_wrapped(name)) return real_dlvsym(handle, name, version);
  return instead_of(real_dlvsym(handle, name, version));
}

HOOKED CUresult cuGetProcAddress(const char* symbol, void** function, int version, cuuint64_t flags) {
  Inside inside;
  CUresult result = real.cuGetProcAddress(symbol, function, version, flags);
  if (inside.nested()) return result;
  replace(result, symbol, function, version, flags, [&](int other) {
    void* found = nullptr;
    real.cuGetProcAddress(symbol, &found, other, flags);
    return found;
  });
  return result;
}

HOOKED CUresult cuGetProcAddress_v2(const char* symbol, void** function, int version, cuuint64_t flags,
                                    CUdriverProcAddressQueryResult* status) {
  Inside inside;
  CUresult result = real.cuGetProcAddress_v2(symbol, function, version, flags, status);
  if (inside.nested()) return result;
  replace(result, symbol, function, version, flags, [&](int other) {
    void* found = nullptr;
    CUdriverProcAddressQueryResult ignored;
    real.cuGetProcAddress_v2(symbol, &found, other, flags, &ignored);
    return found;
  });
  return result;
}

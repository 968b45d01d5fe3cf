#include "physical.h"

#include <sys/mman.h>
#include <sys/stat.h>

namespace fasthook {

constinit Table handles = {};

namespace {

Room* free_rooms = nullptr;
uint32_t rooms_lock = 0;

bool take_page() {
  constexpr size_t kPage = 1 << 16;
  void* page = mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return false;
  for (Room *room = static_cast<Room*>(page), *end = room + kPage / sizeof(Room); room != end; ++room) {
    room->next = free_rooms;
    free_rooms = room;
  }
  return true;
}

}  // namespace

Room* take_room() {
  SpinLock lock(&rooms_lock);
  if (free_rooms == nullptr && !take_page()) return nullptr;
  Room* room = free_rooms;
  free_rooms = room->next;
  return room;
}

void leave_room(void* what) {
  SpinLock lock(&rooms_lock);
  Room* room = static_cast<Room*>(what);
  room->next = free_rooms;
  free_rooms = room;
}

void forget_rooms() {
  free_rooms = nullptr;
  rooms_lock = 0;
}

void end_use(Physical* physical) {
  if (__atomic_sub_fetch(&physical->uses, 1U, __ATOMIC_ACQ_REL) != 0) return;
  give_back(physical->bytes);
  leave_room(physical);
}

Physical* use_of_handle(uint64_t handle) {
  Physical* physical = nullptr;
  handles.change(handle, [&](uint64_t& word) { use(physical = physical_of(word)); });
  return physical;
}

// --- descriptors -------------------------------------------------------------------------------------------

namespace {

constexpr int kExports = 256;

// A descriptor that this process got for its own memory, and may import again when all else is gone.
struct Export {
  Physical* physical;
  int fd;
  dev_t device;
  ino_t inode;
};
Export exports[kExports];
uint32_t exports_lock = 0;
int export_count = 0;

bool is_open(const Export& e) {
  struct stat now;
  return fstat(e.fd, &now) == 0 && now.st_dev == e.device && now.st_ino == e.inode;
}

}  // namespace

void watch_export(Physical* physical, int fd) {
  struct stat now;
  if (fstat(fd, &now) != 0) return;
  if (__atomic_load_n(&export_count, __ATOMIC_RELAXED) == kExports) settle_exports();
  SpinLock lock(&exports_lock);
  if (export_count < kExports) exports[export_count++] = {physical, fd, now.st_dev, now.st_ino};
}

void settle_exports() {
  if (__atomic_load_n(&export_count, __ATOMIC_RELAXED) == 0) return;
  Physical* ended[kExports];
  int count = 0;
  {
    SpinLock lock(&exports_lock);
    for (int i = 0; i < export_count;) {
      if (is_open(exports[i])) {
        ++i;
      } else {
        ended[count++] = exports[i].physical;
        exports[i] = exports[--export_count];
      }
    }
  }
  for (int i = 0; i < count; ++i) end_use(ended[i]);
}

void forget_exports() {
  exports_lock = 0;
  export_count = 0;
}

}  // namespace fasthook

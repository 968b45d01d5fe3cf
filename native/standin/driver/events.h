// Events: where they were recorded last.
#pragma once

#include "captures.h"

struct CUevent_st {
  CUcontext context = nullptr;
  unsigned int flags = 0;
  std::shared_ptr<standin::driver::Mark> mark{};  // none: never recorded, or in a capture
  standin::driver::Hosts hosts{};                 // that what waits for it must wait for too
  standin::driver::CapturedPoint captured{};
  bool in_capture = false;
};

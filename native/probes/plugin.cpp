// A library that is linked to the driver, for programs that open it as a plugin.
#include "calls.h"

extern "C" __attribute__((visibility("default"))) const probe::Calls* probe_plugin_calls() {
  return probe::linked_calls();
}

// Every call that starts work on the device, behind one interface.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "device.h"

namespace probe {

// One way to start work that keeps the device busy for some time.
struct Launch {
  const char* name;
  bool (*available)();
  // Starts `ns` of work on `stream`, or on the default stream if the call knows no other.
  CUresult (*start)(class Launcher&, CUstream stream, uint64_t ns);
  bool takes_stream = true;
};
const std::vector<Launch>& all_launches();
const Launch* launch_named(const std::string& name);

// What launches need of a context: the kernel, and graphs that were instantiated.
class Launcher {
 public:
  explicit Launcher(CUfunction spin, int graph_kernels = 2) : spin(spin), graph_kernels_(graph_kernels) {}
  // A chain of kernels of `ns` together. Instantiated once for each duration.
  CUgraphExec graph_of(uint64_t ns);
  CUfunction spin;

 private:
  int graph_kernels_;
  std::map<uint64_t, CUgraphExec> graphs_;
};

}  // namespace probe

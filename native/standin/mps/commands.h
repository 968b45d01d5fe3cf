// What the control daemon is told to do, in the words of NVIDIA's.
#pragma once

#include <string>

#include "servers.h"

namespace standin::mps {

// After a command the daemon may have to end: once nobody is served any more, after so many seconds at most.
struct Ending {
  bool asked = false;
  double within_s = -1;  // of the last that gave a time; below 0: however long it takes
};

// Does it, and answers: "" where there is nothing to say, else lines.
std::string obey(Servers* servers, const std::string& command, Ending* ending);

// Whether a text is a percentage that processes can be given.
bool read_percentage(const std::string& text, double* out);

}  // namespace standin::mps

#include "mps.h"

#include <unistd.h>

#include "../mps/connect.h"

namespace standin::driver {
namespace {

Mps one;
bool served = false, told = false;

}  // namespace

const Mps& mps() { return one; }

CUresult enter_mps(bool real) {
  if (!real) return CUDA_SUCCESS;
  standin::mps::Connection connection;
  int refused = standin::mps::connect(&connection);
  if (refused != 0) return static_cast<CUresult>(refused);
  served = connection.there;
  one = {connection.there, false, connection.group, static_cast<uint32_t>(connection.sm_percent_millis),
         connection.pinned_bytes};
  if (!served) one.group = uint64_t{1} << 62 | static_cast<uint64_t>(getpid());
  return CUDA_SUCCESS;
}

void tell_mps_of_fault() {
  if (!served || told) return;
  told = true;
  standin::mps::report_fault();
}

CUresult end_of_mps(uint64_t now_ns) {
  return served ? static_cast<CUresult>(standin::mps::end_of_service(now_ns)) : CUDA_SUCCESS;
}

}  // namespace standin::driver

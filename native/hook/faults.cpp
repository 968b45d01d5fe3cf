#include "faults.h"

#include "pacing.h"

namespace fasthook {
namespace {

uint32_t first = 0;

// By number, for what the driver returns may be younger than the header that this was built with.
bool breaks_context(uint32_t error) {
  switch (error) {
    case 214:  // CUDA_ERROR_ECC_UNCORRECTABLE
    case 226:  // CUDA_ERROR_CONTAINED
    case 700:  // CUDA_ERROR_ILLEGAL_ADDRESS
    case 702:  // CUDA_ERROR_LAUNCH_TIMEOUT
    case 710:  // CUDA_ERROR_ASSERT
    case 714:  // CUDA_ERROR_HARDWARE_STACK_ERROR
    case 715:  // CUDA_ERROR_ILLEGAL_INSTRUCTION
    case 716:  // CUDA_ERROR_MISALIGNED_ADDRESS
    case 717:  // CUDA_ERROR_INVALID_ADDRESS_SPACE
    case 718:  // CUDA_ERROR_INVALID_PC
    case 719:  // CUDA_ERROR_LAUNCH_FAILED
    case 721:  // CUDA_ERROR_TENSOR_MEMORY_LEAK
    case 805:  // CUDA_ERROR_MPS_CONNECTION_FAILED
    case 806:  // CUDA_ERROR_MPS_RPC_FAILURE
    case 810:  // CUDA_ERROR_MPS_CLIENT_TERMINATED
    case 999:  // CUDA_ERROR_UNKNOWN: as from a device that is gone
      return true;
    default:
      return false;
  }
}

}  // namespace

void note_fault(CUresult result) {
  uint32_t error = static_cast<uint32_t>(result);
  if (error == 0 || !breaks_context(error)) return;
  uint32_t none = 0;
  if (__atomic_compare_exchange_n(&first, &none, error, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) ring();
}

void forget_fault() { first = 0; }

uint32_t fault() { return __atomic_load_n(&first, __ATOMIC_ACQUIRE); }

}  // namespace fasthook

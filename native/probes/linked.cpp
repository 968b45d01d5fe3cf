// The driver's calls as the dynamic linker binds them. Weak: a driver may lack some.
#include "calls.h"

#define CALL(symbol, name, since, until) extern "C" __attribute__((weak)) decltype(::symbol) symbol;
#include "calls.def"
#undef CALL

const probe::Calls* probe::linked_calls() {
  static const Calls calls = [] {
    Calls found;
#define CALL(symbol, name, since, until) found.symbol = &::symbol;
#include "calls.def"
#undef CALL
    return found;
  }();
  return &calls;
}

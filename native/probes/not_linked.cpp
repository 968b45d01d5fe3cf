// A program that is not linked to the driver has no calls bound by the dynamic linker.
#include "calls.h"

const probe::Calls* probe::linked_calls() { return nullptr; }

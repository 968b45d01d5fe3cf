// The one list of everything that is exported. A row says:
//
//   the name that cuGetProcAddress is asked for, the CUDA version that this form of it came with, LEGACY or
//   PER_THREAD (which stream a null handle means), the exported symbol, what implements it, parameters,
//   arguments
//
// CALL: a function; its row declares the implementation. FORM: another form of a function that a CALL
// declares. EARLY: needs no cuInit. QUICK: has an implementation that does nothing, for
// FASTGSHARE_STANDIN=null=1. ABSENT: answers CUDA_ERROR_NOT_SUPPORTED.
//
// Define those that you need, then include this; the others are empty.
#ifndef CALL
#define CALL(...)
#endif
#ifndef FORM
#define FORM(...)
#endif
#ifndef EARLY
#define EARLY(...)
#endif
#ifndef EARLY_FORM
#define EARLY_FORM(...)
#endif
#ifndef QUICK
#define QUICK(...)
#endif
#ifndef QUICK_FORM
#define QUICK_FORM(...)
#endif
#ifndef ABSENT
#define ABSENT(...)
#endif

#include "calls_copies.h"
#include "calls_device.h"
#include "calls_graphs.h"
#include "calls_memory.h"
#include "calls_modules.h"
#include "calls_streams.h"

#undef CALL
#undef FORM
#undef EARLY
#undef EARLY_FORM
#undef QUICK
#undef QUICK_FORM
#undef ABSENT

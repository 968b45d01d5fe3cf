// What starts and ends when.
#pragma once

#include "changes.h"

namespace standin {

// A queue as it is known outside: its index, and how often its place was given away.
int handle_of(const st_device* device, int index);
// -1: there is none, or its place was given to another.
int index_of(const st_device* device, int handle);

int process_handle_of(const st_device* device, int index);
int process_index_of(const st_device* device, int handle);  // -1: it is not there

inline st_work* piece_of(st_device* device, int index, uint64_t position) {
  return &device->bodies[index].pieces[position % kPieces];
}

// Lets everything happen that happens until then.
void advance(st_device* device, uint64_t now);
// The next piece ends, and what follows from it.
void end_next(Change* change);
// Starts what may start, and sets the rates anew.
void go_on(Change* change);
// The first piece of a queue is finished.
void finish(Change* change, int index);
// A queue is no more, whatever it still had to do.
void drop(Change* change, int index);

// --- faults.cpp
// A kernel of this process has failed: to be spread by go_on, since queues end by it.
void fail(Change* change, int process, uint32_t error);
void spread_faults(Change* change);

// How fast everything that runs progresses from now on, and when it ends.
void set_rates(Change* change);
// What a kernel would occupy and how fast it would be, alone in its process.
void measure(const st_config& config, uint64_t sms, const st_work& work, double* occupied, double* speed);

}  // namespace standin

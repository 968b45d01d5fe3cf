// What a probe can be told to do. Each prints lines and returns the program's exit status.
#pragma once

#include "report.h"

namespace probe {

// launching.cpp
int command_launches(const Options& options);  // every launch call in turn
int command_load(const Options& options);      // one, in a pattern
int command_try(const Options& options);       // the first calls that a program makes, whatever they return
int command_exit(const Options& options);      // some work, then a given exit status

// memory.cpp
int command_allocations(const Options& options);  // every allocation call: to the cap and back, three times
int command_fill(const Options& options);         // small blocks until not one more fits
int command_mapped(const Options& options);       // handles that are released while mapped
int command_crowd(const Options& options);        // sixteen threads take what there is
int command_ends(const Options& options);         // memory that ends with its context; freeing twice
int command_info(const Options& options);         // what the driver and NVML say of the memory

// sharing.cpp
int command_share(const Options& options);  // memory that another process opens
int command_open(const Options& options);   // the other process
int command_leave(const Options& options);  // memory of another process that is killed
int command_hold(const Options& options);   // the other process

// capturing.cpp
int command_capture(const Options& options);  // captures while another thread keeps the device busy
int command_record(const Options& options);   // one capture, and then a launch of it when told

}  // namespace probe

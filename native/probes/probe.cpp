// A CUDA program for trying an interposer: probe WAY COMMAND [KEY=VALUE ...].
//
// Waits for a word on standard input before it touches the driver (wait=0: does not), so that it can be
// admitted first. fork=1: does everything in a child that is forked before; exec=1: in a child that starts
// anew.
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "commands.h"
#include "device.h"

namespace probe {
namespace {

struct Command {
  const char* name;
  int (*run)(const Options&);
};

constexpr Command kCommands[] = {
    {"launches", command_launches},
    {"load", command_load},
    {"try", command_try},
    {"exit", command_exit},
    {"allocations", command_allocations},
    {"fill", command_fill},
    {"mapped", command_mapped},
    {"info", command_info},
    {"share", command_share},
    {"open", command_open},
    {"crowd", command_crowd},
    {"ends", command_ends},
    {"leave", command_leave},
    {"hold", command_hold},
    {"capture", command_capture},
    {"record", command_record},
};

int run(const std::string& way, const char* name, const Options& options) {
  std::string why;
  if (!find_calls(way, &why)) {
    Line().add("status", "no way").add("why", why).print();
    return 0;
  }
  for (const Command& command : kCommands) {
    if (strcmp(command.name, name) != 0) continue;
    try {
      return command.run(options);
    } catch (const Failure& failure) {
      Line line;
      line.add("status", "failed")
          .add("error_call", failure.call)
          .add("error", static_cast<int>(failure.error));
      line.print();
      return 3;
    }
  }
  fprintf(stderr, "probe: there is no command %s\n", name);
  return 2;
}

// The exit status of a child that does the rest; -1 in that child.
int in_child(const Options& options, char** words) {
  bool starts_anew = options.number("exec", 0);
  if (!starts_anew && !options.number("fork", 0)) return -1;
  pid_t child = fork();
  if (child == 0) {
    if (!starts_anew) return -1;
    for (char** word = words; *word; ++word) {
      if (strcmp(*word, "exec=1") == 0) strcpy(*word, "wait=0");
    }
    execv("/proc/self/exe", words);
    _exit(127);
  }
  int status;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace
}  // namespace probe

int main(int count, char** words) {
  if (count < 3) {
    fprintf(stderr, "usage: %s WAY COMMAND [KEY=VALUE ...]\n", words[0]);
    return 2;
  }
  probe::Options options(words + 3, words + count);
  if (options.number("wait", 1) && !probe::wait_for_word()) return 2;
  int status = probe::in_child(options, words);
  return status >= 0 ? status : probe::run(words[1], words[2], options);
}

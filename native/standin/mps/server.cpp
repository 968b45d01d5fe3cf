// The stand-in's MPS server: a process that is there for as long as its control daemon is. What it would do
// on a GPU, the timeline does.
#include <signal.h>
#include <unistd.h>

#include <cstdio>

int main(int argc, char** argv) {
  unsigned uid;
  if (argc != 2 || sscanf(argv[1], "--uid=%u", &uid) != 1) {
    fprintf(stderr, "nvidia-cuda-mps-server of the stand-in, a test double: started by its control daemon\n");
    return 2;
  }
  signal(SIGINT, SIG_IGN);
  signal(SIGHUP, SIG_IGN);
  char byte = 'R';  // it is ready
  if (write(STDOUT_FILENO, &byte, 1) != 1) return 1;
  while (read(STDIN_FILENO, &byte, 1) > 0) continue;
  return 0;
}

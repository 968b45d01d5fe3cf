// What the environment says.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "functions.h"

namespace fasthook {
namespace {

constexpr const char* kSocket = "FASTGSHARE_SOCKET";
constexpr const char* kInstance = "FASTGSHARE_INSTANCE";
constexpr const char* kIfUnenforced = "FASTGSHARE_IF_UNENFORCED";

Once once;
Settings read_once;
char problem_text[320];

// Copies what fits.
void join(char* out, size_t size, const char* const* parts, int count) {
  size_t at = 0;
  for (int i = 0; i < count; ++i)
    for (const char* part = parts[i]; *part && at + 1 < size; ++part) out[at++] = *part;
  out[at] = 0;
}

// "NAME is 'value', but ...". A value that is too long to print loses its end.
void complain(Settings* settings, char* text, const char* name, const char* value, const char* allowed) {
  if (settings->problem != nullptr) return;
  char shown[128];
  join(shown, sizeof(shown), &value, 1);
  for (char* at = shown; *at; ++at)
    if (static_cast<unsigned char>(*at) < ' ') *at = '?';  // it stays one line
  const char* parts[] = {name, " is '", shown, "', but ", allowed};
  join(text, sizeof(problem_text), parts, 5);
  settings->problem = problem_text;
}

template <size_t size>
void read_text(Settings* settings, char* text, const char* name, const char* value, char (&out)[size],
               const char* allowed) {
  if (value == nullptr) value = "";
  size_t length = strlen(value);
  if (length == 0 || length >= size) return complain(settings, text, name, value, allowed);
  memcpy(out, value, length + 1);
}

void read_choice(Settings* settings, char* text) {
  const char* choice = getenv(kIfUnenforced);
  if (choice == nullptr || strcmp(choice, "refuse") == 0) return;
  if (strcmp(choice, "pass") == 0)
    settings->refuses = false;
  else
    complain(settings, text, kIfUnenforced, choice, "it must be refuse or pass");
}

Settings read_environment(char* text) {
  Settings settings;
  const char* socket = getenv(kSocket);
  if (socket == nullptr) return settings;
  settings.configured = true;
  read_text(&settings, text, kSocket, socket, settings.socket, "it must be a path of 1 to 107 bytes");
  read_text(&settings, text, kInstance, getenv(kInstance), settings.instance,
            "it must be an id of 1 to 111 bytes");
  read_choice(&settings, text);
  return settings;
}

}  // namespace

const Settings& settings() {
  if (once.done()) return read_once;
  char text[sizeof(problem_text)] = {};
  Settings found = read_environment(text);
  if (once.first()) {
    memcpy(problem_text, text, sizeof(text));
    read_once = found;
    once.finish();
  }
  return read_once;
}

void say_once(bool* said, const char* text, const char* detail) {
  if (__atomic_exchange_n(said, true, __ATOMIC_RELAXED)) return;
  int before = errno;
  auto piece = [](const char* part) { return iovec{const_cast<char*>(part), strlen(part)}; };
  iovec pieces[] = {piece("fastgshare: "), piece(text), piece(detail), piece("\n")};
  ssize_t ignored = writev(STDERR_FILENO, pieces, 4);
  static_cast<void>(ignored);
  errno = before;
}

}  // namespace fasthook

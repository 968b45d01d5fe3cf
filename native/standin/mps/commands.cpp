#include "commands.h"

#include <climits>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <sstream>
#include <vector>

#include "limits.h"

namespace standin::mps {
namespace {

using Words = std::vector<std::string>;

struct Context {
  Servers* servers;
  Ending* ending;
};

// Digits alone, of a number that an int holds.
bool number(const Words& words, size_t at, int* out) {
  if (words.size() <= at || words[at].find_first_not_of("0123456789") != std::string::npos) return false;
  unsigned long value = words[at].size() <= 10 ? strtoul(words[at].c_str(), nullptr, 10) : ULONG_MAX;
  *out = static_cast<int>(value);
  return value <= INT_MAX;
}

std::string said(const Words& words, size_t at) { return words.size() > at ? words[at] : "(none given)"; }

Server* server_of(const Context& c, const Words& words, std::string* problem) {
  int pid = 0;
  Server* found = number(words, 1, &pid) ? c.servers->find(pid) : nullptr;
  if (found == nullptr) *problem = "no MPS server with PID " + said(words, 1);
  return found;
}

std::string percent(double value) {
  char text[32];
  snprintf(text, sizeof(text), "%.1f", value);
  return text;
}

bool percentage_of(const Words& words, size_t at, double* out, std::string* problem) {
  if (words.size() > at && read_percentage(words[at], out)) return true;
  *problem = "percentage: " + said(words, at) + " is not above 0 up to 100";
  return false;
}

std::string command_of(pid_t pid) {
  std::string name;
  std::getline(std::ifstream("/proc/" + std::to_string(pid) + "/comm"), name);
  return name.empty() ? "-" : name;
}

std::string list_servers(const Context& c, const Words&) {
  std::string out;
  for (const auto& [pid, server] : c.servers->all()) out += std::to_string(pid) + "\n";
  return out;
}

std::string status(const Context& c, const Words& words) {
  std::string problem;
  Server* server = server_of(c, words, &problem);
  return server != nullptr ? server->status() : problem;
}

std::string processes_of(const Server& server) {
  std::string out;
  for (const Process& process : server.processes)
    if (!process.waits) out += std::to_string(process.pid) + "\n";
  return out;
}

std::string list_processes(const Context& c, const Words& words) {
  std::string problem;
  Server* server = server_of(c, words, &problem);
  return server != nullptr ? processes_of(*server) : problem;
}

std::string list_by_device(const Context& c, const Words& words) {
  std::string problem, out = "Device 0, the stand-in's\n";
  Server* one = words.size() > 1 ? server_of(c, words, &problem) : nullptr;
  if (!problem.empty()) return problem;
  for (const auto& [pid, server] : c.servers->all())
    if (one == nullptr || one->pid == pid) out += processes_of(server);
  return out;
}

std::string show_all(const Context& c, const Words& words) {
  int only = 0;
  if (words.size() > 1 && (words[1] != "-p" || words.size() != 3 || !number(words, 2, &only)))
    return "ps [-p PID]";
  std::string out = "PID SERVER STATUS DEVICE COMMAND\n";
  for (const auto& [pid, server] : c.servers->all())
    for (const Process& process : server.processes)
      if (!process.waits && (only == 0 || only == process.pid))
        out += std::to_string(process.pid) + " " + std::to_string(pid) + " " + server.status() +
               " stand-in " + command_of(process.pid) + "\n";
  return out;
}

std::string start_server(const Context& c, const Words& words) {
  int uid = 0;
  if (words.size() != 3 || words[1] != "-uid" || !number(words, 2, &uid)) return "start_server -uid USER_ID";
  if (c.servers->closing) return "the control daemon is about to end";
  return c.servers->of(static_cast<uid_t>(uid)) != nullptr ? "" : "the server could not be started";
}

std::string shut_down(const Context& c, const Words& words) {
  std::string problem;
  bool at_once = words.size() == 3 && words[2] == "-f";
  if (words.size() > 2 && !at_once) return "shutdown_server PID [-f]";
  Server* server = server_of(c, words, &problem);
  if (server == nullptr) return problem;
  at_once ? c.servers->end(server->pid) : c.servers->leave(server->pid);
  return "";
}

std::string terminate(const Context& c, const Words& words) {
  int server = 0, process = 0;
  if (words.size() != 3 || !number(words, 1, &server) || !number(words, 2, &process))
    return "terminate_client SERVER_PID PID";
  bool done = c.servers->terminate(server, process);
  return done ? "" : "no process " + words[2] + " of MPS server " + words[1];
}

std::string set_default_percentage(const Context& c, const Words& words) {
  std::string problem;
  double value = 0;
  if (!percentage_of(words, 1, &value, &problem)) return problem;
  c.servers->default_percentage = value;
  return percent(value);
}

std::string set_percentage(const Context& c, const Words& words) {
  std::string problem;
  double value = 0;
  Server* server = server_of(c, words, &problem);
  if (server == nullptr || !percentage_of(words, 2, &value, &problem)) return problem;
  server->percentage = value;
  return percent(value);
}

std::string get_percentage(const Context& c, const Words& words) {
  std::string problem;
  Server* server = server_of(c, words, &problem);
  return server != nullptr ? percent(server->percentage) : problem;
}

std::string set_limit(PinnedLimits* limits, const Words& words, size_t at) {
  int device = 0;
  if (!number(words, at, &device) || device != 0) return "device: " + said(words, at) + " is not 0";
  bool fine = words.size() == at + 2 && bytes_of(words[at + 1]) != 0;
  if (!fine) return "limit: " + said(words, at + 1) + " is not a number of 1 to 9 digits with M or G";
  (*limits)[device] = words[at + 1];
  return "";
}

std::string get_limit(const PinnedLimits& limits, const Words& words, size_t at) {
  int device = 0;
  if (!number(words, at, &device) || device != 0) return "device: " + said(words, at) + " is not 0";
  auto found = limits.find(device);
  return found != limits.end() ? found->second : "none";
}

std::string set_server_limit(const Context& c, const Words& words) {
  std::string problem;
  Server* server = server_of(c, words, &problem);
  return server != nullptr ? set_limit(&server->pinned, words, 2) : problem;
}

std::string get_server_limit(const Context& c, const Words& words) {
  std::string problem;
  Server* server = server_of(c, words, &problem);
  return server != nullptr ? get_limit(server->pinned, words, 2) : problem;
}

std::string quit(const Context& c, const Words& words) {
  int seconds = -1;
  if (words.size() > 1 && (words[1] != "-t" || words.size() != 3 || !number(words, 2, &seconds)))
    return "quit [-t SECONDS]";
  c.servers->closing = true;
  *c.ending = {true, words.size() > 1 ? seconds : -1.0};
  return "";
}

const std::map<std::string, std::function<std::string(const Context&, const Words&)>> kCommands = {
    {"get_server_list", list_servers},
    {"get_server_status", status},
    {"get_client_list", list_processes},
    {"get_device_client_list", list_by_device},
    {"ps", show_all},
    {"start_server", start_server},
    {"shutdown_server", shut_down},
    {"terminate_client", terminate},
    {"set_default_active_thread_percentage", set_default_percentage},
    {"get_default_active_thread_percentage",
     [](const Context& c, const Words&) { return percent(c.servers->default_percentage); }},
    {"set_active_thread_percentage", set_percentage},
    {"get_active_thread_percentage", get_percentage},
    {"set_default_device_pinned_mem_limit",
     [](const Context& c, const Words& words) { return set_limit(&c.servers->default_pinned, words, 1); }},
    {"get_default_device_pinned_mem_limit",
     [](const Context& c, const Words& words) { return get_limit(c.servers->default_pinned, words, 1); }},
    {"set_device_pinned_mem_limit", set_server_limit},
    {"get_device_pinned_mem_limit", get_server_limit},
    {"quit", quit},
};

}  // namespace

bool read_percentage(const std::string& text, double* out) {
  char* end = nullptr;
  *out = strtod(text.c_str(), &end);
  return !text.empty() && *end == 0 && *out > 0 && *out <= 100;
}

std::string obey(Servers* servers, const std::string& command, Ending* ending) {
  std::istringstream text(command);
  Words words;
  for (std::string word; text >> word;) words.push_back(word);
  if (words.empty()) return "";
  auto found = kCommands.find(words[0]);
  if (found != kCommands.end()) return found->second({servers, ending}, words);
  std::string known;
  for (const auto& [name, does] : kCommands) known += " " + name;
  return "unknown command " + words[0] + "; the stand-in's MPS, a test double, knows:" + known;
}

}  // namespace standin::mps

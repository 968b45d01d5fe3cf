#include "commands.h"

#include <functional>
#include <sstream>
#include <vector>

namespace standin::mps {
namespace {

using Words = std::vector<std::string>;

struct Context {
  Servers* servers;
  Ending* ending;
};

bool number(const std::string& text, double* out) {
  char* end = nullptr;
  *out = strtod(text.c_str(), &end);
  return !text.empty() && *end == 0;
}

Server* server_of(const Context& c, const Words& words, std::string* problem) {
  double pid = 0;
  Server* found =
      words.size() > 1 && number(words[1], &pid) ? c.servers->find(static_cast<pid_t>(pid)) : nullptr;
  if (found == nullptr) *problem = "no MPS server with PID " + (words.size() > 1 ? words[1] : "(none given)");
  return found;
}

std::string percent(double value) {
  std::ostringstream out;
  out.precision(1);
  out << std::fixed << value;
  return out.str();
}

bool read_percentage(const Words& words, size_t at, double* out, std::string* problem) {
  if (words.size() > at && number(words[at], out) && *out > 0 && *out <= 100) return true;
  *problem = "percentage: " + (words.size() > at ? words[at] : "nothing") + " is not above 0 up to 100";
  return false;
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

std::string list_processes(const Context& c, const Words& words) {
  std::string problem, out;
  Server* server = server_of(c, words, &problem);
  if (server == nullptr) return problem;
  for (const Process& process : server->processes) out += std::to_string(process.pid) + "\n";
  return out;
}

std::string list_by_device(const Context& c, const Words& words) {
  std::string out = "Device 0, the stand-in's\n";
  for (const auto& [pid, server] : c.servers->all()) {
    if (words.size() > 1 && words[1] != std::to_string(pid)) continue;
    for (const Process& process : server.processes) out += std::to_string(process.pid) + "\n";
  }
  return out;
}

std::string show_all(const Context& c, const Words&) {
  std::string out = "PID\tSERVER\tSTATUS\n";
  for (const auto& [pid, server] : c.servers->all())
    for (const Process& process : server.processes)
      out += std::to_string(process.pid) + "\t" + std::to_string(pid) + "\t" + server.status() + "\n";
  return out;
}

std::string start_server(const Context& c, const Words& words) {
  double uid = 0;
  if (words.size() < 3 || words[1] != "-uid" || !number(words[2], &uid)) return "start_server -uid USER_ID";
  return c.servers->of(static_cast<uid_t>(uid)) != nullptr ? "" : "the server could not be started";
}

std::string shut_down(const Context& c, const Words& words) {
  std::string problem;
  Server* server = server_of(c, words, &problem);
  if (server == nullptr) return problem;
  words.size() > 2 && words[2] == "-f" ? c.servers->end(server->pid) : c.servers->leave(server->pid);
  return "";
}

std::string terminate(const Context& c, const Words& words) {
  double server = 0, process = 0;
  bool said = words.size() == 3 && number(words[1], &server) && number(words[2], &process);
  if (!said) return "terminate_client SERVER_PID PID";
  bool done = c.servers->terminate(static_cast<pid_t>(server), static_cast<pid_t>(process));
  return done ? "" : "no process " + words[2] + " of MPS server " + words[1];
}

std::string set_default_percentage(const Context& c, const Words& words) {
  std::string problem;
  double value = 0;
  if (!read_percentage(words, 1, &value, &problem)) return problem;
  c.servers->default_percentage = value;
  return percent(value);
}

std::string set_percentage(const Context& c, const Words& words) {
  std::string problem;
  double value = 0;
  Server* server = server_of(c, words, &problem);
  if (server == nullptr || !read_percentage(words, 2, &value, &problem)) return problem;
  server->percentage = value;
  return percent(value);
}

std::string get_percentage(const Context& c, const Words& words) {
  std::string problem;
  Server* server = server_of(c, words, &problem);
  return server != nullptr ? percent(server->percentage) : problem;
}

std::string set_pinned_limit(const Context& c, const Words& words) {
  double device = 0;
  if (words.size() != 3 || !number(words[1], &device))
    return "set_default_device_pinned_mem_limit DEVICE LIMIT";
  c.servers->pinned_limits[static_cast<int>(device)] = words[2];
  return words[2];
}

std::string get_pinned_limit(const Context& c, const Words& words) {
  double device = 0;
  if (words.size() != 2 || !number(words[1], &device)) return "get_default_device_pinned_mem_limit DEVICE";
  auto found = c.servers->pinned_limits.find(static_cast<int>(device));
  return found != c.servers->pinned_limits.end() ? found->second : "none";
}

std::string quit(const Context& c, const Words& words) {
  double seconds = -1;
  if (words.size() > 1 && (words[1] != "-t" || words.size() != 3 || !number(words[2], &seconds)))
    return "quit [-t SECONDS]";
  *c.ending = {true, seconds};
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
    {"set_default_device_pinned_mem_limit", set_pinned_limit},
    {"get_default_device_pinned_mem_limit", get_pinned_limit},
    {"quit", quit},
};

}  // namespace

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

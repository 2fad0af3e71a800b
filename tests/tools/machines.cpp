#include "tests/tools/machines.h"

#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <sstream>

#include "catch.h"
#include "kernels/error.h"
#include "tests/tools/ranks.h"

namespace normlab::test {
namespace {

// Gives a machine its name, and becomes the command that follows.
const std::string kNamed = "hostname \"$0\" && exec \"$@\"";

Finished ip(std::vector<std::string> words) {
  words.insert(words.begin(), "ip");
  return run(words);
}

void must(const std::vector<std::string>& words) {
  const Finished finished = ip(words);
  if (finished.exit_code != 0) throw Error("ip " + words[0] + " failed: " + finished.err);
}

std::vector<std::string> on_machine(const std::string& name) {
  return {"ip", "netns", "exec", name, "unshare", "--uts", "sh", "-c", kNamed, name};
}

// Why not; "" where they can be made.
std::string what_forbids() {
  if (geteuid() != 0) return "only root makes network namespaces";
  try {
    const TwoMachines machines;
    std::vector<std::string> command = on_machine(machines.name(0));
    command.emplace_back("true");
    const Finished finished = run(command);
    return finished.exit_code == 0 ? "" : finished.err;
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace

bool TwoMachines::possible() {
  static const std::string problem = what_forbids();
  if (!problem.empty()) WARN("skipped: this machine cannot play two: " << problem);
  return problem.empty();
}

TwoMachines::TwoMachines() : prefix_("normlab-" + std::to_string(getpid()) + "-") {
  try {
    make();
  } catch (...) {
    remove();
    throw;
  }
}

TwoMachines::~TwoMachines() { remove(); }

void TwoMachines::make() {
  must({"netns", "add", name(0)});
  must({"netns", "add", name(1)});
  must({"link", "add", "cable", "netns", name(0), "type", "veth", "peer", "name", "cable", "netns",
        name(1)});
  for (const int machine : {0, 1}) {
    must({"-n", name(machine), "address", "add", address(machine) + "/24", "dev", "cable"});
    must({"-n", name(machine), "link", "set", "lo", "up"});
    must({"-n", name(machine), "link", "set", "cable", "up"});
  }
  // What mpirun starts its daemon on the other machine with, in place of ssh.
  folder_.write("agent", "#!/bin/sh\nshift\nexec ip netns exec " + name(1) +
                             " unshare --uts sh -c 'hostname " + name(1) +
                             "; eval \"$1\"' sh \"$*\"\n");
  std::filesystem::permissions(folder_.path() + "/agent", std::filesystem::perms::owner_all);
}

void TwoMachines::remove() {
  for (const int machine : {0, 1}) {
    for (const pid_t process : processes(machine, "")) kill(process, SIGKILL);
    ip({"netns", "delete", name(machine)});
  }
}

std::string TwoMachines::name(int machine) const { return prefix_ + (machine == 0 ? "a" : "b"); }

std::vector<std::string> TwoMachines::launcher(const std::vector<std::string>& more) const {
  std::vector<std::string> command = on_machine(name(0));
  // Nothing of mpirun's asks for names that only a name server knows.
  for (const std::string& word :
       {std::string("mpirun"), std::string("--allow-run-as-root"), std::string("--bind-to"),
        std::string("none"), std::string("--mca"), std::string("plm_rsh_agent"),
        folder_.path() + "/agent", std::string("--mca"), std::string("btl"),
        std::string("tcp,self"), std::string("--mca"), std::string("orte_tmpdir_base"),
        mpi_directory(), std::string("--host"), name(0) + ":1," + address(1) + ":1",
        std::string("-np"), std::string("2")}) {
    command.push_back(word);
  }
  command.insert(command.end() - 2, more.begin(), more.end());
  return command;
}

void TwoMachines::cut_cable() { must({"-n", name(0), "link", "set", "cable", "down"}); }

std::vector<pid_t> TwoMachines::processes(int machine, const std::string& program) const {
  std::istringstream pids(ip({"netns", "pids", name(machine)}).out);
  std::vector<pid_t> found;
  for (pid_t process = 0; pids >> process;) {
    const std::string command = content("/proc/" + std::to_string(process) + "/comm");
    if (program.empty() || command == program + "\n") found.push_back(process);
  }
  return found;
}

}  // namespace normlab::test

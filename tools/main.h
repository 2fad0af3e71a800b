// What the main() of every program shares: one place where errors become a line and an exit code.
#pragma once

#include <CLI/CLI.hpp>
#include <exception>
#include <iostream>
#include <string>

#include "data/mapped_files.h"
#include "engine/version.h"
#include "kernels/error.h"

namespace normlab {

constexpr int kExitDone = 0;
constexpr int kExitFailed = 1;
constexpr int kExitInput = 2;
constexpr int kExitDiverged = 5;
constexpr int kExitCommunication = 6;
constexpr int kExitStopped = 75;  // sysexits.h EX_TEMPFAIL: run again to go on

inline int exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::input: return kExitInput;
    case ErrorKind::failure: return kExitFailed;
    case ErrorKind::diverged: return kExitDiverged;
    case ErrorKind::communication: return kExitCommunication;
    case ErrorKind::stopped: return kExitStopped;
  }
  return kExitFailed;
}

// Parses the command line of `app` and runs `body`, which returns an exit code.
template <typename Body>
int run_main(CLI::App& app, int argc, char* argv[], const Body& body) {
  app.set_version_flag("--version", [&app] { return version_text(app.get_name()); });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    std::cerr << app.get_name() << ": " << error.what() << ". See " << app.get_name()
              << " --help\n";
    return kExitInput;
  }
  explain_lost_files(app.get_name());
  try {
    return body();
  } catch (const Error& error) {
    std::cerr << app.get_name() << ": " << error.what() << "\n";
    return exit_code(error.kind());
  } catch (const std::exception& error) {
    std::cerr << app.get_name() << ": " << error.what() << "\n";
    return kExitFailed;
  }
}

}  // namespace normlab

// What this build is.
#pragma once

#include <string>

namespace normlab {

// "0.1.0 (commit)", what state.json names as the code; "0.1.0 (unknown)" outside a git checkout.
std::string code_version();
// All of --version: version, compiler, libraries, devices.
std::string version_text(const std::string& program);

}  // namespace normlab

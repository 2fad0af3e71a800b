// Compiled for the architecture's baseline, and run before any other code of the program: a build
// for another machine's processor says so instead of dying of an illegal instruction.
#include "kernels/cpu/cpu_check.h"

#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "native_features.h"

namespace normlab {
namespace {

const char* first_missing() {
  __builtin_cpu_init();
#define X(name) \
  if (!__builtin_cpu_supports(name)) return name;
  NATIVE_FEATURES
#undef X
  return nullptr;
}

// Before the static initialisers of other files, so without iostreams or exceptions.
__attribute__((constructor(101))) void refuse_unsuitable_processor() {
  const char* missing = first_missing();
  if (missing == nullptr) return;
  const auto say = [](const char* text) {
    if (write(STDERR_FILENO, text, std::strlen(text)) < 0) std::_Exit(2);
  };
  say("normlab: this build needs the processor feature ");
  say(missing);
  say(", which this machine lacks (it was compiled with -march=native on another one). Build it "
      "here, or configure with -DNORMLAB_NATIVE=OFF\n");
  std::_Exit(2);
}

}  // namespace

std::string missing_cpu_feature() {
  const char* missing = first_missing();
  return missing == nullptr ? "" : missing;
}

}  // namespace normlab

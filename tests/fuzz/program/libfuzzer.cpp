// The readers under libFuzzer: FUZZ_FORMAT names one. libFuzzer's own arguments follow; a file that
// a reader fails on is kept, and the process ends.
#include <cstdio>
#include <cstdlib>

#include "kernels/error.h"
#include "tests/engine/temporary_folder.h"
#include "tests/fuzz/format.h"

namespace {

const normlab::fuzz::Format& format() {
  static const normlab::test::TemporaryFolder folder;
  static const normlab::fuzz::Format one = [] {
    const char* const name = std::getenv("FUZZ_FORMAT");
    return normlab::fuzz::make_format(name == nullptr ? "" : name, folder.path());
  }();
  return one;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    format().read({reinterpret_cast<const char*>(data), size});
  } catch (const normlab::Error& error) {
    if (error.kind() == normlab::ErrorKind::input) return 0;
    std::fprintf(stderr, "not an input error: %s\n", error.what());
    std::abort();
  }
  return 0;
}

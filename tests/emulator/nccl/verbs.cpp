#include "tests/emulator/nccl/cases.h"

namespace normlab::test {
namespace {

using emulator::StreamOrder;
using emulator::StreamSettings;

void verbs() {
  Gpu gpu;
  expect_part(gpu.communicator->description(), "NCCL 2.");
  check_verbs(*gpu.communicator, *gpu.ops);
}

// Each rank in another order of streams too.
void orders() {
  const std::vector<StreamOrder> all = {StreamOrder::shuffled, StreamOrder::oldest_first,
                                        StreamOrder::newest_first};
  for (size_t first = 0; first < all.size(); ++first) {
    for (uint64_t seed = 0; seed < 2; ++seed) {
      for (const size_t other : {size_t{0}, static_cast<size_t>(own_rank())}) {
        Gpu gpu({all[(first + other) % all.size()], seed + 10 * other});
        check_step(*gpu.communicator, *gpu.ops);
      }
    }
  }
}

void host_verbs() {
  Gpu gpu;
  check_host_verbs(*gpu.communicator);
}

}  // namespace

std::vector<Case> verb_cases() {
  return {{"verbs", verbs}, {"orders", orders}, {"host_verbs", host_verbs}};
}

}  // namespace normlab::test

#include "engine/communicator.h"

namespace normlab {

std::unique_ptr<Communicator> make_nccl_communicator(const JobPlace& place, double, BroadcastBytes,
                                                     std::unique_ptr<Communicator>) {
  throw input_error("rank " + std::to_string(place.rank) + " of " + std::to_string(place.ranks) +
                    " (so " + place.said_by +
                    " says, but this build has no NCCL, which carries what GPUs say to each "
                    "other). Install libnccl-dev and build anew, or use run.device: cpu");
}

std::string nccl_status() { return "none (libnccl-dev was not there when this was built)"; }

}  // namespace normlab

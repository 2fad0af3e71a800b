#include "engine/communicator.h"

namespace normlab {

std::unique_ptr<Communicator> make_mpi_communicator(const JobPlace& place, double) {
  if (place.ranks == 1) return make_local_communicator();
  throw input_error("rank " + std::to_string(place.rank) + " of " + std::to_string(place.ranks) +
                    " (so " + place.said_by +
                    " says, but this build has no MPI, and each process would train alone). "
                    "Install libopenmpi-dev and openmpi-bin and build anew");
}

bool mpi_available() { return false; }

std::string mpi_status() { return "none (libopenmpi-dev was not there when this was built)"; }

}  // namespace normlab

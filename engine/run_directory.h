// RunDirectory: the place of one run, belonging to one configuration and one job.
#pragma once

#include <optional>
#include <string>

#include "engine/config.h"
#include "engine/files.h"

namespace normlab {

enum class Start {
  go_on,  // from the newest checkpoint, if there is one
  fresh,  // refuse a directory that is not empty
};

// Below a run's directory; where its ranks meet before they can talk.
inline constexpr const char* kRendezvousDirectory = "rendezvous";

// The first rank of a job holds its directory; the others only know where it is.
enum class Holder { first_rank, other_rank };

// Of all that may not change between a run and its continuation; hexadecimal.
std::string configuration_hash(const Config& config);

class RunDirectory {
 public:
  // As the first rank: makes it, locks it, and holds its config.yaml against `config`. Throws an input Error where it is
  // in use, not writable, not a run's, or of another configuration (naming each key that differs).
  RunDirectory(const Config& config, Start start, Holder holder);

  const std::string& path() const { return path_; }
  Holder holder() const { return lock_ ? Holder::first_rank : Holder::other_rank; }
  // The first rank writes config.yaml; the directory is this configuration's from now on.
  void keep() const;
  // configuration_hash() of what it was made with.
  const std::string& configuration_hash() const { return configuration_hash_; }

 private:
  std::string path_;
  std::string yaml_;
  std::string configuration_hash_;
  std::optional<DirectoryLock> lock_;  // of the first rank
};

}  // namespace normlab

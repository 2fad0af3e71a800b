// RunDirectory: the place of one run, belonging to one configuration and one process.
#pragma once

#include <string>

#include "engine/config.h"
#include "engine/files.h"

namespace normlab {

enum class Start {
  go_on,  // from the newest checkpoint, if there is one
  fresh,  // refuse a directory that is not empty
};

class RunDirectory {
 public:
  // Makes it, locks it, and holds its config.yaml against `config`. Throws an input Error where it is
  // in use, not writable, not a run's, or of another configuration (naming each key that differs).
  RunDirectory(const Config& config, Start start);

  const std::string& path() const { return path_; }
  // Writes config.yaml; the directory is this configuration's from now on.
  void keep() const;
  // Of all that may not change between a run and its continuation; hexadecimal.
  const std::string& configuration_hash() const { return configuration_hash_; }

 private:
  struct Prepared {
    Prepared(const std::string& path, Start start);
  };
  std::string path_;
  std::string yaml_;
  std::string configuration_hash_;
  Prepared prepared_;  // before the lock file appears
  DirectoryLock lock_;
};

}  // namespace normlab

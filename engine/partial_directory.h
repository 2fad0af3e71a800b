// A directory that is either complete or not there under its name.
#pragma once

#include <optional>
#include <string>

#include "engine/files.h"

namespace normlab {

// Filled as DIRECTORY.partial, under a lock, and renamed when complete. Destruction without
// publish() removes it.
class PartialDirectory {
 public:
  // Makes it, and its parents. What an interrupted process has left in its place is removed. Throws
  // an input Error where DIRECTORY is there and not empty, cannot be made, or is being filled by
  // another process.
  explicit PartialDirectory(const std::string& directory);
  ~PartialDirectory();
  PartialDirectory(const PartialDirectory&) = delete;
  PartialDirectory& operator=(const PartialDirectory&) = delete;

  const std::string& path() const { return partial_; }
  // Whether there was something to remove.
  bool replaces_remains() const { return replaces_remains_; }
  // The files in it are to be synced already. An empty DIRECTORY is replaced.
  void publish();

 private:
  std::string directory_;
  std::string partial_;
  std::optional<DirectoryLock> lock_;
  bool replaces_remains_ = false;
  bool published_ = false;
};

}  // namespace normlab

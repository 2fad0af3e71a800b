// Files and directories that are either complete or not there.
#pragma once

#include <string>
#include <string_view>

namespace normlab {

// All bytes of a file. Throws an input Error "path: cannot be read (reason)".
std::string read_file(const std::string& path);
// Writes beside, syncs, renames, syncs the directory. Throws Error naming path and reason.
void write_file_atomically(const std::string& path, std::string_view content);
// The same without the renaming, for a file in a directory that is itself renamed when complete.
void write_file_synced(const std::string& path, std::string_view content);
// What was written to the file by whatever means is on the disk when this returns. Throws Error.
void sync_file(const std::string& path);
void sync_directory(const std::string& path);
// Throws an input Error where the directory cannot be made or a file in it cannot be created.
void require_writable_directory(const std::string& path);
// Whether nothing is in a directory but what a process that was killed in that trial leaves.
bool is_bare(const std::string& directory);

// An exclusive lock on a directory, held until destruction or death of the process.
class DirectoryLock {
 public:
  // Throws an input Error that names the process which holds it.
  explicit DirectoryLock(const std::string& directory);
  ~DirectoryLock();
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;

 private:
  int descriptor_ = -1;
};

}  // namespace normlab

#include "data/output_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "kernels/error.h"

namespace normlab {
namespace {

std::string last_system_error() { return std::strerror(errno); }

// A rename is on disk only when the directory is.
void sync_directory(const std::filesystem::path& directory) {
  const int descriptor = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) {
    throw Error(directory.string() + ": cannot be opened to sync it (" + last_system_error() +
                "). Choose another directory, and run again");
  }
  const bool synced = fsync(descriptor) == 0 || errno == EINVAL;  // EINVAL: has nothing to sync
  const std::string why = last_system_error();
  close(descriptor);
  if (!synced) {
    throw Error(directory.string() + ": could not be synced (" + why +
                "). Choose another directory, and run again");
  }
}

}  // namespace

OutputFile::OutputFile(const std::string& path)
    : path_(path),
      beside_(path + ".partial-" + std::to_string(getpid())),
      descriptor_(open(beside_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) {
  if (descriptor_ < 0) {
    throw input_error(path + ": cannot be written (" + last_system_error() +
                      "). Give a directory that exists and that you may write to");
  }
}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) close(descriptor_);
  if (!finished_) unlink(beside_.c_str());
}

void OutputFile::write(const void* data, size_t size_bytes) {
  const char* rest = static_cast<const char*>(data);
  while (size_bytes > 0) {
    const ssize_t written = ::write(descriptor_, rest, size_bytes);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("written");
    rest += written;
    size_bytes -= static_cast<size_t>(written);
  }
}

void OutputFile::rewrite_beginning(const void* data, size_t size_bytes) {
  if (lseek(descriptor_, 0, SEEK_SET) != 0) fail("written");
  write(data, size_bytes);
  if (lseek(descriptor_, 0, SEEK_END) < 0) fail("written");
}

// Some file systems report a full disk only when a file is synced or closed.
void OutputFile::finish() {
  if (fsync(descriptor_) != 0) fail("synced");
  if (close(std::exchange(descriptor_, -1)) != 0) fail("closed");
  if (std::rename(beside_.c_str(), path_.c_str()) != 0) {
    throw input_error(path_ + ": cannot be written (" + last_system_error() +
                      "). Choose another name");
  }
  finished_ = true;
  const std::filesystem::path directory = std::filesystem::path(path_).parent_path();
  sync_directory(directory.empty() ? "." : directory);
}

void OutputFile::fail(const char* what) const {
  throw Error(path_ + ": could not be " + what + " (" + last_system_error() +
              "). Make room or choose another directory, and run again");
}

}  // namespace normlab

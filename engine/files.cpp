#include "engine/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "kernels/error.h"

namespace normlab {
namespace {

std::string reason() { return std::strerror(errno); }

// A file descriptor that closes itself.
class Descriptor {
 public:
  Descriptor(const std::string& path, int flags) : value_(open(path.c_str(), flags, 0644)) {}
  ~Descriptor() {
    if (value_ >= 0) close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int value() const { return value_; }

 private:
  int value_;
};

void write_all(int descriptor, std::string_view content, const std::string& path) {
  size_t done = 0;
  while (done < content.size()) {
    const ssize_t count = write(descriptor, content.data() + done, content.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw Error(path + ": cannot be written (" + reason() + "). Free some space");
    done += static_cast<size_t>(count);
  }
}

// What a directory is tried with; a process that is killed leaves it.
constexpr const char* kTrial = ".trial";

}  // namespace

std::string read_file(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    throw input_error(path + ": cannot be read (it is a directory). Name a file");
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) throw input_error(path + ": cannot be read (" + reason() + ")");
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

void write_file_synced(const std::string& path, std::string_view content) {
  const Descriptor file(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC);
  if (file.value() < 0) throw Error(path + ": cannot be written (" + reason() + ")");
  write_all(file.value(), content, path);
  if (fsync(file.value()) != 0) throw Error(path + ": cannot be synced (" + reason() + ")");
}

void sync_file(const std::string& path) {
  const Descriptor file(path, O_WRONLY | O_CLOEXEC);
  if (file.value() < 0 || fsync(file.value()) != 0) {
    throw Error(path + ": cannot be synced (" + reason() +
                "). See to its disk and permissions, and run the same command again");
  }
}

void sync_directory(const std::string& path) {
  const Descriptor directory(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory.value() < 0 || fsync(directory.value()) != 0) {
    throw Error(path + ": cannot be synced (" + reason() + ")");
  }
}

void write_file_atomically(const std::string& path, std::string_view content) {
  const std::string beside = path + ".partial";
  write_file_synced(beside, content);
  if (std::rename(beside.c_str(), path.c_str()) != 0) {
    throw Error(path + ": cannot be replaced (" + reason() + ")");
  }
  const std::string parent = std::filesystem::path(path).parent_path().string();
  sync_directory(parent.empty() ? "." : parent);
}

void require_writable_directory(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) {
    throw input_error(path + ": cannot be made a directory (" + error.message() +
                      "). Choose another run.directory");
  }
  const std::string trial = path + "/" + kTrial;
  {
    const Descriptor file(trial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC);
    if (file.value() < 0) {
      throw input_error(path + ": cannot be written to (" + reason() +
                        "). Change its permissions or choose another run.directory");
    }
  }
  unlink(trial.c_str());
}

bool is_bare(const std::string& directory) {
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.path().filename() != kTrial) return false;
  }
  return true;
}

DirectoryLock::DirectoryLock(const std::string& directory) {
  const std::string path = directory + "/.lock";
  descriptor_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor_ < 0) throw input_error(path + ": cannot be opened (" + reason() + ")");
  if (flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    char holder[32] = {};
    const ssize_t count = read(descriptor_, holder, sizeof(holder) - 1);
    close(descriptor_);
    throw input_error(directory + ": in use by another process (" +
                      (count > 0 ? "process " + std::string(holder) : std::string("unknown")) +
                      "). Wait for it, stop it, or choose another directory");
  }
  try {
    if (ftruncate(descriptor_, 0) != 0)
      throw Error(path + ": cannot be written (" + reason() + ")");
    write_all(descriptor_, std::to_string(getpid()), path);
  } catch (const Error&) {
    close(descriptor_);
    throw;
  }
}

DirectoryLock::~DirectoryLock() { close(descriptor_); }

}  // namespace normlab

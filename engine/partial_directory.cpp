#include "engine/partial_directory.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string_view>

#include "kernels/error.h"

namespace normlab {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kLockFile = ".lock";

// Without a slash at its end, so that a word can be put behind it.
std::string plain_name(const std::string& directory) {
  const fs::path path = fs::absolute(directory).lexically_normal();
  return (path.has_filename() ? path : path.parent_path()).string();
}

bool is_mount_point(const std::string& directory) {
  struct stat own {};
  struct stat above {};
  return stat(directory.c_str(), &own) == 0 && stat((directory + "/..").c_str(), &above) == 0 &&
         own.st_dev != above.st_dev;
}

// Before hours of work, not after them.
void require_free(const std::string& directory) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(directory, error);
  if (!fs::exists(status)) return;
  if (!fs::is_directory(status)) {
    throw input_error(directory + ": there already (and no directory). Choose another");
  }
  if (!fs::is_empty(directory, error) || error) {
    throw input_error(directory + ": there already (and not empty). Choose another or remove it");
  }
  if (is_mount_point(directory)) {
    throw input_error(directory + ": a mount point (a complete directory cannot be put in its " +
                      "place). Choose a directory below it");
  }
}

// What is in it but for the lock. Returns whether there was something.
bool remove_content(const std::string& directory) {
  bool any = false;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
    if (entry.path().filename() == kLockFile) continue;
    fs::remove_all(entry.path());
    any = true;
  }
  return any;
}

}  // namespace

PartialDirectory::PartialDirectory(const std::string& directory)
    : directory_(plain_name(directory)), partial_(directory_ + ".partial") {
  require_free(directory_);
  std::error_code error;
  fs::create_directories(partial_, error);
  if (error) {
    throw input_error(directory_ + ": cannot be made (" + error.message() +
                      "). Choose another directory");
  }
  lock_.emplace(partial_);
  // Whoever had the lock before may have renamed or removed what is now locked, or published.
  if (!fs::exists(fs::path(partial_) / kLockFile)) {
    throw input_error(directory_ + ": just ended by another process. Run again");
  }
  try {
    require_free(directory_);
    replaces_remains_ = remove_content(partial_);
  } catch (const fs::filesystem_error& failure) {
    throw input_error(partial_ + ": cannot be emptied (" + failure.code().message() +
                      "). Remove it, or choose another directory");
  }
}

PartialDirectory::~PartialDirectory() {
  std::error_code ignored;
  if (!published_) fs::remove_all(partial_, ignored);
}

void PartialDirectory::publish() {
  sync_directory(partial_);
  if (std::rename(partial_.c_str(), directory_.c_str()) != 0) {
    throw Error(directory_ + ": cannot be put in place (" + std::strerror(errno) +
                "). Choose another directory, run again");
  }
  published_ = true;
  // Only now: a free lock in a directory that is still partial would invite others.
  std::error_code ignored;
  fs::remove(fs::path(directory_) / kLockFile, ignored);
  sync_directory(directory_);
  sync_directory(fs::path(directory_).parent_path().string());
}

}  // namespace normlab

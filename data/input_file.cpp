#include "data/input_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "data/mapped_files.h"
#include "kernels/error.h"

namespace normlab {
namespace {

std::string last_system_error() { return std::strerror(errno); }

void unmap(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  forget_mapping(bytes.data());
  munmap(const_cast<std::byte*>(bytes.data()), bytes.size());
}

}  // namespace

Mapping::Mapping(Mapping&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  if (this != &other) unmap(std::exchange(bytes_, std::exchange(other.bytes_, {})));
  return *this;
}

Mapping::~Mapping() { unmap(bytes_); }

// O_NONBLOCK: a pipe is found to be none of ours, not waited for.
InputFile::InputFile(const std::string& path)
    : path_(path), descriptor_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
  if (descriptor_ < 0) {
    const bool missing = errno == ENOENT || errno == ENOTDIR;
    throw input_error(
        path + (missing ? ": no such file" : ": cannot be read") + " (" + last_system_error() +
        "). " +
        (missing ? "Check the path; it counts from the current directory" : "Check its rights"));
  }
  struct stat status = {};
  if (fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(descriptor_);
    throw input_error(path + ": not a file (" +
                      (S_ISDIR(status.st_mode) ? "a directory" : "a device") +
                      "). Name the files in it, as in DIR/train-*.bin");
  }
  size_bytes_ = status.st_size;
}

InputFile::~InputFile() { close(descriptor_); }

void InputFile::read(int64_t offset_bytes, std::span<std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t count = pread(descriptor_, bytes.data(), bytes.size(), offset_bytes);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      throw Error(path_ + ": reading failed (" +
                  (count < 0 ? last_system_error() : "it became shorter meanwhile") +
                  "). Check the disk, run again");
    }
    offset_bytes += count;
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
}

Mapping InputFile::map() const {
  if (size_bytes_ == 0) return {};
  const auto size = static_cast<size_t>(size_bytes_);
  const void* const data = mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor_, 0);
  if (data == MAP_FAILED) {
    throw Error(path_ + ": cannot be mapped into memory (" + last_system_error() +
                "). Raise the limit of address space, ulimit -v, if there is one");
  }
  const std::span bytes(static_cast<const std::byte*>(data), size);
  remember_mapping(bytes, path_, descriptor_);
  return Mapping(bytes);
}

}  // namespace normlab

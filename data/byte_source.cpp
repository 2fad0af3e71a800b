#include "data/byte_source.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <utility>

#include "data/unpacking.h"
#include "kernels/error.h"

namespace normlab {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kGzipMagic = "\x1F\x8B";
constexpr std::string_view kZstdMagic = "\x28\xB5\x2F\xFD";

// The bytes as they are stored.
class StoredSource final : public ByteSource {
 public:
  StoredSource(int descriptor, std::stop_token stop)
      : descriptor_(descriptor), stop_(std::move(stop)) {}
  ~StoredSource() override {
    if (descriptor_ != STDIN_FILENO) close(descriptor_);
  }
  StoredSource(const StoredSource&) = delete;
  StoredSource& operator=(const StoredSource&) = delete;

  // Reads ahead until `count` (at most 16) bytes are there, or all that there are.
  std::string_view peek(size_t count) {
    std::array<char, 16> block{};
    while (ahead_.size() < count) {
      const size_t more = read_stored(std::span(block).first(count - ahead_.size()));
      if (more == 0) break;
      ahead_.append(block.data(), more);
    }
    return ahead_;
  }

  size_t read(std::span<char> bytes) override {
    if (ahead_.empty()) return read_stored(bytes);
    const size_t count = ahead_.copy(bytes.data(), bytes.size());
    ahead_.erase(0, count);
    return count;
  }
  int64_t bytes_read() const override { return bytes_read_; }

 private:
  size_t read_stored(std::span<char> bytes) {
    while (true) {
      if (!wait_for_bytes()) return 0;
      const ssize_t count = ::read(descriptor_, bytes.data(), bytes.size());
      if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (count < 0) {
        throw Error(std::string("reading failed (") + std::strerror(errno) +
                    "). Check the disk or network, run again");
      }
      bytes_read_ += count;
      return static_cast<size_t>(count);
    }
  }

  // False where the wait is to end.
  bool wait_for_bytes() const {
    constexpr int kMilliseconds = 100;
    pollfd wait{descriptor_, POLLIN, 0};
    while (!stop_.stop_requested()) {
      if (poll(&wait, 1, kMilliseconds) > 0) return true;
    }
    return false;
  }

  int descriptor_;
  std::stop_token stop_;
  std::string ahead_;
  int64_t bytes_read_ = 0;
};

Error missing_file(const std::string& file, const std::error_code& error) {
  return input_error(file + ": no such file (" + (error ? error.message() : "missing") +
                     "). Check the path; it counts from the current directory");
}

Error unreadable(const std::string& file) {
  return input_error(file + ": cannot be read (" + std::strerror(errno) + "). Check its rights");
}

}  // namespace

std::unique_ptr<ByteSource> open_bytes(const std::string& file, std::stop_token stop) {
  const int descriptor = file == "-" ? STDIN_FILENO : open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) throw unreadable(file);
  auto stored = std::make_unique<StoredSource>(descriptor, std::move(stop));
  const std::string_view begins = stored->peek(kZstdMagic.size());
  if (file.ends_with(".gz") || begins.starts_with(kGzipMagic)) {
    return unpack_gzip(std::move(stored));
  }
  if (file.ends_with(".zst") || begins.starts_with(kZstdMagic)) {
    return unpack_zstd(std::move(stored));
  }
  return stored;
}

int64_t stored_bytes(const std::vector<std::string>& files) {
  int64_t sum = 0;
  bool known = true;
  for (const std::string& file : files) {
    std::error_code error;
    const fs::file_status status = fs::status(file, error);
    if (file == "-" || fs::is_fifo(status) || fs::is_character_file(status)) {
      known = false;
      continue;
    }
    if (!fs::exists(status)) throw missing_file(file, error);
    if (fs::is_directory(status)) {
      throw input_error(file + ": a directory (a text file is wanted). Name the files in it");
    }
    if (access(file.c_str(), R_OK) != 0) throw unreadable(file);
    const auto size = static_cast<int64_t>(fs::file_size(file, error));
    if (size == 0) throw input_error(file + ": empty (0 bytes). Leave it out or give it text");
    sum += size;
  }
  return known ? sum : 0;
}

}  // namespace normlab

// Files that are read in parts, or mapped into memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace normlab {

// The bytes of a file in the address space, read from disk where they are looked at and dropped
// again where memory is wanted. The file must not shrink as long as this lives.
class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  friend class InputFile;
  explicit Mapping(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::span<const std::byte> bytes_;
};

// An open file. Throws an input Error where there is none, it is no plain file or may not be read.
class InputFile {
 public:
  explicit InputFile(const std::string& path);
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  ~InputFile();

  const std::string& path() const { return path_; }
  int64_t size_bytes() const { return size_bytes_; }
  // The bytes from `offset_bytes` on. Throws Error where the disk fails or the file has shrunk.
  void read(int64_t offset_bytes, std::span<std::byte> bytes) const;
  // All of it; valid beyond the InputFile. Throws Error where there is no address space left.
  Mapping map() const;

 private:
  std::string path_;
  int descriptor_;
  int64_t size_bytes_ = 0;
};

}  // namespace normlab

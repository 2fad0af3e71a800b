// The bytes of a file or of standard input, unpacked on the way; streamed.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

namespace normlab {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Fills the beginning of `bytes` and returns how many; 0 at the end only. Throws an input Error,
  // without the file's name, for packed data that are damaged or end too early.
  virtual size_t read(std::span<char> bytes) = 0;
  // As they are stored, packed.
  virtual int64_t bytes_read() const = 0;
};

// FILE is a path, or "-" for standard input. What is named .gz or .zst, or begins as one, is
// unpacked, all its members and frames. A pipe that has nothing to give is waited for until `stop`,
// which is then its end. Throws an input Error that names the file.
std::unique_ptr<ByteSource> open_bytes(const std::string& file, std::stop_token stop);

// The sizes of files, added up; 0 where one of them has none (a pipe). Throws an input Error that
// names the file which is missing, a directory, not to be read or empty.
int64_t stored_bytes(const std::vector<std::string>& files);

}  // namespace normlab

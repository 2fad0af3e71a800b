// A file that is complete or not there at all.
#pragma once

#include <cstddef>
#include <string>

namespace normlab {

// Written beside its place; finish() syncs it, renames it and syncs the directory. Destruction
// without finish() leaves nothing behind. Throws an input Error where the place cannot be written
// to, another Error where the disk fails.
class OutputFile {
 public:
  explicit OutputFile(const std::string& path);
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  ~OutputFile();

  void write(const void* data, size_t size_bytes);
  // Anew what was written at the beginning.
  void rewrite_beginning(const void* data, size_t size_bytes);
  void finish();

 private:
  [[noreturn]] void fail(const char* what) const;

  std::string path_;
  std::string beside_;
  int descriptor_;
  bool finished_ = false;
};

}  // namespace normlab

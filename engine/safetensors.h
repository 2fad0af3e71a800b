// safetensors files: tensors by name, in and out.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/tensor.h"

namespace normlab {

// `other`: a type of the format that nothing here computes with (BOOL, U8: the mask buffers of
// older GPT-2 files); such a tensor is listed and checked, but only its bytes can be had.
enum class StoredType { f32, f64, bf16, f16, i64, i32, other };

struct StoredTensor {
  StoredType type = StoredType::f32;
  std::vector<int64_t> shape;
  int64_t begin = 0;  // bytes from the end of the header
  int64_t end = 0;
  int64_t elements() const;
};

// An open file, mapped into memory. The constructor checks the header wholly (length within the
// file, JSON, types, shapes against sizes, offsets that tile the file without gap or overlap) and
// throws an input Error that names file, tensor and fact.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::string& path() const { return path_; }
  const std::map<std::string, StoredTensor>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  bool contains(const std::string& name) const { return tensors_.contains(name); }
  // All elements of a tensor as float (f32, bf16, f16, f64 are converted).
  std::vector<float> read(const std::string& name) const;
  // Elements [first, first + to.size()) of it, read into `to` without any of the file staying in
  // this process's memory. Throws an Error where the disk fails.
  void read(std::span<float> to, const std::string& name, int64_t first) const;
  // Without a copy; the type must be the stored one.
  std::span<const std::byte> bytes(const std::string& name) const;

 private:
  void require_floats(const std::string& name) const;
  void read_bytes(std::span<std::byte> to, int64_t place) const;

  std::string path_;
  int descriptor_ = -1;
  const std::byte* mapped_ = nullptr;
  int64_t file_bytes_ = 0;
  int64_t data_begin_ = 0;
  std::map<std::string, StoredTensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

struct TensorToWrite {
  std::string name;
  StoredType type = StoredType::f32;
  std::vector<int64_t> shape;
  // Fills exactly the tensor's bytes; called when it is the tensor's turn, so that only one tensor
  // at a time need be in memory.
  std::function<void(std::span<std::byte>)> fill;
};

// Writes and syncs a file (not atomically: the checkpoint's directory is what is renamed). Tensors
// in the order given; metadata {"format": "pt"} and what is added. Header padded with spaces to 8.
// Returns the file's XXH3 hash. Throws Error naming file and reason (disk full, no permission).
uint64_t write_safetensors(const std::string& path, const std::vector<TensorToWrite>& tensors,
                           const std::map<std::string, std::string>& metadata = {});
// XXH3 of a file's bytes. Throws an Error where it cannot be read: the content is not at fault.
uint64_t hash_file(const std::string& path);

}  // namespace normlab

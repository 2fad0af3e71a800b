#include "engine/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <set>
#include <utility>

#include "data/mapped_files.h"
#include "engine/safetensors_header.h"
#include "engine/stored_numbers.h"

namespace normlab {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

std::string reason() { return std::strerror(errno); }

// A file descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int number() const { return number_; }
  int release() { return std::exchange(number_, -1); }

 private:
  int number_;
};

class Hash {
 public:
  Hash() : state_(XXH3_createState()) {
    check(state_ != nullptr && XXH3_64bits_reset(state_) == XXH_OK, "a hash state is made");
  }
  ~Hash() { XXH3_freeState(state_); }
  Hash(const Hash&) = delete;
  Hash& operator=(const Hash&) = delete;
  void add(std::span<const std::byte> bytes) {
    XXH3_64bits_update(state_, bytes.data(), bytes.size());
  }
  uint64_t value() const { return XXH3_64bits_digest(state_); }

 private:
  XXH3_state_t* state_;
};

// Writes in order, hashes on the way.
class Output {
 public:
  explicit Output(const std::string& path)
      : path_(path), file_(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) {
    if (file_.number() < 0) throw failed();
  }
  void write(std::span<const std::byte> bytes) {
    hash_.add(bytes);
    while (!bytes.empty()) {
      const ssize_t count = ::write(file_.number(), bytes.data(), bytes.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) throw failed();
      bytes = bytes.subspan(static_cast<size_t>(count));
    }
  }
  // Some file systems (NFS, quotas) report a full disk only here.
  uint64_t finish() {
    if (::fsync(file_.number()) != 0) throw failed();
    if (::close(file_.release()) != 0) throw failed();
    return hash_.value();
  }

 private:
  Error failed() const {
    return Error(path_ + ": cannot be written (" + reason() + "). " +
                 "Make room or choose another run.directory");
  }

  std::string path_;
  Descriptor file_;
  Hash hash_;
};

void check_tensors_to_write(const std::string& path, const std::vector<TensorToWrite>& tensors) {
  std::set<std::string> names;
  for (const TensorToWrite& tensor : tensors) {
    if (!names.insert(tensor.name).second || tensor.name == "__metadata__") {
      throw Error(path + ": tensor " + tensor.name + " would be written twice (or is reserved). " +
                  "This is a defect of normlab; please report it");
    }
    check(tensor.type != StoredType::other, "a tensor is written in a type with a size");
    check(std::all_of(tensor.shape.begin(), tensor.shape.end(), [](int64_t n) { return n >= 0; }),
          "a shape to write has no negative extent");
  }
}

int64_t stored_bytes(const TensorToWrite& tensor) {
  StoredTensor stored;
  stored.shape = tensor.shape;
  return stored.elements() * size_of(tensor.type);
}

}  // namespace

int64_t StoredTensor::elements() const {
  int64_t product = 1;
  for (int64_t extent : shape) product *= extent;
  return product;
}

SafetensorsFile::SafetensorsFile(const std::string& path) : path_(path) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (file.number() < 0 || ::fstat(file.number(), &status) != 0) {
    throw input_error(path + ": cannot be opened (" + reason() + "). Check the path");
  }
  if (!S_ISREG(status.st_mode)) {
    throw input_error(path + ": no safetensors file (it is no regular file). Check the path");
  }
  file_bytes_ = status.st_size;
  if (file_bytes_ < 8) {
    throw input_error(path + ": no safetensors file (" + std::to_string(file_bytes_) +
                      " bytes, shorter than the header's length). Copy it anew");
  }
  void* mapping =
      ::mmap(nullptr, static_cast<size_t>(file_bytes_), PROT_READ, MAP_PRIVATE, file.number(), 0);
  if (mapping == MAP_FAILED) {
    throw Error(path + ": cannot be mapped into memory (" + reason() + "). Free some memory");
  }
  mapped_ = static_cast<const std::byte*>(mapping);
  try {
    SafetensorsHeader header =
        parse_safetensors_header(path, {mapped_, static_cast<size_t>(file_bytes_)});
    data_begin_ = header.data_begin;
    tensors_ = std::move(header.tensors);
    metadata_ = std::move(header.metadata);
    // A hint only: the disk is asked for more at a time.
    ::posix_fadvise(file.number(), 0, 0, POSIX_FADV_SEQUENTIAL);
    descriptor_ = file.release();
    remember_mapping({mapped_, static_cast<size_t>(file_bytes_)}, path_, descriptor_);
  } catch (...) {
    ::munmap(mapping, static_cast<size_t>(file_bytes_));
    throw;
  }
}

SafetensorsFile::~SafetensorsFile() {
  ::close(descriptor_);
  forget_mapping(mapped_);
  ::munmap(const_cast<std::byte*>(mapped_), static_cast<size_t>(file_bytes_));
}

std::span<const std::byte> SafetensorsFile::bytes(const std::string& name) const {
  auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    throw input_error(path_ + ": no tensor " + name + " (the file has " +
                      std::to_string(tensors_.size()) +
                      " others). Check that it is the right model");
  }
  const StoredTensor& tensor = found->second;
  return {mapped_ + data_begin_ + tensor.begin, static_cast<size_t>(tensor.end - tensor.begin)};
}

std::vector<float> SafetensorsFile::read(const std::string& name) const {
  const std::span<const std::byte> from = bytes(name);
  require_floats(name);
  std::vector<float> values(static_cast<size_t>(tensors_.at(name).elements()));
  read_numbers(values, from, tensors_.at(name).type);
  return values;
}

void SafetensorsFile::read(std::span<float> to, const std::string& name, int64_t first) const {
  const auto whole = static_cast<int64_t>(bytes(name).size());
  const StoredTensor& tensor = tensors_.at(name);
  require_floats(name);
  const int64_t size = size_of(tensor.type);
  const auto count = static_cast<int64_t>(to.size());
  check(first >= 0 && (first + count) * size <= whole, "numbers within the tensor");
  const int64_t place = data_begin_ + tensor.begin + first * size;
  if (tensor.type == StoredType::f32) {
    read_bytes(std::as_writable_bytes(to), place);
    return;
  }
  std::vector<std::byte> stored(static_cast<size_t>(count * size));
  read_bytes(stored, place);
  read_numbers(to, stored, tensor.type);
}

void SafetensorsFile::read_bytes(std::span<std::byte> to, int64_t place) const {
  while (!to.empty()) {
    const ssize_t count = ::pread(descriptor_, to.data(), to.size(), place);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      throw Error(path_ + ": cannot be read (" +
                  (count < 0 ? reason() : std::string("it has become shorter")) +
                  "). Mend this and run again");
    }
    to = to.subspan(static_cast<size_t>(count));
    place += count;
  }
}

void SafetensorsFile::require_floats(const std::string& name) const {
  if (holds_floats(tensors_.at(name).type)) return;
  throw input_error(path_ + ": tensor " + name +
                    " holds no floating-point numbers (weights are F32, F64, BF16 or F16). " +
                    "Check that it is the right model");
}

uint64_t write_safetensors(const std::string& path, const std::vector<TensorToWrite>& tensors,
                           const std::map<std::string, std::string>& metadata) {
  check_tensors_to_write(path, tensors);
  const std::string header = safetensors_header(tensors, metadata);
  Output output(path);
  const auto length = static_cast<uint64_t>(header.size());
  output.write(std::as_bytes(std::span(&length, 1)));
  output.write(std::as_bytes(std::span(header)));
  std::vector<std::byte> buffer;
  for (const TensorToWrite& tensor : tensors) {
    buffer.resize(static_cast<size_t>(stored_bytes(tensor)));
    tensor.fill(buffer);
    output.write(buffer);
  }
  return output.finish();
}

uint64_t hash_file(const std::string& path) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.number() < 0) {
    throw Error(path + ": cannot be opened (" + reason() + "). Mend this and run again");
  }
  Hash hash;
  std::vector<std::byte> buffer(1 << 20);
  while (true) {
    const ssize_t count = ::read(file.number(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      throw Error(path + ": cannot be read (" + reason() + "). Mend this and run again");
    }
    if (count == 0) return hash.value();
    hash.add(std::span(buffer).first(static_cast<size_t>(count)));
  }
}

}  // namespace normlab

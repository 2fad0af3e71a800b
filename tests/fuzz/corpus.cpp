#include "tests/fuzz/corpus.h"

#include <zlib.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <memory>
#include <stdexcept>

namespace normlab::fuzz {
namespace {

using Gzip = std::unique_ptr<gzFile_s, int (*)(gzFile_s*)>;

Gzip open_archive(const std::string& path, const char* mode) {
  Gzip file(gzopen(path.c_str(), mode), gzclose);
  if (file == nullptr) throw std::runtime_error(path + " cannot be opened");
  return file;
}

std::string all_bytes(const std::string& archive) {
  Gzip file = open_archive(archive, "rb");
  std::string bytes, piece(1 << 16, '\0');
  int read = 0;
  while ((read = gzread(file.get(), piece.data(), static_cast<unsigned>(piece.size()))) > 0) {
    bytes.append(piece, 0, static_cast<size_t>(read));
  }
  if (read < 0 || gzclose(file.release()) != Z_OK) {
    throw std::runtime_error(archive + " is damaged");
  }
  return bytes;
}

}  // namespace

std::string corpus_archive(const std::string& format) {
  return std::string(SOURCE_DIRECTORY) + "/tests/fuzz/corpus/" + format + ".gz";
}

std::vector<std::string> read_corpus(const std::string& archive) {
  if (!std::filesystem::exists(archive)) return {};
  const std::string bytes = all_bytes(archive);
  std::vector<std::string> files;
  for (size_t place = 0; place < bytes.size();) {
    const size_t line_end = std::min(bytes.find('\n', place), bytes.size());
    const char* const end = bytes.data() + line_end;
    size_t length = 0;
    const auto [stop, problem] = std::from_chars(bytes.data() + place, end, length);
    if (problem != std::errc() || stop != end || line_end + 1 + length > bytes.size()) {
      throw std::runtime_error(archive + " is damaged");
    }
    files.push_back(bytes.substr(line_end + 1, length));
    place = line_end + 1 + length;
  }
  return files;
}

void write_corpus(const std::string& archive, const std::vector<std::string>& files) {
  std::string bytes;
  for (const std::string& file : files) bytes += std::to_string(file.size()) + "\n" + file;
  Gzip gzip = open_archive(archive, "wb9");
  const int written = gzwrite(gzip.get(), bytes.data(), static_cast<unsigned>(bytes.size()));
  if (static_cast<size_t>(written) != bytes.size() || gzclose(gzip.release()) != Z_OK) {
    throw std::runtime_error(archive + " cannot be written");
  }
}

}  // namespace normlab::fuzz

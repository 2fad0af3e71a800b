#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>

#include "tests/fuzz/corpus.h"
#include "tests/fuzz/format.h"

namespace normlab::fuzz {
namespace {

const std::map<std::string, Format (*)(const std::string&)>& formats() {
  static const std::map<std::string, Format (*)(const std::string&)> all = {
      {"checkpoint_state", checkpoint_state_format},
      {"config_json", config_json_format},
      {"gpt2_merges", gpt2_merges_format},
      {"gpt2_text", gpt2_text_format},
      {"gpt2_vocabulary", gpt2_vocabulary_format},
      {"gzip", gzip_format},
      {"json_lines", json_lines_format},
      {"manifest", manifest_format},
      {"recipe", recipe_format},
      {"safetensors", safetensors_format},
      {"safetensors_index", safetensors_index_format},
      {"sentencepiece_model", sentencepiece_model_format},
      {"text", text_format},
      {"token_shard", token_shard_format},
      {"zstd", zstd_format},
  };
  return all;
}

}  // namespace

std::vector<std::string> format_names() {
  std::vector<std::string> names;
  for (const auto& [name, make] : formats()) names.push_back(name);
  return names;
}

Format make_format(const std::string& name, const std::string& folder) {
  const auto found = formats().find(name);
  if (found == formats().end()) throw std::invalid_argument(name + " is no format");
  Format format = found->second(folder);
  format.name = name;
  const std::vector<std::string> corpus = read_corpus(corpus_archive(name));
  format.files.insert(format.files.end(), corpus.begin(), corpus.end());
  return format;
}

void write_bytes(const std::string& path, const std::string& bytes) {
  // A new file: some file systems bring one that is written over to the disk at once.
  std::filesystem::remove(path);
  std::ofstream file(path, std::ios::binary);
  file << bytes << std::flush;
  if (!file) throw std::runtime_error(path + " cannot be written");
}

std::string read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  if (!file) throw std::runtime_error(path + " cannot be read");
  return bytes.str();
}

}  // namespace normlab::fuzz

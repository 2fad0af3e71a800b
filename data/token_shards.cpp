#include "data/token_shards.h"

#include <glob.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <utility>

#include "data/output_file.h"
#include "kernels/error.h"

namespace normlab {
namespace {

static_assert(std::endian::native == std::endian::little, "shards are read as they lie in memory");

constexpr int32_t kMagic = 20240520;
constexpr int32_t kVersion = 1;
constexpr int64_t kHeaderBytes = 1024;
using Header = std::array<int32_t, kHeaderBytes / sizeof(int32_t)>;

const char* const kMakeShards = "Take llm.c's, or give texts as data.text";

std::string last_system_error() { return std::strerror(errno); }

void check_header(const std::string& file, const Header& header, int64_t size_bytes) {
  if (header[0] != kMagic) {
    throw input_error(file + ": not a token shard (begins with " + std::to_string(header[0]) +
                      ", a shard with " + std::to_string(kMagic) + "). " + kMakeShards);
  }
  if (header[1] != kVersion) {
    throw input_error(file + ": a shard of version " + std::to_string(header[1]) +
                      " (only version 1, tokens of 16 bits, is known). " + kMakeShards);
  }
  const int64_t promised = header[2];
  const int64_t body_bytes = size_bytes - kHeaderBytes;
  if (promised <= 0) {
    throw input_error(file + ": a shard without tokens (its header says " +
                      std::to_string(promised) + "). Leave it out or make it again");
  }
  if (body_bytes != promised * int64_t{sizeof(uint16_t)}) {
    const int64_t held = body_bytes / int64_t{sizeof(uint16_t)};
    const std::string half = body_bytes % 2 != 0 ? " and a half" : "";
    const bool shorter = body_bytes < promised * int64_t{sizeof(uint16_t)};
    throw input_error(file + (shorter ? ": truncated" : ": longer than it says") +
                      " (its header says " + std::to_string(promised) + " tokens, it holds " +
                      std::to_string(held) + half + "). Copy or make it again");
  }
}

// An open shard whose header is read and right; its tokens come next.
struct InputShard {
  std::ifstream stream;
  int64_t tokens = 0;
};

InputShard open_shard(const std::string& file) {
  std::error_code error;
  const auto status = std::filesystem::status(file, error);
  if (!std::filesystem::exists(status)) {
    throw input_error(file + ": no such file (" + (error ? error.message() : "missing") +
                      "). Check data.train and data.validation");
  }
  if (!std::filesystem::is_regular_file(status)) {
    throw input_error(file +
                      ": not a file (a shard is one). Name the files in it, as in DIR/train-*.bin");
  }
  std::ifstream stream(file, std::ios::binary | std::ios::ate);
  if (!stream) {
    throw input_error(file + ": cannot be read (" + last_system_error() + "). Check its rights");
  }
  const int64_t size_bytes = stream.tellg();
  if (size_bytes < kHeaderBytes) {
    throw input_error(file + (size_bytes == 0 ? ": empty" : ": not a token shard") + " (" +
                      std::to_string(size_bytes) + " bytes, a shard's header alone is " +
                      std::to_string(kHeaderBytes) + "). " + kMakeShards);
  }
  Header header{};
  stream.seekg(0);
  stream.read(reinterpret_cast<char*>(header.data()), kHeaderBytes);
  if (stream) check_header(file, header, size_bytes);
  return {std::move(stream), (size_bytes - kHeaderBytes) / int64_t{sizeof(uint16_t)}};
}

void read_tokens(const std::string& file, InputShard& shard, std::span<uint16_t> tokens) {
  shard.stream.read(reinterpret_cast<char*>(tokens.data()),
                    static_cast<std::streamsize>(tokens.size_bytes()));
  if (!shard.stream) {
    throw Error(file + ": reading failed (" + last_system_error() + "). Check the disk, run again");
  }
}

void append_shard(const std::string& file, std::vector<uint16_t>& tokens) {
  InputShard shard = open_shard(file);
  const size_t before = tokens.size();
  tokens.resize(before + static_cast<size_t>(shard.tokens));
  read_tokens(file, shard, std::span(tokens).subspan(before));
}

void require_files(const std::vector<std::string>& files) {
  if (files.empty()) throw input_error("no token shards given (an empty list). Name at least one");
}

// glob(3) knows [ ] and \ too, which our patterns do not.
std::string as_glob_pattern(const std::string& pattern) {
  std::string escaped;
  for (const char c : pattern) {
    if (c == '[' || c == ']' || c == '\\') escaped += '\\';
    escaped += c;
  }
  return escaped;
}

std::vector<std::string> matches(const std::string& pattern) {
  glob_t found{};
  const int code = glob(as_glob_pattern(pattern).c_str(), 0, nullptr, &found);
  std::vector<std::string> paths;
  if (code == 0) paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  globfree(&found);
  if (code == GLOB_NOSPACE) throw Error(pattern + ": out of memory (glob). Name fewer files");
  std::sort(paths.begin(), paths.end());  // glob's own order depends on the locale
  return paths;
}

}  // namespace

uint64_t hash_tokens(std::span<const uint16_t> tokens) {
  return XXH3_64bits(tokens.data(), tokens.size_bytes());
}

uint64_t hash_corpus(const TokenCorpus& corpus) {
  const std::vector<int64_t>& starts = corpus.document_starts;
  return XXH3_64bits_withSeed(starts.data(), starts.size() * sizeof(starts[0]), corpus.hash);
}

TokenCorpus read_shards(const std::vector<std::string>& files) {
  require_files(files);
  TokenCorpus corpus;
  for (const std::string& file : files) append_shard(file, corpus.tokens);
  corpus.document_starts = {0};
  corpus.vocabulary = int64_t{1} + *std::max_element(corpus.tokens.begin(), corpus.tokens.end());
  corpus.hash = hash_tokens(corpus.tokens);
  return corpus;
}

int64_t shard_vocabulary(const std::vector<std::string>& files) {
  require_files(files);
  constexpr int64_t kBlockTokens = int64_t{1} << 19;
  std::vector<uint16_t> block;
  uint16_t largest = 0;
  for (const std::string& file : files) {
    InputShard shard = open_shard(file);
    for (int64_t left = shard.tokens; left > 0; left -= kBlockTokens) {
      block.resize(static_cast<size_t>(std::min(left, kBlockTokens)));
      read_tokens(file, shard, block);
      largest = std::max(largest, *std::max_element(block.begin(), block.end()));
    }
  }
  return int64_t{1} + largest;
}

void write_shard(const std::string& file, std::span<const uint16_t> tokens) {
  check(!tokens.empty() && tokens.size() <= size_t{std::numeric_limits<int32_t>::max()},
        "a shard holds 1 to 2^31 - 1 tokens");
  const Header header{kMagic, kVersion, static_cast<int32_t>(tokens.size())};
  OutputFile output(file);
  output.write(header.data(), kHeaderBytes);
  output.write(tokens.data(), tokens.size_bytes());
  output.finish();
}

std::vector<std::string> expand_paths(const std::vector<std::string>& patterns) {
  std::vector<std::string> paths;
  for (const std::string& pattern : patterns) {
    if (pattern.find_first_of("*?") == std::string::npos) {
      std::error_code error;
      if (!std::filesystem::exists(pattern, error)) {
        throw input_error(pattern + ": no such file (" + (error ? error.message() : "missing") +
                          "). Check the path; it counts from the current directory");
      }
      paths.push_back(pattern);
      continue;
    }
    const std::vector<std::string> found = matches(pattern);
    if (found.empty()) {
      throw input_error(pattern + ": no file matches (* and ? are the wildcards). Check the " +
                        "pattern; it counts from the current directory");
    }
    paths.insert(paths.end(), found.begin(), found.end());
  }
  return paths;
}

}  // namespace normlab

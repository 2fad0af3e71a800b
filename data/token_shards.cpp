#include "data/token_shards.h"

#include <glob.h>
#include <xxhash.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include "data/checksum.h"
#include "data/output_file.h"
#include "data/shard_file.h"
#include "kernels/error.h"

namespace normlab {
namespace {

namespace fs = std::filesystem;

// The manifests beside some shards, each read once.
class Manifests {
 public:
  // Null where there is none.
  const Manifest* beside(const std::string& file) {
    const std::string directory = directory_of(file);
    const auto known = by_directory_.find(directory);
    const auto found = known != by_directory_.end()
                           ? known
                           : by_directory_.emplace(directory, read_manifest(directory)).first;
    return found->second ? &*found->second : nullptr;
  }

  static std::string directory_of(const std::string& file) {
    const std::string directory = fs::path(file).parent_path().string();
    return directory.empty() ? "." : directory;
  }

 private:
  std::map<std::string, std::optional<Manifest>> by_directory_;
};

CorpusDescription description_of(const Manifest& manifest, const std::string& directory) {
  return {manifest.vocabulary,     manifest.end_of_text,
          manifest.rows,           tokenizer_of(manifest, directory),
          manifest.tokenizer_hash, (fs::path(directory) / "manifest.json").string()};
}

const ManifestShard& entry_of(const Manifest& manifest, const std::string& file) {
  const std::string name = fs::path(file).filename().string();
  const auto found = std::find_if(manifest.shards.begin(), manifest.shards.end(),
                                  [&](const ManifestShard& shard) { return shard.file == name; });
  if (found != manifest.shards.end()) return *found;
  throw input_error(file +
                    ": not in the manifest.json beside it (so it is not of that set). Take it out "
                    "of the pattern or to a directory of its own");
}

std::string rows_text(const std::optional<RowLayout>& rows) {
  if (!rows) return "joined documents";
  return "rows of " + std::to_string(rows->length) + " padded with " + std::to_string(rows->pad);
}

// "" where shards of the two may be joined.
std::string difference(const CorpusDescription& a, const CorpusDescription& b) {
  const auto differ = [](const std::string& of_a, const std::string& of_b) {
    return of_a + " and " + of_b;
  };
  if (a.manifest.empty() != b.manifest.empty()) return "only one of them has a manifest";
  if (a.tokenizer_hash != b.tokenizer_hash) {
    return "tokenizers " + differ(a.tokenizer, b.tokenizer) + " with different contents";
  }
  if (a.vocabulary != b.vocabulary) {
    return "vocabularies of " + differ(std::to_string(a.vocabulary), std::to_string(b.vocabulary));
  }
  if (a.end_of_text != b.end_of_text) {
    return "end-of-text " + differ(std::to_string(a.end_of_text), std::to_string(b.end_of_text));
  }
  if (rows_text(a.rows) != rows_text(b.rows)) return differ(rows_text(a.rows), rows_text(b.rows));
  return "";
}

// TokenCorpus::hash of tokens and lengths that were read part by part. Of shards without rows it is
// that of the same tokens in memory as one document.
uint64_t hash_of(const Checksum& tokens, const Checksum& lengths,
                 const std::optional<RowLayout>& rows) {
  std::vector<uint64_t> documents = {0};
  if (rows) {
    documents = {static_cast<uint64_t>(rows->length), static_cast<uint64_t>(rows->pad),
                 lengths.value()};
  }
  return XXH3_64bits_withSeed(documents.data(), documents.size() * sizeof(documents[0]),
                              tokens.value());
}

// Shards whose headers and sizes are right, and what they have in common.
struct ShardSet {
  CorpusDescription description;
  std::vector<const ManifestShard*> entries;  // null: no manifest
  Manifests manifests;                        // owns the entries
  int64_t total_bytes = 0;
};

ShardSet open_set(const std::vector<std::string>& files, const CorpusDescription& otherwise) {
  if (files.empty()) throw input_error("no token shards given (an empty list). Name at least one");
  ShardSet set;
  for (const std::string& file : files) {
    const Manifest* const manifest = set.manifests.beside(file);
    set.entries.push_back(manifest != nullptr ? &entry_of(*manifest, file) : nullptr);
    const CorpusDescription description =
        manifest != nullptr ? description_of(*manifest, Manifests::directory_of(file)) : otherwise;
    if (set.entries.size() == 1) set.description = description;
    const std::string differs = difference(set.description, description);
    if (!differs.empty()) {
      throw input_error(files.front() + " and " + file + ": of different sets (" + differs +
                        "). Train on one, or prepare both alike");
    }
    const ShardFile shard(file, set.entries.back(), description.rows);
    set.total_bytes += shard.tokens() * int64_t{sizeof(uint16_t)};
  }
  return set;
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

CorpusDescription describe_shards(const std::vector<std::string>& files,
                                  const CorpusDescription& otherwise) {
  return open_set(files, otherwise).description;
}

TokenCorpus read_shards(const std::vector<std::string>& files, const CorpusDescription& otherwise,
                        const ReadProgress& progress) {
  ShardSet set = open_set(files, otherwise);
  std::vector<MappedShard> shards;
  Checksum all_tokens, all_lengths;
  int64_t largest = 0;
  int64_t bytes = 0;
  for (size_t i = 0; i < files.size(); ++i) {
    const ShardFile shard(files[i], set.entries[i], set.description.rows);
    const int64_t of_shard = shard.read_through(
        set.description.vocabulary,
        [&](std::span<const std::byte> tokens) {
          all_tokens.add(tokens);
          bytes += static_cast<int64_t>(tokens.size());
          if (progress) progress(bytes, set.total_bytes);
        },
        [&](std::span<const std::byte> lengths) { all_lengths.add(lengths); });
    largest = std::max(largest, of_shard);
    shards.push_back(shard.map());
  }
  if (set.description.vocabulary == 0) set.description.vocabulary = largest + 1;
  const uint64_t hash = hash_of(all_tokens, all_lengths, set.description.rows);
  return {std::move(set.description), std::move(shards), hash};
}

int64_t shard_vocabulary(const std::vector<std::string>& files) {
  const ShardSet set = open_set(files, {});
  int64_t largest = 0;
  for (size_t i = 0; i < files.size(); ++i) {
    const ShardFile shard(files[i], set.entries[i], set.description.rows);
    const auto ignore = [](std::span<const std::byte>) {};
    largest = std::max(largest, shard.read_through(0, ignore, ignore));
  }
  return largest + 1;
}

void write_shard(const std::string& file, std::span<const uint16_t> tokens) {
  check(!tokens.empty() && tokens.size() <= size_t{std::numeric_limits<int32_t>::max()},
        "a shard holds 1 to 2^31 - 1 tokens");
  const ShardHeader header = shard_header(static_cast<int32_t>(tokens.size()));
  OutputFile output(file);
  output.write(header.data(), sizeof(header));
  output.write(tokens.data(), tokens.size_bytes());
  output.finish();
}

std::vector<std::string> expand_paths(const std::vector<std::string>& patterns) {
  std::vector<std::string> paths;
  for (const std::string& pattern : patterns) {
    if (pattern.find_first_of("*?") == std::string::npos) {
      std::error_code error;
      if (!fs::exists(pattern, error)) {
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

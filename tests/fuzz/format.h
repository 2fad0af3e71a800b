// The formats whose readers are given broken files.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace normlab::fuzz {

struct Format {
  std::string name;
  std::vector<std::string> files;   // sound ones, then the corpus's; mistakes are made in them
  std::vector<std::string> tokens;  // what a reader looks for
  // Reads a file all the way that a user's would go. May end in an input Error, and in nothing
  // else.
  std::function<void(const std::string& file)> read;
};

// `folder` is empty and the format's own for the time of the run.
Format checkpoint_state_format(const std::string& folder);
Format config_json_format(const std::string& folder);
Format gpt2_merges_format(const std::string& folder);
Format gpt2_text_format(const std::string& folder);
Format gpt2_vocabulary_format(const std::string& folder);
Format gzip_format(const std::string& folder);
Format json_lines_format(const std::string& folder);
Format manifest_format(const std::string& folder);
Format recipe_format(const std::string& folder);
Format safetensors_format(const std::string& folder);
Format safetensors_index_format(const std::string& folder);
Format sentencepiece_model_format(const std::string& folder);
Format text_format(const std::string& folder);
Format token_shard_format(const std::string& folder);
Format zstd_format(const std::string& folder);

// All of them.
std::vector<std::string> format_names();
// Throws where there is none of this name.
Format make_format(const std::string& name, const std::string& folder);

// Writes a file as it is; throws where that fails.
void write_bytes(const std::string& path, const std::string& bytes);
std::string read_bytes(const std::string& path);

}  // namespace normlab::fuzz

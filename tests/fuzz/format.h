// The formats whose readers are given broken files.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace normlab::fuzz {

struct Format {
  std::string name;
  std::vector<std::string> files;   // sound ones, which mistakes are made in
  std::vector<std::string> tokens;  // what a reader looks for
  // Reads a file all the way that a user's would go. May end in an input Error, and in nothing
  // else.
  std::function<void(const std::string& file)> read;
};

// Each in a file of its own. `folder` is empty and the format's own for the time of the run.
Format checkpoint_state_format(const std::string& folder);
Format config_json_format(const std::string& folder);
Format recipe_format(const std::string& folder);
Format safetensors_format(const std::string& folder);
Format token_shard_format(const std::string& folder);

// All of them.
std::vector<std::string> format_names();
// Throws where there is none of this name.
Format make_format(const std::string& name, const std::string& folder);

// Writes a file as it is; throws where that fails.
void write_bytes(const std::string& path, const std::string& bytes);
std::string read_bytes(const std::string& path);

}  // namespace normlab::fuzz

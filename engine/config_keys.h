// The names of all keys of a configuration, and what to say about a name that is none of them.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "engine/yaml_tree.h"

namespace normlab {

// "section.key" (or "section.part.key") of every key that load_config reads.
const std::vector<std::string>& known_keys();
// What nanoGPT, llm.c, torchtitan and Hugging Face call ours: lr -> optimizer.learning_rate. Empty
// where there is no such key, because it follows from others.
const std::map<std::string, std::string>& foreign_names();
// Throws an input Error at the first key of `root` that is not known: with our name for a name
// from elsewhere (lr, max_steps, block_size), else with the nearest one.
void reject_unknown_keys(const YamlNode& root);
// Least number of single-letter insertions, deletions and substitutions from a to b.
size_t edit_distance(const std::string& a, const std::string& b);
// The one of `names` that is so near to `name` that it was probably meant; empty where none is.
std::string nearest_name(const std::string& name, const std::vector<std::string>& names);

}  // namespace normlab

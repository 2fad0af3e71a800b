// YamlNode: a YAML file as a plain tree in which every value knows the place it came from.
#pragma once

#include <string>
#include <vector>

namespace normlab {

enum class YamlKind { null, scalar, list, map };

struct YamlNode {
  YamlKind kind = YamlKind::null;
  std::string key;    // where the parent is a map
  std::string place;  // "recipes/a.yaml:12" (of the key, where there is one) or "command line"
  std::string text;   // of a scalar
  bool quoted = false;
  std::vector<YamlNode> children;  // of a list or a map, in the order written

  // The entry of a map, or null.
  const YamlNode* find(const std::string& name) const;
  // "1e-3", "[a, b]", "{a: 1}": for messages and comparisons.
  std::string written() const;
};

// Reads one document; `name` stands for the file in places. Throws an input Error "name:line: …"
// on bad syntax, a second document, duplicate keys, merge keys (<<), tags, and keys that are not
// plain names. An empty text is an empty map.
YamlNode parse_yaml(const std::string& text, const std::string& name);
// The same for a file, `inherit: other.yaml` resolved (relative to the file that says so).
YamlNode load_yaml(const std::string& path);
// `inherit` of a tree that was read from (or is said to be) `path`.
YamlNode resolve_inherit(YamlNode root, const std::string& path);

// Lays `overlay` over `base`: maps key by key, anything else replaces. A null takes the key away
// that it covers (and stays a null where there is none, for the reader to complain about).
void merge_yaml(YamlNode& base, YamlNode overlay);
// Lays "section.key=value" over `root`; the value is YAML, its place the command line.
void apply_override(YamlNode& root, const std::string& assignment);

}  // namespace normlab

#include "engine/yaml_tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <utility>

#include "kernels/error.h"

namespace normlab {
namespace {

constexpr char command_line[] = "command line";
// No honest configuration comes near; nine lines of nested aliases can ask for billions.
constexpr size_t most_nodes = 100'000;

size_t count_nodes(const YamlNode& node) {
  size_t count = 1;
  for (const YamlNode& child : node.children) count += count_nodes(child);
  return count;
}

// Builds a YamlNode from yaml-cpp's events: its own tree keeps the first of two equal keys without
// a word, and forgets which scalars were quoted.
class TreeBuilder : public YAML::EventHandler {
 public:
  // Lines are named where `has_lines`; an override has none.
  TreeBuilder(std::string name, bool has_lines) : name_(std::move(name)), has_lines_(has_lines) {}

  YamlNode take_root() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (documents_++ > 0) {
      throw input_error(place(mark) + ": a second YAML document (one file is one configuration). " +
                        "Split the file");
    }
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    begin(node(mark, YamlKind::null), anchor);
    finish();
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    auto anchored = anchors_.find(anchor);
    if (anchored == anchors_.end()) {
      throw input_error(place(mark) + ": an alias within its own anchor (it would never end). " +
                        "Write the values out");
    }
    YamlNode copy = anchored->second;
    copy.place = place(mark);
    nodes_ += count_nodes(copy);
    begin(std::move(copy), 0);
    finish();
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    if (expects_key()) {
      take_key(mark, value);
      return;
    }
    reject_tag(mark, tag);
    YamlNode scalar = node(mark, YamlKind::scalar);
    scalar.text = value;
    scalar.quoted = tag == "!";
    begin(std::move(scalar), anchor);
    finish();
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    reject_tag(mark, tag);
    begin(node(mark, YamlKind::list), anchor);
  }
  void OnSequenceEnd() override { finish(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    reject_tag(mark, tag);
    begin(node(mark, YamlKind::map), anchor);
  }
  void OnMapEnd() override { finish(); }

 private:
  struct Open {
    YamlNode node;
    YAML::anchor_t anchor = 0;
    bool has_key = false;  // of a map: a key was read, its value comes next
    std::string key;
    std::string key_place;
  };

  std::string place(const YAML::Mark& mark) const {
    return has_lines_ ? name_ + ":" + std::to_string(mark.line + 1) : name_;
  }
  YamlNode node(const YAML::Mark& mark, YamlKind kind) const {
    YamlNode result;
    result.kind = kind;
    result.place = place(mark);
    return result;
  }
  bool expects_key() const {
    return !open_.empty() && open_.back().node.kind == YamlKind::map && !open_.back().has_key;
  }
  void reject_tag(const YAML::Mark& mark, const std::string& tag) const {
    if (tag.empty() || tag == "?" || tag == "!") return;
    throw input_error(place(mark) + ": " + tag +
                      " (types are given by the key, not by tags). Leave the tag out");
  }
  void take_key(const YAML::Mark& mark, const std::string& key) {
    Open& map = open_.back();
    if (key == "<<") {
      throw input_error(place(mark) +
                        ": << (merge keys are not supported). Use inherit: FILE, or "
                        "write the keys out");
    }
    if (const YamlNode* first = map.node.find(key)) {
      throw input_error(place(mark) + ": " + key + " (given twice, first at " + first->place +
                        "). Delete one of the two");
    }
    map.has_key = true;
    map.key = key;
    map.key_place = place(mark);
  }
  void begin(YamlNode started, YAML::anchor_t anchor) {
    if (expects_key()) {
      throw input_error(started.place + ": a key that is no plain name (a key is one word). " +
                        "Write section: {key: value}");
    }
    if (++nodes_ > most_nodes) {
      throw input_error(started.place + ": more than " + std::to_string(most_nodes) +
                        " values (aliases of aliases?). Write a smaller configuration");
    }
    open_.push_back({std::move(started), anchor, false, {}, {}});
  }
  void finish() {
    Open done = std::move(open_.back());
    open_.pop_back();
    if (done.anchor != 0) anchors_[done.anchor] = done.node;
    if (open_.empty()) {
      root_ = std::move(done.node);
      return;
    }
    Open& parent = open_.back();
    if (parent.node.kind == YamlKind::map) {
      done.node.key = parent.key;
      done.node.place = parent.key_place;
      parent.has_key = false;
    }
    parent.node.children.push_back(std::move(done.node));
  }

  std::string name_;
  bool has_lines_;
  int documents_ = 0;
  size_t nodes_ = 0;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, YamlNode> anchors_;
  YamlNode root_;
};

// Looks at nothing.
class NoBuilder : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

// Two at most: after a stray bracket yaml-cpp goes on handing out empty documents without end.
void read_documents(const std::string& text, YAML::EventHandler& handler) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  for (int document = 0; document < 2; ++document) {
    if (!parser.HandleNextDocument(handler)) return;
  }
}

// Syntax first: of a bracket that is never closed yaml-cpp reports events that make no sense, and
// what the builder would say of them points the wrong way.
YamlNode parse(const std::string& text, TreeBuilder builder, const std::string& name,
               bool has_lines) {
  try {
    NoBuilder syntax;
    read_documents(text, syntax);
    read_documents(text, builder);
  } catch (const YAML::Exception& problem) {
    std::string place = has_lines ? name + ":" + std::to_string(problem.mark.line + 1) : name;
    throw input_error(place + ": not valid YAML (" + problem.msg +
                      "). Check indentation, brackets, quotes and the space after each colon");
  }
  return builder.take_root();
}

std::string read_text(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    throw input_error(path + ": cannot be read (it is a directory). Name a YAML file");
  }
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (file && file.peek() != std::ifstream::traits_type::eof()) text << file.rdbuf();
  if (!file.is_open() || file.bad()) {
    throw input_error(path + ": cannot be read (" + std::strerror(errno) + "). Check the path");
  }
  return text.str();
}

std::string identity(const std::string& path) {
  std::error_code ignored;
  std::filesystem::path whole = std::filesystem::weakly_canonical(path, ignored);
  return whole.empty() ? path : whole.string();
}

// `ancestors`: the files that are being read, outermost first.
YamlNode resolve(YamlNode root, const std::string& path, std::vector<std::string> ancestors) {
  const YamlNode* inherit = root.find("inherit");
  if (inherit == nullptr) return root;
  if (inherit->kind != YamlKind::scalar || inherit->text.empty()) {
    throw input_error(inherit->place + ": inherit = " + inherit->written() +
                      " (must be the path of one YAML file). Write inherit: base.yaml");
  }
  std::string base_path =
      (std::filesystem::path(path).parent_path() / inherit->text).lexically_normal().string();
  ancestors.push_back(identity(path));
  if (std::find(ancestors.begin(), ancestors.end(), identity(base_path)) != ancestors.end()) {
    throw input_error(inherit->place + ": inherit = " + inherit->text +
                      " (the files inherit in a circle). Break it");
  }
  std::string text;
  try {
    text = read_text(base_path);
  } catch (const Error& problem) {
    throw problem.at(inherit->place + ": inherit = " + inherit->text);
  }
  YamlNode base = resolve(parse_yaml(text, base_path), base_path, ancestors);
  std::erase_if(root.children, [](const YamlNode& child) { return child.key == "inherit"; });
  std::string place = root.place;
  merge_yaml(base, std::move(root));
  base.place = place;
  return base;
}

}  // namespace

const YamlNode* YamlNode::find(const std::string& name) const {
  for (const YamlNode& child : children) {
    if (kind == YamlKind::map && child.key == name) return &child;
  }
  return nullptr;
}

std::string YamlNode::written() const {
  switch (kind) {
    case YamlKind::null:
      return "null";
    case YamlKind::scalar:
      return quoted ? '"' + text + '"' : text;
    case YamlKind::list:
    case YamlKind::map:
      break;
  }
  std::string result;
  for (const YamlNode& child : children) {
    if (!result.empty()) result += ", ";
    result += (kind == YamlKind::map ? child.key + ": " : "") + child.written();
  }
  return kind == YamlKind::map ? "{" + result + "}" : "[" + result + "]";
}

YamlNode parse_yaml(const std::string& text, const std::string& name) {
  YamlNode root = parse(text, TreeBuilder(name, true), name, true);
  if (root.kind == YamlKind::null) root.kind = YamlKind::map;
  if (root.kind != YamlKind::map) {
    throw input_error(root.place +
                      ": no map of sections (a configuration starts with sections such as model: "
                      "{…}). Write section: {key: value}");
  }
  root.place = name;
  return root;
}

YamlNode load_yaml(const std::string& path) {
  return resolve_inherit(parse_yaml(read_text(path), path), path);
}

YamlNode resolve_inherit(YamlNode root, const std::string& path) {
  return resolve(std::move(root), path, {});
}

void merge_yaml(YamlNode& base, YamlNode overlay) {
  for (YamlNode& child : overlay.children) {
    auto same = std::find_if(base.children.begin(), base.children.end(),
                             [&](const YamlNode& other) { return other.key == child.key; });
    if (same == base.children.end()) {
      base.children.push_back(std::move(child));
    } else if (child.kind == YamlKind::null) {
      base.children.erase(same);
    } else if (child.kind == YamlKind::map && same->kind == YamlKind::map) {
      merge_yaml(*same, std::move(child));
    } else {
      *same = std::move(child);
    }
  }
}

void apply_override(YamlNode& root, const std::string& assignment) {
  size_t equals = assignment.find('=');
  std::string path = assignment.substr(0, equals);
  bool empty_part = path.empty() || path.front() == '.' || path.back() == '.' ||
                    path.find("..") != std::string::npos;
  if (equals == std::string::npos || empty_part) {
    throw input_error(std::string(command_line) + ": " + assignment +
                      " (not an override). Write section.key=value, for example "
                      "optimizer.learning_rate=1e-3");
  }
  std::string value_text = assignment.substr(equals + 1);
  if (path == "inherit") {
    throw input_error(std::string(command_line) + ": inherit = " + value_text +
                      " (a file inherits, not a command line). Write it into the YAML file");
  }
  YamlNode overlay = parse(value_text, TreeBuilder(command_line, false),
                           std::string(command_line) + ": " + assignment, false);
  overlay.place = command_line;
  while (true) {
    size_t dot = path.rfind('.');
    overlay.key = path.substr(dot == std::string::npos ? 0 : dot + 1);
    YamlNode parent;
    parent.kind = YamlKind::map;
    parent.place = command_line;
    parent.children.push_back(std::move(overlay));
    overlay = std::move(parent);
    if (dot == std::string::npos) break;
    path.resize(dot);
  }
  merge_yaml(root, std::move(overlay));
}

}  // namespace normlab

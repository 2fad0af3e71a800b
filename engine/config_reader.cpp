#include "engine/config_reader.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "engine/config_keys.h"

namespace normlab {
namespace {

Error wrong(const YamlNode& node, const std::string& path, const std::string& why,
            const std::string& advice) {
  return input_error(node.place + ": " + path + " = " + node.written() + " (" + why + "). " +
                     advice);
}

bool is_digit(char letter) { return letter >= '0' && letter <= '9'; }

std::string without_sign(const std::string& text) {
  return !text.empty() && (text[0] == '+' || text[0] == '-') ? text.substr(1) : text;
}

// from_chars knows no plus.
std::string without_plus(const std::string& text) {
  return text.size() > 1 && text[0] == '+' && text[1] != '-' ? text.substr(1) : text;
}

bool looks_octal(const std::string& text) {
  std::string digits = without_sign(text);
  return digits.size() > 1 && digits[0] == '0' && is_digit(digits[1]);
}

// Decimal floating point as YAML and JSON have it; no hexadecimal, no names.
std::optional<double> decimal(const std::string& text) {
  std::string digits = without_plus(text);
  double value = 0;
  auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (problem != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

bool is_name_of_no_number(const std::string& text) {
  std::string name = without_sign(text);
  std::erase(name, '.');
  for (char& letter : name) letter = static_cast<char>(letter | 0x20);
  return name == "nan" || name == "inf" || name == "infinity";
}

// 1_000_000 without its underscores; unchanged where one stands elsewhere than between digits.
std::string without_underscores(const std::string& text) {
  std::string digits;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      digits += text[i];
    } else if (i == 0 || i + 1 == text.size() || !is_digit(text[i - 1]) || !is_digit(text[i + 1])) {
      return text;
    }
  }
  return digits;
}

const YamlNode& scalar(const YamlNode& node, const std::string& path, const std::string& type) {
  switch (node.kind) {
    case YamlKind::scalar:
      break;
    case YamlKind::null:
      throw wrong(node, path, "has no value; must be " + type, "Write one, or delete the line");
    case YamlKind::list:
    case YamlKind::map:
      throw wrong(node, path, "must be " + type, "Write one value");
  }
  return node;
}

void reject_quotes_and_octal(const YamlNode& node, const std::string& path,
                             const std::string& type) {
  if (node.quoted) {
    throw wrong(node, path, "must be " + type + ", not a text in quotes", "Leave the quotes out");
  }
  if (looks_octal(node.text)) {
    throw wrong(node, path, "a leading 0 means octal to some readers of YAML",
                "Leave the leading 0 out");
  }
}

int64_t integer_of(const YamlNode& node, const std::string& path) {
  scalar(node, path, "an integer");
  reject_quotes_and_octal(node, path, "an integer");
  std::string digits = without_plus(without_underscores(node.text));
  int64_t value = 0;
  auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  bool whole = end == digits.data() + digits.size() && !digits.empty();
  if (whole && problem == std::errc()) return value;
  if (whole && problem == std::errc::result_out_of_range) {
    throw wrong(node, path, "beyond 64 bits", "Write a smaller number");
  }
  std::optional<double> real = node.text.empty() ? std::nullopt : decimal(node.text);
  if (real && std::isfinite(*real)) {
    bool exact = *real == std::floor(*real) && std::abs(*real) < 9e15;
    throw wrong(
        node, path, "must be an integer; this is a floating-point number",
        exact ? "Write " + std::to_string(static_cast<int64_t>(*real)) : "Write digits only");
  }
  throw wrong(node, path, "must be an integer", "Write decimal digits only");
}

double number_of(const YamlNode& node, const std::string& path, NumberRule rule) {
  scalar(node, path, "a number");
  reject_quotes_and_octal(node, path, "a number");
  if (is_name_of_no_number(node.text)) {
    throw wrong(node, path, "must be a finite number", "Write digits, for example 1e-3");
  }
  std::optional<double> value = node.text.empty() ? std::nullopt : decimal(node.text);
  if (!value) {
    throw wrong(node, path, "must be a number within the range of a double",
                "Write digits, for example 1e-3");
  }
  if (!rule.holds(*value)) throw wrong(node, path, rule.text, "Choose another value");
  return *value;
}

std::string text_of(const YamlNode& node, const std::string& path) {
  const std::string& text = scalar(node, path, "a text").text;
  if (text.empty()) throw wrong(node, path, "must not be empty", "Write one, or delete the line");
  return text;
}

std::vector<std::string> texts_at(const YamlNode& node, const std::string& path) {
  if (node.kind != YamlKind::list) return {text_of(node, path)};
  std::vector<std::string> values;
  for (const YamlNode& item : node.children) values.push_back(text_of(item, path));
  return values;
}

std::string joined(const std::vector<std::string>& words) {
  std::string list;
  for (const std::string& word : words) list += (list.empty() ? "" : ", ") + word;
  return list;
}

}  // namespace

Section::Section(const YamlNode* node, std::string path, std::string place)
    : node_(node), path_(std::move(path)), place_(std::move(place)) {
  if (node_ != nullptr && node_->kind != YamlKind::map) {
    throw wrong(*node_, path_, "must be a map of keys", "Write " + path_ + ": {key: value}");
  }
}

std::string Section::path_of(const std::string& key) const {
  return path_.empty() ? key : path_ + "." + key;
}

const YamlNode* Section::find(const std::string& key) const {
  const std::vector<std::string>& keys = known_keys();
  check(std::find(keys.begin(), keys.end(), path_of(key)) != keys.end(),
        "every key that is read is listed in config_keys.cpp");
  return node_ == nullptr ? nullptr : node_->find(key);
}

Section Section::section(const std::string& key) const {
  const YamlNode* child = node_ == nullptr ? nullptr : node_->find(key);
  return {child, path_of(key), child == nullptr ? place_ : child->place};
}

bool Section::integer(const std::string& key, int64_t& value, int64_t least, int64_t most) const {
  const YamlNode* node = find(key);
  if (node == nullptr) return false;
  int64_t read = integer_of(*node, path_of(key));
  if (read < least) {
    throw wrong(*node, path_of(key), "must be >= " + std::to_string(least), "Choose another value");
  }
  if (read > most) {
    throw wrong(*node, path_of(key), "must be <= " + std::to_string(most), "Choose another value");
  }
  value = read;
  return true;
}

bool Section::number(const std::string& key, double& value, NumberRule rule) const {
  const YamlNode* node = find(key);
  if (node == nullptr) return false;
  value = number_of(*node, path_of(key), rule);
  return true;
}

bool Section::numbers(const std::string& key, const std::vector<double*>& values,
                      NumberRule rule) const {
  const YamlNode* node = find(key);
  if (node == nullptr) return false;
  if (node->kind != YamlKind::list || node->children.size() != values.size()) {
    throw wrong(*node, path_of(key),
                "must be a list of " + std::to_string(values.size()) + " numbers",
                "Write them in square brackets");
  }
  for (size_t i = 0; i < values.size(); ++i) {
    *values[i] = number_of(node->children[i], path_of(key), rule);
  }
  return true;
}

bool Section::boolean(const std::string& key, bool& value) const {
  const YamlNode* node = find(key);
  if (node == nullptr) return false;
  const std::string& text = scalar(*node, path_of(key), "true or false").text;
  bool yes = text == "true" || text == "True" || text == "TRUE";
  bool no = text == "false" || text == "False" || text == "FALSE";
  if (node->quoted || (!yes && !no)) {
    throw wrong(*node, path_of(key), "must be true or false", "Write one of them, without quotes");
  }
  value = yes;
  return true;
}

bool Section::text(const std::string& key, std::string& value) const {
  const YamlNode* node = find(key);
  if (node == nullptr) return false;
  value = text_of(*node, path_of(key));
  return true;
}

bool Section::texts(const std::string& key, std::vector<std::string>& values) const {
  const YamlNode* node = find(key);
  if (node == nullptr) return false;
  values = texts_at(*node, path_of(key));
  return true;
}

bool Section::is_map(const std::string& key) const {
  const YamlNode* node = find(key);
  return node != nullptr && node->kind == YamlKind::map;
}

std::vector<std::string> Section::free_keys(const std::string& key) const {
  const YamlNode* node = find(key);
  std::vector<std::string> names;
  if (node == nullptr || node->kind != YamlKind::map) return names;
  for (const YamlNode& child : node->children) names.push_back(child.key);
  return names;
}

std::vector<std::string> Section::texts_of(const std::string& key, const std::string& name) const {
  const YamlNode* node = find(key);
  const YamlNode* child = node == nullptr ? nullptr : node->find(name);
  check(child != nullptr, "texts_of is asked for a name that free_keys gave");
  std::vector<std::string> values = texts_at(*child, path_of(key) + "." + name);
  if (values.empty()) {
    throw wrong(*child, path_of(key) + "." + name, "an empty set", "Name a file, or delete it");
  }
  return values;
}

void Section::require(const std::string& key, const std::string& advice) const {
  if (has(key)) return;
  throw input_error(place_ + ": " + path_of(key) + " is missing (it has no default). " + advice);
}

Error Section::error(const std::string& key, const std::string& value, const std::string& why,
                     const std::string& advice) const {
  const YamlNode* node = find(key);
  if (node != nullptr) return wrong(*node, path_of(key), why, advice);
  return input_error(place_ + ": " + path_of(key) + " = " + value + " (the default; " + why +
                     "). " + advice);
}

std::optional<size_t> Section::word(const std::string& key, const std::vector<std::string>& words,
                                    const std::vector<std::string>& planned) const {
  const YamlNode* node = find(key);
  if (node == nullptr) return std::nullopt;
  const std::string& text = scalar(*node, path_of(key), "one of " + joined(words)).text;
  auto found = std::find(words.begin(), words.end(), text);
  if (found != words.end()) return static_cast<size_t>(found - words.begin());
  if (std::find(planned.begin(), planned.end(), text) != planned.end()) {
    throw wrong(*node, path_of(key), path_of(key) + " " + text + " is not built yet",
                "Built are: " + joined(words));
  }
  std::string nearest = nearest_name(text, words);
  throw wrong(*node, path_of(key), "must be one of " + joined(words),
              nearest.empty() ? "Choose one of them" : "Did you mean " + nearest + "?");
}

}  // namespace normlab

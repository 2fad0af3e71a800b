#include "data/json_lines.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "data/prompts.h"
#include "kernels/error.h"

namespace normlab {
namespace {

using nlohmann::json;

constexpr size_t kExcerptBytes = 60;

// The beginning of a text of anyone's, fit for a terminal.
std::string excerpt(std::string_view text) {
  std::string words;
  for (const char c : text.substr(0, kExcerptBytes)) words += c >= ' ' && c <= '~' ? c : '?';
  return text.size() > kExcerptBytes ? words + "…" : words;
}

// The code unit of an escape \uXXXX at `at`; nothing where there is none.
std::optional<unsigned> escaped_unit(std::string_view line, size_t at) {
  constexpr size_t kEscapeBytes = 6;
  if (line.substr(at, 2) != "\\u" || line.size() < at + kEscapeBytes) return std::nullopt;
  unsigned unit = 0;
  const char* const end = line.data() + at + kEscapeBytes;
  const auto [stop, error] = std::from_chars(line.data() + at + 2, end, unit, 16);
  if (error != std::errc{} || stop != end) return std::nullopt;
  return unit;
}

bool is_high_surrogate(unsigned unit) { return unit >= 0xD800 && unit < 0xDC00; }
bool is_low_surrogate(unsigned unit) { return unit >= 0xDC00 && unit < 0xE000; }

// Puts \ufffd in place of every escaped surrogate without its other half; false where there is
// none.
bool replace_lone_surrogates(std::string& line) {
  bool replaced = false;
  for (size_t at = line.find('\\'); at != std::string::npos; at = line.find('\\', at)) {
    const unsigned unit = escaped_unit(line, at).value_or(0);
    if (unit == 0) {
      at += 2;
    } else if (is_high_surrogate(unit) &&
               is_low_surrogate(escaped_unit(line, at + 6).value_or(0))) {
      at += 12;
    } else {
      if (is_high_surrogate(unit) || is_low_surrogate(unit)) {
        line.replace(at, 6, "\\ufffd");
        replaced = true;
      }
      at += 6;
    }
  }
  return replaced;
}

// nlohmann's words without its preface, and without the token, which may be the whole line.
std::string reason_of(const json::exception& error) {
  std::string_view reason = error.what();
  reason = reason.substr(0, reason.find("; last read"));
  const size_t preface = reason.find(" - ");
  if (preface != std::string_view::npos) reason.remove_prefix(preface + 3);
  const auto* const parse_error = dynamic_cast<const json::parse_error*>(&error);
  const std::string place =
      parse_error == nullptr ? "" : "at byte " + std::to_string(parse_error->byte) + ": ";
  return place + excerpt(reason);
}

json parse(std::string& line) {
  try {
    return json::parse(line);
  } catch (const json::exception& error) {
    if (!replace_lone_surrogates(line)) {
      throw input_error("malformed JSON (" + reason_of(error) + "; it begins " + excerpt(line) +
                        "). Mend the line or leave it out; each line is an object of its own");
    }
  }
  return parse(line);  // none are left
}

std::string keys_of(const json& object) {
  std::string keys;
  for (const auto& item : object.items()) keys += (keys.empty() ? "" : ", ") + item.key();
  return keys.empty() ? "nothing" : excerpt(keys);
}

// The value under a key, or under a.b where there is no key of that whole name; none: nullptr.
json* find_value(json& object, const std::string& key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  if (found != object.end()) return &*found;
  for (size_t dot = key.find('.'); dot != std::string::npos; dot = key.find('.', dot + 1)) {
    const auto inner = object.find(key.substr(0, dot));
    if (inner == object.end()) continue;
    if (json* value = find_value(*inner, key.substr(dot + 1))) return value;
  }
  return nullptr;
}

json& value_at(json& object, const std::string& key, const char* option) {
  if (!object.is_object()) {
    throw input_error("not a JSON object (but " + std::string(object.type_name()) +
                      "). Each line is an object with the key \"" + key + "\"");
  }
  json* const value = find_value(object, key);
  if (value == nullptr) {
    throw input_error("no key \"" + key + "\" (it has " + keys_of(object) +
                      "). Name the right one with " + option + ", or leave the line out");
  }
  return *value;
}

Error wrong_type(const std::string& key, const json& value, const std::string& wanted) {
  return input_error("\"" + key + "\" is " + value.type_name() + " (" + wanted +
                     " is wanted). Name another key, mend the line or leave it out");
}

void read_ids(Document& document, const json& list, const SourceOptions& options) {
  if (!list.is_array()) throw wrong_type(options.ids_key, list, "a list of ids");
  document.ids.clear();
  document.ids.reserve(list.size() + 1);
  for (const json& id : list) {
    if (!id.is_number_integer()) {
      throw input_error("\"" + options.ids_key + "\" holds " + excerpt(id.dump()) +
                        " (an id is a whole number). Name the key of the ids with --ids-key");
    }
    const bool inside =
        id.is_number_unsigned() && id.get<uint64_t>() < static_cast<uint64_t>(options.vocabulary);
    if (!inside) {
      throw input_error("id " + id.dump() + " lies outside the vocabulary (of " +
                        std::to_string(options.vocabulary) +
                        " tokens). Name the tokenizer that made the ids");
    }
    document.ids.push_back(id.get<uint16_t>());
  }
}

}  // namespace

void parse_json_line(Document& document, std::string& line, const SourceOptions& options) {
  json object = parse(line);
  if (options.prompts) {
    document.parts = read_parts(object, *options.prompts);
    return;
  }
  if (!options.ids_key.empty()) {
    read_ids(document, value_at(object, options.ids_key, "--ids-key"), options);
    return;
  }
  json& text = value_at(object, options.key, "--key");
  if (!text.is_string()) throw wrong_type(options.key, text, "a text");
  document.text = std::move(text.get_ref<std::string&>());
}

}  // namespace normlab

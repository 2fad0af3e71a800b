#include "engine/safetensors_header.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

namespace normlab {
namespace {

using Json = nlohmann::json;

// The reference implementation's bound: a larger header is an attack or garbage.
constexpr uint64_t most_header_bytes = 100'000'000;
constexpr char metadata_key[] = "__metadata__";

struct FormatType {
  const char* name;
  StoredType type;
  int64_t bytes;
};
constexpr FormatType format_types[] = {
    {"F32", StoredType::f32, 4},       {"F64", StoredType::f64, 8},
    {"BF16", StoredType::bf16, 2},     {"F16", StoredType::f16, 2},
    {"I64", StoredType::i64, 8},       {"I32", StoredType::i32, 4},
    {"BOOL", StoredType::other, 1},    {"U8", StoredType::other, 1},
    {"I8", StoredType::other, 1},      {"F8_E4M3", StoredType::other, 1},
    {"F8_E5M2", StoredType::other, 1}, {"I16", StoredType::other, 2},
    {"U16", StoredType::other, 2},     {"U32", StoredType::other, 4},
    {"U64", StoredType::other, 8},
};

Error damaged(const std::string& path, const std::string& fact) {
  return input_error(path + ": no valid safetensors file (" + fact + "). Copy or export it anew");
}

std::string quoted(const std::string& name) {
  constexpr size_t most_letters = 80;
  return '"' + (name.size() > most_letters ? name.substr(0, most_letters) + "…" : name) + '"';
}

// Parses, and throws on equal names at the same level, which nlohmann would merge silently, and on
// nesting deeper than the format has.
Json parse_json(const std::string& path, const char* begin, const char* end) {
  std::vector<std::set<std::string>> names;
  auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > 3) throw damaged(path, "its header nests too deeply");
    if (event == Json::parse_event_t::object_start) names.emplace_back();
    if (event == Json::parse_event_t::object_end) names.pop_back();
    if (event == Json::parse_event_t::key) {
      const auto& name = parsed.get_ref<const std::string&>();
      if (!names.back().insert(name).second) {
        throw damaged(path, "its header has " + quoted(name) + " twice");
      }
    }
    return true;
  };
  // nlohmann takes a NUL for the end of the text; the reference implementation refuses it.
  if (std::find(begin, end, '\0') != end) throw damaged(path, "its header is not JSON: a NUL byte");
  try {
    return Json::parse(begin, end, watch);
  } catch (const Json::exception& problem) {
    // The message may quote the file's bytes, which need not be text.
    if (problem.id == 101) throw damaged(path, "its header is not JSON in UTF-8");
    throw damaged(path, "its header cannot be read");
  }
}

// A JSON integer that is not negative and fits int64_t.
std::optional<int64_t> natural(const Json& value) {
  if (!value.is_number_unsigned()) return std::nullopt;
  const auto number = value.get<uint64_t>();
  if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
  return static_cast<int64_t>(number);
}

std::optional<int64_t> product(int64_t a, int64_t b) {
  if (b != 0 && a > std::numeric_limits<int64_t>::max() / b) return std::nullopt;
  return a * b;
}

const FormatType* format_type(const Json& entry) {
  auto dtype = entry.find("dtype");
  if (dtype == entry.end() || !dtype->is_string()) return nullptr;
  for (const FormatType& type : format_types) {
    if (dtype->get_ref<const std::string&>() == type.name) return &type;
  }
  return nullptr;
}

StoredTensor parse_tensor(const std::string& path, const std::string& name, const Json& entry,
                          int64_t data_bytes) {
  const std::string of = "tensor " + quoted(name) + ": ";
  if (!entry.is_object()) throw damaged(path, of + "no object");
  const FormatType* type = format_type(entry);
  if (type == nullptr) throw damaged(path, of + "no known dtype");
  StoredTensor tensor;
  tensor.type = type->type;
  auto shape = entry.find("shape");
  if (shape == entry.end() || !shape->is_array()) throw damaged(path, of + "no shape");
  std::optional<int64_t> bytes = type->bytes;
  for (const Json& extent : *shape) {
    std::optional<int64_t> number = natural(extent);
    if (!number) throw damaged(path, of + "an extent that is no natural number");
    tensor.shape.push_back(*number);
    bytes = product(*bytes, *number);
    if (!bytes) throw damaged(path, of + "a shape beyond 64 bits");
  }
  auto offsets = entry.find("data_offsets");
  if (offsets == entry.end() || !offsets->is_array() || offsets->size() != 2) {
    throw damaged(path, of + "no pair of data_offsets");
  }
  const std::optional<int64_t> begin = natural((*offsets)[0]);
  const std::optional<int64_t> end = natural((*offsets)[1]);
  if (!begin || !end || *begin > *end || *end > data_bytes) {
    throw damaged(path, of + "data_offsets outside the " + std::to_string(data_bytes) +
                            " bytes of data; is the file cut short?");
  }
  if (*end - *begin != *bytes) {
    throw damaged(path, of + std::to_string(*end - *begin) +
                            " bytes where its shape and dtype need " + std::to_string(*bytes));
  }
  tensor.begin = *begin;
  tensor.end = *end;
  return tensor;
}

// The tensors lie one after another and fill the file.
void check_tiling(const std::string& path, const std::map<std::string, StoredTensor>& tensors,
                  int64_t data_bytes) {
  std::vector<std::pair<const std::string*, const StoredTensor*>> order;
  for (const auto& [name, tensor] : tensors) order.emplace_back(&name, &tensor);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second->begin, a.second->end) < std::pair(b.second->begin, b.second->end);
  });
  int64_t expected = 0;
  for (const auto& [name, tensor] : order) {
    if (tensor->begin != expected) {
      throw damaged(path, "tensor " + quoted(*name) + " begins at byte " +
                              std::to_string(tensor->begin) + " of the data, not at " +
                              std::to_string(expected));
    }
    expected = tensor->end;
  }
  if (expected != data_bytes) {
    throw damaged(path, std::to_string(data_bytes - expected) + " bytes belong to no tensor");
  }
}

std::map<std::string, std::string> parse_metadata(const std::string& path, const Json& entries) {
  if (!entries.is_object()) throw damaged(path, "__metadata__ is no object");
  std::map<std::string, std::string> metadata;
  for (const auto& [name, value] : entries.items()) {
    if (!value.is_string()) throw damaged(path, "__metadata__ " + quoted(name) + " is no text");
    metadata[name] = value.get<std::string>();
  }
  return metadata;
}

}  // namespace

int64_t size_of(StoredType type) {
  switch (type) {
    case StoredType::f32:
      return 4;
    case StoredType::f64:
      return 8;
    case StoredType::bf16:
      return 2;
    case StoredType::f16:
      return 2;
    case StoredType::i64:
      return 8;
    case StoredType::i32:
      return 4;
    case StoredType::other:
      return 0;
  }
  return 0;
}

SafetensorsHeader parse_safetensors_header(const std::string& path,
                                           std::span<const std::byte> file) {
  check(file.size() >= 8, "a safetensors file has at least the length of its header");
  uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof(length));
  if (length > most_header_bytes || length > file.size() - sizeof(length)) {
    throw damaged(path, "a header of " + std::to_string(length) + " bytes in a file of " +
                            std::to_string(file.size()));
  }
  const char* begin = reinterpret_cast<const char*>(file.data()) + sizeof(length);
  if (length == 0 || *begin != '{') throw damaged(path, "its header is no JSON object");
  const Json json = parse_json(path, begin, begin + length);
  SafetensorsHeader header;
  header.data_begin = static_cast<int64_t>(sizeof(length) + length);
  const int64_t data_bytes = static_cast<int64_t>(file.size()) - header.data_begin;
  for (const auto& [name, entry] : json.items()) {
    if (name == metadata_key) {
      header.metadata = parse_metadata(path, entry);
    } else {
      header.tensors[name] = parse_tensor(path, name, entry, data_bytes);
    }
  }
  check_tiling(path, header.tensors, data_bytes);
  return header;
}

std::string safetensors_header(const std::vector<TensorToWrite>& tensors,
                               const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json json;
  json[metadata_key]["format"] = "pt";
  for (const auto& [name, value] : metadata) json[metadata_key][name] = value;
  int64_t offset = 0;
  for (const TensorToWrite& tensor : tensors) {
    StoredTensor stored;
    stored.shape = tensor.shape;
    const int64_t end = offset + stored.elements() * size_of(tensor.type);
    const auto type = std::find_if(std::begin(format_types), std::end(format_types),
                                   [&](const FormatType& t) { return t.type == tensor.type; });
    nlohmann::ordered_json& entry = json[tensor.name];
    entry["dtype"] = type->name;
    entry["shape"] = tensor.shape;
    entry["data_offsets"] = {offset, end};
    offset = end;
  }
  // A path in the metadata need not be UTF-8.
  std::string text = json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

}  // namespace normlab

#include "data/manifest.h"

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "data/json_text.h"
#include "data/output_file.h"
#include "kernels/error.h"

namespace normlab {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr int64_t kSchema = 1;
constexpr int64_t kMostIds = 65536;  // of 16 bits
constexpr int64_t kMostInShard = std::numeric_limits<int32_t>::max();
const char* const kRestore = "Restore the file, or run prepare again";

std::string hash_text(uint64_t hash) {
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(hash));
  return text;
}

// An object of the file and its place in it, such as "shards[2].", for messages.
class Section {
 public:
  Section(const ordered_json& json, std::string place) : json_(json), place_(std::move(place)) {
    if (!json.is_object()) throw wrong("", "is not an object");
  }

  bool has(const char* key) const { return json_.contains(key); }

  const ordered_json& at(const char* key) const {
    const auto found = json_.find(key);
    if (found == json_.end()) throw wrong(key, "is missing");
    return *found;
  }

  Section section(const char* key) const { return {at(key), place_ + key + "."}; }

  std::vector<Section> sections(const char* key) const {
    const ordered_json& list = at(key);
    if (!list.is_array()) throw wrong(key, "is not a list");
    std::vector<Section> all;
    for (const ordered_json& item : list) {
      all.emplace_back(item, place_ + key + "[" + std::to_string(all.size()) + "].");
    }
    return all;
  }

  std::string text(const char* key) const {
    const ordered_json& value = at(key);
    if (!value.is_string()) throw wrong(key, "is not a text");
    return value.get<std::string>();
  }

  int64_t number(const char* key, int64_t least, int64_t most) const {
    const ordered_json& value = at(key);
    if (!value.is_number_integer()) throw wrong(key, "is not a whole number");
    const bool beyond = value.is_number_unsigned() &&
                        value.get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()};
    if (beyond || value.get<int64_t>() < least || value.get<int64_t>() > most) {
      throw wrong(key, "= " + value.dump() + " lies outside " + std::to_string(least) + " to " +
                           std::to_string(most));
    }
    return value.get<int64_t>();
  }

  uint64_t hash(const char* key) const {
    const std::string digits = text(key);
    if (digits.size() != 16 || digits.find_first_not_of("0123456789abcdef") != digits.npos) {
      throw wrong(key, "is not a hash of 16 hexadecimal digits");
    }
    return std::stoull(digits, nullptr, 16);
  }

  Error wrong(const std::string& key, const std::string& fact) const {
    std::string name = place_ + key;
    if (name.ends_with('.')) name.pop_back();
    return input_error((name.empty() ? "the whole" : name) + " " + fact +
                       " (so the shards beside cannot be understood). " + kRestore);
  }

 private:
  const ordered_json& json_;
  std::string place_;
};

ManifestShard shard_of(const Section& section, const std::optional<RowLayout>& rows) {
  ManifestShard shard;
  shard.file = section.text("file");
  if (shard.file.empty() || shard.file == "." || shard.file == ".." ||
      shard.file.find('/') != shard.file.npos) {
    throw section.wrong("file", "= \"" + shard.file + "\" is not the name of a file beside");
  }
  shard.tokens = section.number("tokens", 1, kMostInShard);
  shard.documents = section.number("documents", 0, kMostInShard);
  shard.checksum = section.hash("checksum");
  if (!rows) return shard;
  shard.lengths_checksum = section.hash("lengths_checksum");
  if (shard.documents > kMostInShard / rows->length ||
      shard.tokens != shard.documents * rows->length) {
    throw section.wrong("tokens", "= " + std::to_string(shard.tokens) + " is not its " +
                                      std::to_string(shard.documents) + " documents times " +
                                      std::to_string(rows->length) + " tokens a row");
  }
  return shard;
}

void check_total(const Section& section, const char* key, int64_t of_shards) {
  const int64_t total = section.number(key, 0, std::numeric_limits<int64_t>::max());
  if (total == of_shards) return;
  throw section.wrong(
      key, "= " + std::to_string(total) + " is not the shards' sum, " + std::to_string(of_shards));
}

Manifest manifest_of(const ordered_json& json) {
  const Section section(json, "");
  const int64_t schema = section.number("schema", 0, std::numeric_limits<int64_t>::max());
  if (schema != kSchema) {
    throw section.wrong("schema", "= " + std::to_string(schema) + " is not " +
                                      std::to_string(kSchema) + ", which this version reads");
  }
  Manifest manifest;
  manifest.tokenizer = section.text("tokenizer");
  manifest.tokenizer_hash = section.hash("tokenizer_hash");
  manifest.vocabulary = section.number("vocabulary", 1, kMostIds);
  const int64_t last_id = manifest.vocabulary - 1;
  if (!section.at("end_of_text").is_null()) {
    manifest.end_of_text = static_cast<int32_t>(section.number("end_of_text", 0, last_id));
  }
  if (section.has("rows")) {
    const Section rows = section.section("rows");
    manifest.rows = RowLayout{rows.number("length", 1, kMostInShard),
                              static_cast<int32_t>(rows.number("pad", 0, last_id))};
  }
  std::set<std::string> files;
  for (const Section& shard : section.sections("shards")) {
    manifest.shards.push_back(shard_of(shard, manifest.rows));
    if (!files.insert(manifest.shards.back().file).second) {
      throw shard.wrong("file", "= \"" + manifest.shards.back().file + "\" is listed twice");
    }
  }
  check_total(section, "tokens", manifest.tokens());
  check_total(section, "documents", manifest.documents());
  return manifest;
}

ordered_json json_of(const Manifest& manifest) {
  ordered_json json = {{"schema", kSchema},
                       {"tokenizer", manifest.tokenizer},
                       {"tokenizer_hash", hash_text(manifest.tokenizer_hash)},
                       {"vocabulary", manifest.vocabulary},
                       {"end_of_text", nullptr}};
  if (manifest.end_of_text >= 0) json["end_of_text"] = manifest.end_of_text;
  if (manifest.rows) {
    json["rows"] = {{"length", manifest.rows->length}, {"pad", manifest.rows->pad}};
  }
  json["tokens"] = manifest.tokens();
  json["documents"] = manifest.documents();
  json["shards"] = ordered_json::array();
  for (const ManifestShard& shard : manifest.shards) {
    ordered_json entry = {{"file", shard.file},
                          {"tokens", shard.tokens},
                          {"documents", shard.documents},
                          {"checksum", hash_text(shard.checksum)}};
    if (manifest.rows) entry["lengths_checksum"] = hash_text(shard.lengths_checksum);
    json["shards"].push_back(std::move(entry));
  }
  return json;
}

std::string path_in(const std::string& directory) {
  return (fs::path(directory) / "manifest.json").string();
}

// Nothing where there is no such file.
std::optional<std::string> text_of(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) return std::nullopt;
  if (!error && !fs::is_regular_file(status))
    error = std::make_error_code(std::errc::invalid_argument);
  std::ifstream stream(path, std::ios::binary);
  if (!error && !stream) error = std::error_code(errno, std::generic_category());
  if (error)
    throw input_error(path + ": cannot be read (" + error.message() + "). Check its rights");
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

}  // namespace

int64_t Manifest::tokens() const {
  int64_t sum = 0;
  for (const ManifestShard& shard : shards) sum += shard.tokens;
  return sum;
}

int64_t Manifest::documents() const {
  int64_t sum = 0;
  for (const ManifestShard& shard : shards) sum += shard.documents;
  return sum;
}

std::optional<Manifest> read_manifest(const std::string& directory) {
  const std::string path = path_in(directory);
  const std::optional<std::string> text = text_of(path);
  if (!text) return std::nullopt;
  try {
    return manifest_of(parse_json_text<ordered_json>(*text));
  } catch (const ordered_json::exception& error) {
    throw input_error(path + ": is not JSON (" + error.what() + "). " + kRestore);
  } catch (const Error& error) {
    throw error.at(path);
  }
}

void write_manifest(const std::string& directory, const Manifest& manifest) {
  const std::string text = json_of(manifest).dump(2) + "\n";
  OutputFile output(path_in(directory));
  output.write(text.data(), text.size());
  output.finish();
}

std::string tokenizer_of(const Manifest& manifest, const std::string& directory) {
  const std::string& name = manifest.tokenizer;
  const size_t colon = name.find(':');
  if (colon == std::string::npos) return name;
  fs::path path = (fs::current_path() / directory / name.substr(colon + 1)).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();  // DIR/. has become DIR/
  return name.substr(0, colon + 1) + path.string();
}

}  // namespace normlab

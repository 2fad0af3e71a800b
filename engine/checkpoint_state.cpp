#include "engine/checkpoint_state.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "engine/hash.h"
#include "engine/safetensors.h"
#include "engine/version.h"

namespace normlab {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr int kSchema = 1;
constexpr size_t kLongestName = 255;  // bytes that file systems allow

// Whether a file is there.
bool is_file(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) return false;
  if (error) throw unreadable_checkpoint(path, error.message());
  return fs::is_regular_file(status);
}

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

// All bytes of a file, or an error: read_file() takes a file that the disk gives up half way for a
// shorter one.
std::string bytes_of(const std::string& path) {
  const std::unique_ptr<std::FILE, CloseFile> file(std::fopen(path.c_str(), "rbe"));
  if (file == nullptr) throw unreadable_checkpoint(path, std::strerror(errno));
  std::string bytes;
  char part[4096];
  while (const size_t count = std::fread(part, 1, sizeof(part), file.get())) {
    bytes.append(part, count);
  }
  if (std::ferror(file.get()) != 0) throw unreadable_checkpoint(path, std::strerror(errno));
  return bytes;
}

// Without what nests deeper than any version writes it: that could exhaust the stack, and is damage
// by its checksum.
ordered_json parse_state(const std::string& text) {
  constexpr int deepest = 16;
  return ordered_json::parse(text, [](int depth, ordered_json::parse_event_t, const ordered_json&) {
    return depth < deepest;
  });
}

// state.json's own checksum: of all that it says beside.
std::string own_checksum(ordered_json state) {
  state["checksums"].erase("state.json");
  return hexadecimal(hash_text(state.dump()));
}

uint64_t number_of(const std::string& hash) { return std::stoull(hash, nullptr, 16); }

TrainingState state_of(const ordered_json& json) {
  TrainingState state;
  state.step = json.at("step").get<int64_t>();
  state.data_position = json.at("data_position").get<int64_t>();
  state.skipped_in_row = json.at("skipped_in_row").get<int64_t>();
  state.data.corpus_hash = number_of(json.at("corpus_hash"));
  state.data.corpus_tokens = json.at("corpus_tokens").get<int64_t>();
  // Absent in what earlier versions wrote.
  state.data.tokenizer = json.value("tokenizer", "");
  state.data.tokenizer_hash = number_of(json.value("tokenizer_hash", "0"));
  state.data.manifest = json.value("manifest", "");
  state.configuration_hash = json.at("configuration_hash").get<std::string>();
  state.code = json.at("code").get<std::string>();
  return state;
}

// What is wrong with the list of norms, or "".
std::string read_norms(const ordered_json& list, std::vector<NormRecord>& norms) {
  try {
    norms = norms_from_json(list);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

Inspection damaged(const std::string& damage) { return {{}, damage}; }

}  // namespace

Error unreadable_checkpoint(const std::string& path, const std::string& reason) {
  return Error(path + ": cannot be read (" + reason +
               "). The checkpoint may be good, so nothing was changed: mend this and run the same "
               "command again");
}

std::string state_text(const TrainingState& state,
                       const std::map<std::string, std::string>& checksums) {
  ordered_json out = {{"schema", kSchema},
                      {"step", state.step},
                      {"data_position", state.data_position},
                      {"skipped_in_row", state.skipped_in_row},
                      {"corpus_hash", hexadecimal(state.data.corpus_hash)},
                      {"corpus_tokens", state.data.corpus_tokens},
                      {"tokenizer", state.data.tokenizer},
                      {"tokenizer_hash", hexadecimal(state.data.tokenizer_hash)},
                      {"manifest", state.data.manifest},
                      {"configuration_hash", state.configuration_hash},
                      {"code", code_version()},
                      {"norms", norms_to_json(state.norms)},
                      {"checksums", checksums}};
  out["checksums"]["state.json"] = own_checksum(out);
  return out.dump(2) + "\n";
}

Inspection inspect_checkpoint(const std::string& directory) {
  const std::string path = directory + "/state.json";
  if (!is_file(path)) return damaged(path + ": is missing");
  Inspection found;
  std::map<std::string, std::string> checksums;
  try {
    const ordered_json json = parse_state(bytes_of(path));
    const int schema = json.at("schema").get<int>();
    // Before the checksum, which a newer version may reckon in another way.
    if (schema > kSchema) {
      throw input_error(path + ": written by a newer version of normlab (schema " +
                        std::to_string(schema) + ", this one, " + code_version() + ", reads " +
                        std::to_string(kSchema) + "). Use it to go on");
    }
    if (schema < kSchema) return damaged(path + ": has no schema " + std::to_string(schema));
    found.state = state_of(json);
    checksums = json.at("checksums").get<std::map<std::string, std::string>>();
    if (checksums["state.json"] != own_checksum(json)) {
      return damaged(path + ": differs from its own checksum");
    }
    const std::string wrong = read_norms(json.at("norms"), found.state.norms);
    if (!wrong.empty()) return damaged(path + ": " + wrong);
  } catch (const ordered_json::exception& error) {
    return damaged(path + ": " + error.what());
  } catch (const std::logic_error&) {  // of std::stoull
    return damaged(path + ": a hash is none");
  }
  checksums.erase("state.json");
  for (const char* name : {"model.safetensors", "optimizer-00000.safetensors", "config.json"}) {
    checksums.try_emplace(name);
  }
  for (const auto& [name, checksum] : checksums) {
    if (name.find('/') != std::string::npos || name.size() > kLongestName) {
      return damaged(path + ": names a file that no checkpoint has");
    }
    const std::string file = directory + "/" + name;
    if (!is_file(file)) return damaged(file + ": is missing");
    if (hexadecimal(hash_file(file)) != checksum) {
      return damaged(file + ": differs from its checksum in state.json");
    }
  }
  return found;
}

}  // namespace normlab

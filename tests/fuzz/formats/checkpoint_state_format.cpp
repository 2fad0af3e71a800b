#include <nlohmann/json.hpp>

#include "engine/checkpoint_state.h"
#include "engine/hash.h"
#include "engine/safetensors.h"
#include "tests/fuzz/format.h"

namespace normlab::fuzz {
namespace {

// The text with the checksum that belongs to it, so that a mistake is not noticed by that alone.
std::string with_own_checksum(const std::string& text) {
  const auto shallow = [](int depth, auto, const auto&) { return depth < 16; };
  auto state = nlohmann::ordered_json::parse(text, shallow, false);
  if (!state.is_object() || !state.contains("checksums") || !state["checksums"].is_object()) {
    return text;
  }
  state["checksums"].erase("state.json");
  const auto replace = nlohmann::ordered_json::error_handler_t::replace;
  const std::string rest = state.dump(-1, ' ', false, replace);
  state["checksums"]["state.json"] = hexadecimal(hash_text(rest));
  return state.dump(2, ' ', false, replace);
}

}  // namespace

Format checkpoint_state_format(const std::string& folder) {
  std::map<std::string, std::string> checksums;
  for (const char* name : {"model.safetensors", "optimizer-00000.safetensors", "config.json"}) {
    write_bytes(folder + "/" + name, name);
    checksums[name] = hexadecimal(hash_file(folder + "/" + name));
  }
  TrainingState state;
  state.step = 100;
  state.data_position = 800;
  state.data.corpus_hash = 0x0123456789abcdef;
  state.data.corpus_tokens = 100000;
  state.data.tokenizer = "gpt2:.";
  state.data.tokenizer_hash = 1;
  state.configuration_hash = "0123456789abcdef";
  Format format;
  format.files = {state_text(state, checksums)};
  const std::string sound = format.files.front();
  format.files.push_back(std::string(sound).replace(
      sound.find("[]"), 2, std::string(5000, '[') + std::string(5000, ']')));
  state.norms = {{NormRole::mlp, 0, {0, 1.5}}, {NormRole::final, -1, {1, 2.5, 3.5, true, 256}}};
  format.files.push_back(state_text(state, checksums));
  format.tokens = {"\"schema\"",
                   "\"step\"",
                   "\"checksums\"",
                   "\"corpus_hash\"",
                   "\"norms\"",
                   "null",
                   "{}",
                   "[]",
                   "\"\"",
                   "true",
                   "-",
                   ",",
                   ":",
                   "\"",
                   "\\ud800"};
  format.read = [folder](const std::string& bytes) {
    for (const std::string& text : {bytes, with_own_checksum(bytes)}) {
      write_bytes(folder + "/state.json", text);
      inspect_checkpoint(folder);
    }
  };
  return format;
}

}  // namespace normlab::fuzz

#include "engine/hugging_face.h"
#include "models/parameter.h"
#include "tests/fuzz/format.h"

namespace normlab::fuzz {

Format config_json_format(const std::string& folder) {
  const std::string path = folder + "/config.json";
  Format format;
  for (const char* model : {"gpt2", "llama", "llama_tied", "mistral", "qwen2"}) {
    const std::string text =
        read_bytes(std::string(SOURCE_DIRECTORY) + "/tests/golden/" + model + "/config.json");
    format.files.push_back(text);
    write_bytes(path, text);
    format.files.push_back(config_json(read_config_json(folder)));
  }
  for (const Family family : {Family::gpt2, Family::llama}) {
    for (const ModelForm form : {ModelForm::own, ModelForm::ln_free, ModelForm::modelling}) {
      ModelDescription description;
      description.config = family == Family::gpt2 ? gpt2_config("small") : llama_config("9m");
      description.config.layers = 2;
      description.norms = frozen_norms(description.config.norm, 2, 1.5);
      description.form = form;
      description.ln_free_scale = 1e6;
      format.files.push_back(config_json(description));
    }
  }
  const std::string plain = format.files[2];
  format.files.push_back(std::string(plain).insert(
      plain.find('{') + 1,
      "\"rope_scaling\": " + std::string(20000, '[') + std::string(20000, ']') + ","));
  format.tokens = {"\"gpt2\"",
                   "\"llama\"",
                   "\"mistral\"",
                   "\"qwen2\"",
                   "\"normlab\"",
                   "null",
                   "true",
                   "false",
                   "\"rope_type\"",
                   "\"linear\"",
                   "\"rope_scaling\"",
                   "\"sliding_window\"",
                   "\"n_layer\"",
                   "\"post\"",
                   "\"none\"",
                   "\"norms\"",
                   "\"ln_free\"",
                   "1e12",
                   "\"layernorm\"",
                   "{",
                   "}",
                   "[",
                   "]",
                   ",",
                   ":",
                   "\"",
                   "-",
                   "\"bf16\""};
  format.read = [path, folder](const std::string& bytes) {
    write_bytes(path, bytes);
    const ModelDescription description = read_config_json(folder);
    config_json(description);
    // What a program asks next, before it makes a model.
    parameter_count(description.config);
    file_names(description.config);
  };
  return format;
}

}  // namespace normlab::fuzz

#include "engine/export.h"

#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "catch.h"
#include "engine/export_check.h"
#include "engine/files.h"
#include "frozen_model.h"

using namespace normlab;
using namespace normlab::test;
using nlohmann::json;

namespace {

// A model's directory, and room for exports beside it.
class Source {
 public:
  Source(const ModelConfig& config, const std::vector<NormRecord>& norms) {
    write_model(folder_, config, norms);
  }
  std::string path() const { return folder_.path(); }
  std::string out(const std::string& name) const { return room_.path() + "/" + name; }
  const TemporaryFolder& folder() const { return folder_; }

  // Exports, and returns the difference that the export found.
  double exported(const std::string& name, ExportOptions options) const {
    options.out = out(name);
    std::vector<std::string> warnings;
    const double difference = export_model(path(), options, warnings);
    CHECK(warnings.empty());
    return difference;
  }
  // Of an export that must fail by the user's fault and leave nothing.
  std::string complaint(ExportOptions options) const {
    try {
      exported("refused", options);
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::input);
      CHECK(std::filesystem::is_empty(room_.path()));
      return error.what();
    }
    return "";
  }

 private:
  TemporaryFolder folder_, room_;
};

std::vector<float> logits_in(const std::string& directory) {
  const ModelDescription description = read_config_json(directory);
  CheckedModel read(description.config, description.norms);
  load_weights(read.model, directory);
  set_norm_states(read.model, description.norms);
  return logits_of(read.model);
}

json config_in(const std::string& directory) {
  return json::parse(read_file(directory + "/config.json"));
}

bool has(const std::string& text, const std::string& part) {
  INFO(text);
  const bool found = text.find(part) != std::string::npos;
  CHECK(found);
  return found;
}

ExportOptions options_of(ExportFormat format) {
  ExportOptions options;
  options.format = format;
  return options;
}
const ExportOptions hf_ln_free = options_of(ExportFormat::hf_ln_free);
const ExportOptions folded = options_of(ExportFormat::folded);

}  // namespace

TEST_CASE("export: every form of a frozen model is read again with its logits") {
  for (const auto& [name, config] : foldable_configs()) {
    for (const StdSharing sharing : {StdSharing::shared, StdSharing::separate}) {
      INFO(name);
      const Source source(config, norms_in_states(config, {0}, sharing));
      const std::vector<float> expected = logits_in(source.path());
      CHECK(source.exported("folded", folded) < 3e-6);
      CHECK(difference_of(logits_in(source.out("folded")), expected) < 3e-6);
      if (!beyond_plain(config).empty()) continue;
      CHECK(source.exported("ln-free", hf_ln_free) < 3e-6);
      CHECK(difference_of(logits_in(source.out("ln-free")), expected) < 3e-6);
    }
  }
}

TEST_CASE("export: what is exported can be exported again") {
  for (const Family family : {Family::gpt2, Family::llama}) {
    const ModelConfig config = small_config(family);
    const Source source(config, norms_in_states(config, {0}));
    const std::vector<float> expected = logits_in(source.path());
    source.exported("ln-free", hf_ln_free);
    source.exported("folded", folded);
    std::vector<std::string> warnings;
    ExportOptions again = folded;
    again.out = source.out("folded-again");
    export_model(source.out("folded"), again, warnings);
    for (const char* file : {"/model.safetensors", "/config.json", "/README.md"}) {
      CHECK(read_file(again.out + file) == read_file(source.out("folded") + file));
    }
    // One form out of the other.
    again.out = source.out("folded-of-ln-free");
    export_model(source.out("ln-free"), again, warnings);
    CHECK(difference_of(logits_in(again.out), expected) < 3e-6);
    again = hf_ln_free;
    again.out = source.out("ln-free-again");
    again.scale = 1e6;
    export_model(source.out("ln-free"), again, warnings);
    CHECK(difference_of(logits_in(again.out), expected) < 3e-6);
    again.out = source.out("nothing");
    CHECK_THROWS_AS(export_model(source.out("folded"), again, warnings), Error);
    again.format = ExportFormat::hf;
    CHECK_THROWS_AS(export_model(source.out("folded"), again, warnings), Error);
    CHECK_THROWS_AS(export_model(source.out("ln-free"), again, warnings), Error);
  }
}

TEST_CASE("export: a partly removed model keeps its norms, each in its state") {
  for (const auto& [name, config] : foldable_configs()) {
    INFO(name);
    const Source source(config, norms_in_states(config, {0, 1, 0.25}));
    CHECK(source.exported("partly", folded) == 0);
    const ModelDescription description = read_config_json(source.out("partly"));
    CHECK(description.form == ModelForm::modelling);
    CHECK(description.norms.size() == read_config_json(source.path()).norms.size());
    CHECK(logits_in(source.out("partly")) == logits_in(source.path()));
    has(read_file(source.out("partly") + "/README.md"), "some of whose norms are removed");
  }
}

TEST_CASE("export: hf-ln-free is a stock model but for its epsilon and its gains") {
  for (const Family family : {Family::gpt2, Family::llama}) {
    const ModelConfig config = small_config(family);
    const Source source(config, norms_in_states(config, {0}, StdSharing::shared));
    source.exported("ln-free", hf_ln_free);
    const json written = config_in(source.out("ln-free"));
    const bool gpt2 = family == Family::gpt2;
    CHECK(written.at("model_type") == (gpt2 ? "gpt2" : "llama"));
    CHECK(written.at("architectures").size() == 1);
    const std::string key = gpt2 ? "layer_norm_epsilon" : "rms_norm_eps";
    CHECK(written.at(key) == 1099511627776.0);
    // transformers takes no integer for it.
    has(read_file(source.out("ln-free") + "/config.json"), key + "\": 1099511627776.0");
    const SafetensorsFile before(source.path() + "/model.safetensors");
    const SafetensorsFile after(source.out("ln-free") + "/model.safetensors");
    CHECK(before.tensors().size() == after.tensors().size());
    for (const auto& [name, tensor] : before.tensors()) {
      const bool gain = name.find("norm") != std::string::npos ||
                        (name.find(".ln_") != std::string::npos && name.ends_with(".weight"));
      INFO(name);
      CHECK((before.read(name) == after.read(name)) == !gain);
    }
    const std::string last = gpt2 ? "transformer.ln_f.weight" : "model.norm.weight";
    const double sigma = norms_in_states(config, {0}).back().state.sigma;
    CHECK(after.read(last)[3] == static_cast<float>(before.read(last)[3] * (1048576 / sigma)));
    CHECK(std::filesystem::exists(source.out("ln-free") + "/load_transformer_lens.py") == gpt2);
  }
}

TEST_CASE("export: a folded model has no norm, a type of its own and the file that computes it") {
  for (const Family family : {Family::gpt2, Family::llama}) {
    const ModelConfig config = small_config(family);
    const Source source(config, norms_in_states(config, {0}));
    source.exported("folded", folded);
    const std::string file =
        family == Family::gpt2 ? "modeling_normlab_gpt2" : "modeling_normlab_llama";
    const json written = config_in(source.out("folded"));
    CHECK(written.at("model_type") == (family == Family::gpt2 ? "normlab_gpt2" : "normlab_llama"));
    // Of Mistral, which the file for LLaMA builds on, an absent one is a window of 4096.
    if (family == Family::llama) CHECK(written.at("sliding_window").is_null());
    const std::string model = written.at("auto_map").at("AutoModelForCausalLM");
    CHECK(model.starts_with(file + "."));
    CHECK(written.at("architectures") == json{model.substr(file.size() + 1)});
    for (const std::string& name : {file, std::string("normlab_norms")}) {
      const std::string path = "/" + name + ".py";
      CHECK(read_file(source.out("folded") + path) ==
            read_file(std::string(SOURCE_DIRECTORY) + "/engine/exported" + path));
    }
    const SafetensorsFile weights(source.out("folded") + "/model.safetensors");
    for (const auto& [name, tensor] : weights.tensors()) {
      INFO(name);
      CHECK(name.find("norm") == std::string::npos);
      CHECK(name.find("ln_") == std::string::npos);
    }
    CHECK(weights.contains("lm_head.weight"));
    CHECK(weights.contains("lm_head.bias") == (family == Family::gpt2));
    has(read_file(source.out("folded") + "/README.md"), "trust_remote_code=True");
  }
}

TEST_CASE("export: half precision rounds the weights and nothing else") {
  const ModelConfig config = small_config(Family::gpt2);
  const Source source(config, norms_in_states(config, {0}));
  ExportOptions options = folded;
  for (const auto& [type, name] :
       {std::pair(StoredType::bf16, "bfloat16"), std::pair(StoredType::f16, "float16")}) {
    options.type = type;
    const double difference = source.exported(name, options);
    CHECK(difference > 1e-5);
    CHECK(difference < (type == StoredType::f16 ? 5e-3 : 5e-2));
    CHECK(config_in(source.out(name)).at("dtype") == name);
  }
  options = hf_ln_free;
  options.type = StoredType::bf16;
  CHECK(source.exported("ln-free", options) < 5e-2);
}

TEST_CASE("export: tokenizer files beside a folded model are named by their class") {
  const ModelConfig config = small_config(Family::llama);
  const Source source(config, norms_in_states(config, {0}));
  source.folder().write("tokenizer.model", "pieces");
  source.exported("folded", folded);
  CHECK(read_file(source.out("folded") + "/tokenizer.model") == "pieces");
  const json settings = json::parse(read_file(source.out("folded") + "/tokenizer_config.json"));
  CHECK(settings.at("tokenizer_class") == "TokenizersBackend");
  source.exported("ln-free", hf_ln_free);
  CHECK(!std::filesystem::exists(source.out("ln-free") + "/tokenizer_config.json"));
}

TEST_CASE("export: a format that cannot express the model says why and what to do") {
  const ModelConfig config = small_config(Family::gpt2);
  const std::string live = Source(config, norms_in_states(config, {0, 0, 1})).complaint(hf_ln_free);
  has(live, "hf-ln-free is for a model without live norms (mlp of layer 0 is live). Remove it");
  const std::string tapering =
      Source(config, norms_in_states(config, {0, 0, 0, 0.5})).complaint(hf_ln_free);
  has(tapering, "(attention_qk of layer 1 is tapering). Remove it first (norm_removal), or use");
  const Source removed(config, norms_in_states(config, {0}));
  has(removed.complaint({}),
      "no plain model computes it (attention_qk of layer 0 is removed). Use");
  ExportOptions half = hf_ln_free;
  half.type = StoredType::f16;
  has(removed.complaint(half), "--dtype fp16 (the gains of hf-ln-free, times s/std, are beyond");
  ExportOptions small = hf_ln_free;
  small.scale = 10;
  has(removed.complaint(small), "--scale 10 (logits differ by ");
  std::vector<NormRecord> norms = norms_in_states(config, {0});
  norms[2].state.special_first = true;
  norms[2].state.special_sigma = 40;
  for (const ExportOptions& options : {ExportOptions{}, hf_ln_free, folded}) {
    has(Source(config, norms).complaint(options),
        "no format has a norm with two stds (mlp of layer 0 has one for first tokens");
  }
  has(Source(config, {}).complaint(folded), "nothing to fold (every norm is live). Remove norms");
  has(Source(config, {}).complaint(hf_ln_free), "(attention_qk of layer 0 is live)");
  ModelConfig post = config;
  post.norm.placement = NormPlacement::post;
  has(Source(post, norms_in_states(post, {0})).complaint(folded),
      "its norms cannot be folded (in the place \"post\" they change the residual stream itself)");
}

TEST_CASE("export: what does not compute the model when it is read again is not kept") {
  // Numbers near 1000 differ by 4 in bf16: of embeddings that differ by less nothing is left.
  ModelConfig config = small_config(Family::gpt2);
  config.tie_embeddings = false;
  CheckedModel model(config);
  const Tensor embedding = model.model.parameters().front().value;
  std::vector<float> numbers = download_floats(*model.ops, embedding);
  for (float& number : numbers) number += 1000;
  upload_floats(*model.ops, embedding, numbers);
  const Source source(config, {});
  write_weights(model.model, source.path() + "/model.safetensors");
  ExportOptions options;
  options.type = StoredType::bf16;
  try {
    source.exported("different", options);
    FAIL("another model was exported");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::failure);
    has(error.what(), "different: not made (what was written does not compute the model: its");
  }
  CHECK(!std::filesystem::exists(source.out("different")));
  options.type = StoredType::f32;
  CHECK(source.exported("the same", options) == 0);
}

TEST_CASE("export: the difference of logits is that of the largest, and none where both are NaN") {
  CHECK(difference_of({1, 2, 3}, {1, 2, 4}) == 0.25);
  const float none = std::numeric_limits<float>::quiet_NaN();
  CHECK(!(difference_of({1, none}, {1, 2}) <= difference_allowed(StoredType::bf16)));
  CHECK(difference_of({1, none}, {2, none}) == 0.5);
}

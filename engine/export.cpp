#include "engine/export.h"

#include <filesystem>
#include <iomanip>
#include <sstream>

#include "engine/config_names.h"
#include "engine/export_check.h"
#include "engine/exported_files.h"
#include "engine/files.h"
#include "engine/fold.h"
#include "engine/ln_free.h"
#include "engine/model_files.h"
#include "engine/partial_directory.h"
#include "engine/plain_model.h"
#include "engine/weights.h"

namespace normlab {
namespace {

namespace fs = std::filesystem;

// What transformers looks for beside a model of these types, apart from the model itself.
constexpr const char* kTokenizerFiles[] = {"vocab.json",
                                           "merges.txt",
                                           "tokenizer.model",
                                           "tokenizer.json",
                                           "tokenizer_config.json",
                                           "special_tokens_map.json",
                                           "added_tokens.json",
                                           "chat_template.jinja"};

std::string type_name(StoredType type) {
  switch (type) {
    case StoredType::f32:
      return "float32";
    case StoredType::bf16:
      return "bfloat16";
    case StoredType::f16:
      return "float16";
    case StoredType::f64:
    case StoredType::i64:
    case StoredType::i32:
    case StoredType::other:
      break;
  }
  throw Error("a type that weights are not exported in");
}

// The tokenizer's files beside the model as they are, also those that are not read here; or else
// those of the tokenizer that config.json or the user names.
void add_tokenizer(ModelDescription& description, const std::string& directory,
                   const std::string& given, std::vector<std::string>& warnings) {
  if (given.empty()) {
    for (const char* name : kTokenizerFiles) {
      const std::string path = directory + "/" + name;
      std::error_code ignored;
      if (fs::is_regular_file(path, ignored)) description.files[name] = read_file(path);
    }
    const auto lies_beside = [&](const char* name) { return description.files.contains(name); };
    if (description.form == ModelForm::modelling && !lies_beside("tokenizer_config.json")) {
      // transformers knows a tokenizer by the type of the model, and not by this one.
      if (lies_beside("vocab.json")) add_tokenizer_config(description, "gpt2:.");
      if (lies_beside("tokenizer.model")) add_tokenizer_config(description, "sentencepiece:.");
    }
    if (!description.files.empty() || description.tokenizer.empty()) return;
  }
  use_tokenizer(description,
                read_tokenizer(tokenizer_for(description, given, directory), warnings));
  const bool qwen2 =
      description.config.biases == Biases::qkv && description.form != ModelForm::modelling;
  if (description.files.empty() || !qwen2) return;
  warnings.push_back(
      "transformers' AutoTokenizer takes the tokenizer of every qwen2 for Qwen2's own and makes "
      "other tokens (load this one by its class, GPT2Tokenizer or TokenizersBackend)");
}

// Why the model has no such format.
Error refusal(const std::string& directory, const std::string& why, const std::string& advice) {
  return input_error(directory + ": " + why + ". " + advice);
}

std::string state_of(const NormState& state) {
  return state.live() ? "live" : state.gate > 0 ? "tapering" : "removed";
}

void require_plain(const std::string& directory, const ModelConfig& config) {
  const std::string beyond = beyond_plain(config);
  if (beyond.empty()) return;
  throw refusal(directory, "no plain model computes it (it has " + beyond + ")",
                config.norm.placement == NormPlacement::none
                    ? "Use --format folded"
                    : "Use it with this program, or export a model with the family's own norms");
}

void require_all_removed(const std::string& directory, const ModelDescription& description) {
  const ModelConfig& config = description.config;
  for (NormRecord norm : frozen_norms(config.norm, config.layers, 1)) {
    norm.state = {};
    for (const NormRecord& other : description.norms) {
      if (same_place(norm, other)) norm.state = other.state;
    }
    if (norm.state.gate == 0) continue;
    throw refusal(
        directory,
        "hf-ln-free is for a model without live norms (" + place_of(norm) + " is " +
            state_of(norm.state) + ")",
        "Remove it first (norm_removal), or use --format folded, which keeps what is left");
  }
}

// A norm that divides some tokens by another σ is linear for no token alone.
void require_one_std(const std::string& directory, const std::vector<NormRecord>& norms) {
  for (const NormRecord& norm : norms) {
    if (!norm.state.has_special()) continue;
    throw refusal(directory,
                  "no format has a norm with two stds (" + place_of(norm) +
                      " has one for first tokens or ends of text)",
                  "End it in training (norm_removal.bos and norm_removal.eot)");
  }
}

void require_expressible(const std::string& directory, const ModelDescription& description,
                         const ExportOptions& options) {
  const ModelConfig& config = description.config;
  require_one_std(directory, description.norms);
  switch (options.format) {
    case ExportFormat::hf:
      require_plain(directory, config);
      if (description.norms.empty()) return;
      throw refusal(directory,
                    "no plain model computes it (" + place_of(description.norms.front()) + " is " +
                        state_of(description.norms.front().state) + ")",
                    "Use --format hf-ln-free where all norms are removed, or else folded");
    case ExportFormat::hf_ln_free:
      require_plain(directory, config);
      require_all_removed(directory, description);
      if (options.type != StoredType::f16) return;
      throw input_error(
          "--dtype fp16 (the gains of hf-ln-free, times s/std, are beyond its range). "
          "Use bf16 or fp32, or --format folded");
    case ExportFormat::folded:
      if (config.norm.placement == NormPlacement::none) return;
      if (config.norm.gpas) {
        throw refusal(directory, "no format has gates on the residual stream (gpas)",
                      "Use it with this program");
      }
      if (config.norm.placement != NormPlacement::pre) {
        throw refusal(directory,
                      std::string("its norms cannot be folded (in the place \"") +
                          name_of(config.norm.placement, placement_names) +
                          "\" they change the residual stream itself)",
                      "Use it with this program");
      }
      if (!description.norms.empty()) return;
      throw refusal(directory, "there is nothing to fold (every norm is live)",
                    "Remove norms first (norm_removal), or use --format hf");
  }
}

// A directory's model, on the CPU in fp32.
struct LoadedModel {
  LoadedModel(const std::string& directory, const ModelDescription& description)
      : ops(make_ops(Device::cpu, Precision::fp32, 1)),
        model(*ops, description.config, checked_workload(description)) {
    load_weights(model, directory);
    set_norm_states(model, description.norms);
  }
  std::unique_ptr<Ops> ops;
  Model model;
};

std::string short_number(double number) {
  std::ostringstream text;
  text << std::setprecision(3) << number;
  return text.str();
}

// In --scale's √(variance + s²) the variance must not be seen.
void require_large_scale(double difference, double scale) {
  if (difference <= kExactDifference) return;
  throw input_error("--scale " + short_number(scale) + " (logits differ by " +
                    short_number(difference) +
                    " of the largest: √(variance + s²) is not s). Choose a larger one");
}

// In the form of the format; where norms are folded away, the description changes with them.
void write_weights_of(Model& source, const std::vector<float>& logits,
                      ModelDescription& description, const ExportOptions& options,
                      const std::string& path) {
  const auto write = [&](const Model& model) { write_weights(model, path, {}, options.type); };
  const ModelConfig config = description.config;
  switch (options.format) {
    case ExportFormat::hf:
      write(source);
      return;
    case ExportFormat::hf_ln_free: {
      Model stock(source.ops(), ln_free_config(config, options.scale), checked_workload({config}));
      fill_ln_free(stock, source, options.scale);
      require_large_scale(difference_of(logits_of(stock), logits), options.scale);
      write(stock);
      return;
    }
    case ExportFormat::folded: {
      if (!all_frozen(norm_records(source))) {
        write(source);
        return;
      }
      description.config = folded_config(config);
      description.norms.clear();
      Model folded(source.ops(), description.config, checked_workload(description));
      fold_norms(folded, source);
      write(folded);
      return;
    }
  }
}

ModelForm form_of(ExportFormat format) {
  switch (format) {
    case ExportFormat::hf:
      return ModelForm::own;
    case ExportFormat::hf_ln_free:
      return ModelForm::ln_free;
    case ExportFormat::folded:
      return ModelForm::modelling;
  }
  throw Error("unknown format");
}

}  // namespace

double export_model(const std::string& directory, const ExportOptions& options,
                    std::vector<std::string>& warnings) {
  const ModelDescription read = read_config_json(directory);
  ModelDescription description = read;
  description.config = plain_config(read.config);
  require_expressible(directory, description, options);
  description.form = form_of(options.format);
  description.ln_free_scale = options.scale;
  description.type = type_name(options.type);
  add_tokenizer(description, directory, options.tokenizer, warnings);
  PartialDirectory out(options.out);
  std::vector<float> logits;
  {
    LoadedModel source(directory, read);
    logits = logits_of(source.model);
    Model plain(*source.ops, description.config, checked_workload(description));
    fill_plain(plain, source.model);
    write_weights_of(plain, logits, description, options, out.path() + "/model.safetensors");
  }
  description.files.merge(exported_files(description));
  write_description(out.path(), description);
  LoadedModel written(out.path(), read_config_json(out.path()));
  const double difference = difference_of(logits_of(written.model), logits);
  const double allowed = difference_allowed(options.type);
  if (!(difference <= allowed)) {
    throw Error(options.out +
                ": not made (what was written does not compute the model: its logits " +
                "differ by " + short_number(difference) + " of the largest, where " +
                short_number(allowed) + " is allowed). Check the disk, then export again");
  }
  out.publish();
  return difference;
}

}  // namespace normlab

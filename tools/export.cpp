// export MODEL --out DIR --format hf|hf-ln-free|folded: a model for other programs.
#include "engine/export.h"

#include <iomanip>

#include "engine/checkpoint.h"
#include "tools/main.h"

namespace normlab {
namespace {

StoredType stored_type(const std::string& name) {
  if (name == "bf16") return StoredType::bf16;
  if (name == "fp16") return StoredType::f16;
  return StoredType::f32;
}

ExportFormat export_format(const std::string& name) {
  if (name == "hf-ln-free") return ExportFormat::hf_ln_free;
  if (name == "folded") return ExportFormat::folded;
  return ExportFormat::hf;
}

int run_export(const std::string& model, const ExportOptions& options) {
  std::vector<std::string> warnings;
  const std::string directory = model_directory(model, warnings);
  const double difference = export_model(directory, options, warnings);
  for (const std::string& warning : warnings) std::cerr << "warning: " << warning << "\n";
  std::cerr << "exported " << directory << " to " << options.out
            << "; read again, its logits differ by " << std::setprecision(2) << difference
            << " of the largest\n";
  return kExitDone;
}

}  // namespace
}  // namespace normlab

int main(int argc, char* argv[]) {
  normlab::ExportOptions options;
  std::string model, format, type = "fp32";
  CLI::App app(
      "Writes a model as a directory that Hugging Face transformers loads, with equal logits.\n"
      "Example: export runs/quickstart --out exported --format hf",
      "export");
  app.add_option("model", model, "a run directory, a checkpoint or a Hugging Face model directory")
      ->required();
  app.add_option("--out", options.out, "directory to write; it must not exist")->required();
  app.add_option("--format", format,
                 "hf: a plain gpt2, llama, mistral or qwen2; hf-ln-free: the same of a model whose "
                 "norms are all removed, gains times s/std and epsilon s²; folded: what is removed "
                 "is in the weights, computed by a modelling file beside them")
      ->required()
      ->check(CLI::IsMember({"hf", "hf-ln-free", "folded"}));
  app.add_option("--dtype", type, "of the weights: fp32, bf16 or fp16 (fp32)")
      ->check(CLI::IsMember({"fp32", "bf16", "fp16"}));
  const CLI::Option* scale =
      app.add_option("--scale", options.scale, "s of hf-ln-free; the paper's is 1e6 (2^20)")
          ->check(CLI::Range(1e3, 1e12));
  app.add_option("--tokenizer", options.tokenizer,
                 "whose files are copied along; the model's own by default");
  return normlab::run_main(app, argc, argv, [&] {
    options.type = normlab::stored_type(type);
    options.format = normlab::export_format(format);
    if (scale->count() > 0 && options.format != normlab::ExportFormat::hf_ln_free) {
      throw normlab::input_error("--scale (only hf-ln-free has one). Leave it out");
    }
    return normlab::run_export(model, options);
  });
}

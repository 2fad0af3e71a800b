// export MODEL --out DIR --format hf: a model for other programs.
#include "engine/export.h"

#include "engine/checkpoint.h"
#include "tools/main.h"

namespace normlab {
namespace {

StoredType stored_type(const std::string& name) {
  if (name == "bf16") return StoredType::bf16;
  if (name == "fp16") return StoredType::f16;
  return StoredType::f32;
}

int export_model(const std::string& model, const ExportOptions& options) {
  std::vector<std::string> warnings;
  const std::string directory = model_directory(model, warnings);
  export_hugging_face(directory, options, warnings);
  for (const std::string& warning : warnings) std::cerr << "warning: " << warning << "\n";
  std::cerr << "exported " << directory << " to " << options.out << "\n";
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
  app.add_option("--format", format, "hf: a plain gpt2, llama, mistral or qwen2")
      ->required()
      ->check(CLI::IsMember({"hf"}));
  app.add_option("--dtype", type, "of the weights: fp32, bf16 or fp16 (fp32)")
      ->check(CLI::IsMember({"fp32", "bf16", "fp16"}));
  app.add_option("--tokenizer", options.tokenizer,
                 "whose files are copied along; the model's own by default");
  return normlab::run_main(app, argc, argv, [&] {
    options.type = normlab::stored_type(type);
    return normlab::export_model(model, options);
  });
}

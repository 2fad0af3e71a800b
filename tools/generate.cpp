// generate MODEL --prompt TEXT: the text that follows.
#include <algorithm>

#include "data/tokenizer.h"
#include "engine/checkpoint.h"
#include "engine/config_names.h"
#include "engine/device.h"
#include "engine/generation.h"
#include "engine/model_files.h"
#include "engine/stop_request.h"
#include "engine/weights.h"
#include "tools/main.h"

namespace normlab {
namespace {

struct Options {
  std::string model;
  std::string prompt;
  std::string tokenizer;
  SamplingOptions sampling;
  std::string device = "auto";
  std::string precision = "auto";
  RunConfig run;
};

int generate_text(const Options& options) {
  catch_stop_signals();
  std::vector<std::string> warnings;
  const std::string directory = model_directory(options.model, warnings);
  for (const std::string& warning : warnings) std::cerr << "warning: " << warning << "\n";
  const ModelDescription description = read_config_json(directory);
  const std::string name = tokenizer_for(description, options.tokenizer, directory);
  const auto tokenizer = make_tokenizer(name);
  if (tokenizer->vocabulary() > description.config.vocabulary) {
    throw input_error("--tokenizer " + name + " (has more tokens than the model's vocabulary of " +
                      std::to_string(description.config.vocabulary) + "). Name the model's own");
  }
  std::vector<int32_t> prompt;
  for (const uint16_t token : tokenizer->encode(options.prompt)) prompt.push_back(token);
  // An empty prompt: the beginning of a document.
  if (prompt.empty() && tokenizer->end_of_text() < 0) {
    throw input_error("--prompt \"\" (" + name +
                      " has no end-of-text to begin after). Write the beginning of a text");
  }
  if (prompt.empty()) prompt.push_back(tokenizer->end_of_text());
  SamplingOptions sampling = options.sampling;
  sampling.vocabulary = tokenizer->vocabulary();
  sampling.end_of_text = tokenizer->end_of_text();
  RunConfig run = options.run;
  run.device = choice_of(options.device, device_names, run.device);
  run.precision = choice_of(options.precision, precision_names, run.precision);
  const auto ops = make_device(run);
  const int64_t tokens = std::min<int64_t>(description.config.context, 256);
  Model model(*ops, description.config,
              {1, tokens, Purpose::inference, attention_norms(description.norms)});
  load_weights(model, directory);
  set_norm_states(model, description.norms);
  std::cout << options.prompt << std::flush;
  generate(
      model, prompt, sampling,
      [&](int32_t token) {
        std::cout << tokenizer->decode({static_cast<uint16_t>(token)}) << std::flush;
      },
      stop_requested);
  std::cout << "\n";
  return kExitDone;
}

}  // namespace
}  // namespace normlab

int main(int argc, char* argv[]) {
  normlab::Options options;
  CLI::App app(
      "Continues a text.\nExample: generate runs/quickstart --prompt 'One day' --tokens 200 "
      "--temperature 0.8",
      "generate");
  app.add_option("model", options.model,
                 "a run directory, a checkpoint or a Hugging Face model directory")
      ->required();
  app.add_option("--prompt", options.prompt, "the text to continue; empty: a new document");
  app.add_option("--tokens", options.sampling.tokens, "new tokens at most (256)")
      ->check(CLI::PositiveNumber);
  app.add_option("--temperature", options.sampling.temperature, "0: always the likeliest (1)")
      ->check([](const std::string& text) {
        return text.starts_with("-") ? "must be at least 0" : std::string();
      });
  app.add_option("--top-k", options.sampling.top_k, "sample of the k likeliest; 0: of all (0)")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--seed", options.sampling.seed, "of the random choices (0)");
  app.add_option("--tokenizer", options.tokenizer, "the model's own by default");
  app.add_option("--device", options.device, "cpu, cuda, or auto: a GPU where there is one (auto)")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  app.add_option("--precision", options.precision,
                 "fp32, bf16, or auto: bf16 on a GPU, fp32 on a CPU (auto)")
      ->check(CLI::IsMember({"auto", "fp32", "bf16"}));
  app.add_option("--threads", options.run.threads, "of the CPU; all cores by default")
      ->check(CLI::Range(1, 4096));
  return normlab::run_main(app, argc, argv, [&] { return normlab::generate_text(options); });
}

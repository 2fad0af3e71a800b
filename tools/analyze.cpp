// analyze WHAT MODEL --tokens FILE…: what a model does inside, as JSON and as a page.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "engine/analysis/depth_page.h"
#include "engine/files.h"
#include "engine/log.h"
#include "tools/main.h"
#include "tools/reading_options.h"

namespace normlab {
namespace {

// Tokens that are looked at by default: as many as the paper's angular distances.
constexpr int64_t kMostTokens = 262144;
constexpr int64_t kJacobianTokens = 8192;
// Of a pass: all states of its streams are kept.
constexpr int64_t kPassTokens = 8192;

struct Options {
  std::string what;
  ReadingOptions reading;
  std::vector<std::string> tokens;
  std::string out;
  JacobianOptions jacobian;
  int64_t jacobian_tokens = kJacobianTokens;
  bool json = false;
};

DepthOptions depth_options(const Options& options, const EvaluationOptions& evaluation) {
  DepthOptions depth;
  depth.tokens_per_sequence = evaluation.tokens_per_sequence;
  depth.batch = options.reading.batch;
  if (depth.batch == 0) {
    const int64_t tokens = std::min(kPassTokens, evaluation.most_tokens);
    depth.batch = std::max<int64_t>(1, tokens / depth.tokens_per_sequence);
  }
  depth.most_tokens = evaluation.most_tokens;
  depth.packing = evaluation.packing;
  depth.mask_eot_targets = evaluation.mask_eot_targets;
  depth.jacobian = options.jacobian;
  depth.jacobian_tokens = options.jacobian_tokens;
  return depth;
}

// A live line with the time that is left.
std::function<void(double)> progress_on(Log& log) {
  using Clock = std::chrono::steady_clock;
  return [&log, begin = Clock::now()](double share) {
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    const bool last = share >= 1;
    log.progress("depth: " + std::to_string(std::lround(100 * share)) + "%  ETA " +
                     duration_text(seconds * (1 - share) / share),
                 last ? Log::Weight::important : Log::Weight::passing);
  };
}

DepthReport measure(const Options& options, Log& log) {
  const std::string directory = open_model_directory(options.reading.model);
  const ModelDescription description = read_config_json(directory);
  if (options.tokens.empty()) {
    throw input_error("no tokens to look at. Name their files with --tokens FILE…");
  }
  const TokenSet set = open_set("", options.tokens, options.reading, description, directory);
  DepthOptions depth = depth_options(options, set.evaluation);
  const auto ops = open_device(options.reading, description);
  if (depth.jacobian.projections > 0) relative_step(ops->working_type());
  if (!options.out.empty()) require_writable_directory(options.out);
  Model model(*ops, description.config,
              {depth.batch, depth.tokens_per_sequence, Purpose::inference,
               attention_norms(description.norms)});
  load_weights(model, directory);
  set_norm_states(model, description.norms);
  depth.progress = progress_on(log);
  return {options.reading.model,
          description.config,
          ops->device_name(),
          ops->working_type() == DType::bf16 ? "bf16" : "fp32",
          depth.tokens_per_sequence,
          depth.jacobian,
          measure_depth(model, set.corpus, depth)};
}

int analyze_depth(const Options& options) {
  Log log(stderr_is_terminal());
  const DepthReport report = measure(options, log);
  const std::string json = to_json(report).dump(2) + "\n";
  if (!options.out.empty()) {
    write_file_atomically(options.out + "/depth.json", json);
    write_file_atomically(options.out + "/depth.html", html(report));
    log.say("written: " + options.out + "/depth.html and depth.json");
  }
  if (options.json) {
    std::cout << json;
  } else {
    print(std::cout, report);
  }
  return kExitDone;
}

}  // namespace
}  // namespace normlab

int main(int argc, char* argv[]) {
  normlab::Options options;
  normlab::ReadingOptions& reading = options.reading;
  reading.precision = "fp32";
  reading.most_tokens = normlab::kMostTokens;
  CLI::App app(
      "What each layer of a model adds: the variance of its output, angles between the streams "
      "before layers, the loss without it, its Jacobian's distance from the identity, and the "
      "recursions of \"The Curse of Depth\" beside.\n"
      "Example: analyze depth runs/quickstart --tokens my.txt --out depth",
      "analyze");
  app.add_option("what", options.what, "depth")->required()->check(CLI::IsMember({"depth"}));
  normlab::add_reading_options(app, reading);
  app.get_option("--batch")->description("sequences of a pass; of 8192 tokens by default");
  app.add_option("--tokens", options.tokens, normlab::kTokensHelp);
  app.add_option("--out", options.out, "a directory for depth.json and the page depth.html");
  app.add_option("--most-tokens", reading.most_tokens, "stop after so many (262144)")
      ->check(CLI::PositiveNumber);
  app.add_option("--projections", options.jacobian.projections,
                 "random vectors for each layer's Jacobian (4); 0: leave it out")
      ->check(CLI::Range(0, 4096));
  app.add_option("--jacobian-tokens", options.jacobian_tokens,
                 "of which the Jacobian is taken (8192)")
      ->check(CLI::PositiveNumber);
  app.add_option("--seed", options.jacobian.seed, "of those vectors (1)")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--precision", reading.precision,
                 "fp32, bf16 (without a Jacobian), or auto: bf16 on a GPU, fp32 on a CPU (fp32)")
      ->check(CLI::IsMember({"auto", "fp32", "bf16"}));
  app.add_flag("--json", options.json, "JSON on stdout");
  return normlab::run_main(app, argc, argv, [&] { return normlab::analyze_depth(options); });
}

// train CONFIG.yaml: a run from its configuration to its last checkpoint.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <thread>

#include "engine/config.h"
#include "engine/config_names.h"
#include "engine/log.h"
#include "engine/plan.h"
#include "engine/ranks.h"
#include "engine/stop_request.h"
#include "engine/trainer.h"
#include "engine/yaml_tree.h"
#include "tools/look_back.h"
#include "tools/main.h"

namespace normlab {
namespace {

struct Options {
  std::string config;
  std::vector<std::string> overrides;
  bool dry_run = false;
  bool json = false;
  bool fresh = false;
  int ranks = 0;                    // of the plan; 0: those of the job
  std::string verify;               // a run's directory
  std::vector<std::string> replay;  // a step and a run's directory
};

// to_yaml writes numbers and booleans as JSON does, and texts in quotes but for a choice's word.
nlohmann::ordered_json json_of(const YamlNode& node) {
  using nlohmann::ordered_json;
  ordered_json out;
  switch (node.kind) {
    case YamlKind::null:
      break;
    case YamlKind::scalar: {
      if (!node.quoted) out = ordered_json::parse(node.text, nullptr, false);
      if (node.quoted || out.is_discarded()) out = node.text;
      break;
    }
    case YamlKind::list:
      out = ordered_json::array();
      for (const YamlNode& item : node.children) out.push_back(json_of(item));
      break;
    case YamlKind::map:
      out = ordered_json::object();
      for (const YamlNode& item : node.children) out[item.key] = json_of(item);
      break;
  }
  return out;
}

nlohmann::ordered_json schedule_json(const std::vector<RemovalEvent>& schedule) {
  using nlohmann::ordered_json;
  ordered_json list = ordered_json::array();
  for (const RemovalEvent& event : schedule) {
    list.push_back({{"step", event.step},
                    {"event", name_of(event.kind, removal_event_names)},
                    {"site", name_of(event.role, norm_role_names)},
                    {"layer", event.layer < 0 ? ordered_json() : ordered_json(event.layer)}});
  }
  return list;
}

// A line for each step at which something happens to norms.
void print_schedule(const std::vector<RemovalEvent>& schedule) {
  std::cout << "norm removal:" << (schedule.empty() ? "     none" : "");
  int64_t step = -1;
  for (const RemovalEvent& event : schedule) {
    if (event.step != step) std::cout << "\n  step " << event.step << ":";
    const bool same_line = event.step == step;
    std::cout << (same_line ? ", " : " ") << name_of(event.kind, removal_event_names) << " "
              << place_of({event.role, event.layer, {}});
    step = event.step;
  }
  std::cout << "\n";
}

void print_plan_json(const RunPlan& plan, const Config& config) {
  nlohmann::ordered_json out;
  out["parameters"] = plan.parameters;
  out["precision"] = name_of(plan.precision, precision_names);
  out["tokens_per_step"] = plan.tokens_per_step;
  out["passes_per_step"] = plan.passes_per_step;
  out["memory_bytes"] = {
      {"weights", plan.weights_bytes},     {"gradients", plan.gradients_bytes},
      {"optimizer", plan.optimizer_bytes}, {"activations", plan.activations_bytes},
      {"workspace", plan.workspace_bytes}, {"total", plan.total_bytes}};
  out["flops_per_token"] = plan.flops_per_token;
  out["communication_bytes"] = {{"sent", plan.sent_bytes},
                                {"sent_after_backward", plan.sent_after_backward_bytes}};
  out["schedule"] = schedule_json(plan.schedule);
  out["config"] = json_of(parse_yaml(to_yaml(config), "resolved configuration"));
  std::cout << out.dump(2) << "\n";
}

void print_plan(const RunPlan& plan, const Config& config) {
  std::cout << to_yaml(config) << "\n# plan (nothing was allocated)\n"
            << "parameters:       " << count_text(plan.parameters) << "\n"
            << "precision:        " << name_of(plan.precision, precision_names) << "\n"
            << "tokens per step:  " << count_text(plan.tokens_per_step) << " in "
            << plan.passes_per_step << (plan.passes_per_step == 1 ? " pass\n" : " passes\n")
            << "FLOPs per token:  " << count_text(static_cast<long long>(plan.flops_per_token))
            << "\nmemory per rank:  " << bytes_text(plan.total_bytes) << " (weights "
            << bytes_text(plan.weights_bytes) << ", gradients " << bytes_text(plan.gradients_bytes)
            << ", optimizer " << bytes_text(plan.optimizer_bytes) << ", activations "
            << bytes_text(plan.activations_bytes) << ", workspace "
            << bytes_text(plan.workspace_bytes) << ")\n";
  if (plan.sent_bytes > 0) {
    std::cout << "sent per rank:    " << bytes_text(plan.sent_bytes) << " a step, "
              << bytes_text(plan.sent_after_backward_bytes) << " of it after the backward pass\n";
  }
  print_schedule(plan.schedule);
}

int train_model(const Options& options, const Config& config, Communicator& communicator) {
  Log log(stderr_is_terminal());
  if (!communicator.is_first()) log.silence();
  const std::string end_of_job =
      stop_before_job_ends(std::getenv("SLURM_JOB_END_TIME"), config.checkpoint.seconds_before_end);
  if (!end_of_job.empty()) log.say(end_of_job);
  check_ranks(config, communicator.ranks());
  Trainer trainer(config, options.fresh ? Start::fresh : Start::go_on, log, communicator);
  switch (trainer.run()) {
    case Outcome::finished:
      return kExitDone;
    case Outcome::stopped:
      return kExitStopped;
  }
  return kExitFailed;
}

// Mostly all ranks meet the same problem: the first of them that is there says it, and ends the job
// before the others say it again.
int end_job(Communicator& communicator, const std::string& problem, int exit_code) {
  constexpr std::chrono::seconds kLetAnother{3};
  constexpr int64_t kMostBefore = 5;
  const auto gone = static_cast<int64_t>(communicator.ledger().gone().size());
  const int64_t before = std::clamp<int64_t>(communicator.rank() - gone, 0, kMostBefore);
  std::this_thread::sleep_for(kLetAnother * before);
  if (communicator.ledger().end_announced()) {
    communicator.end_job(exit_code);
    return exit_code;
  }
  communicator.ledger().announce_end();
  const std::string who =
      communicator.is_first() ? "" : "rank " + std::to_string(communicator.rank()) + ": ";
  std::cerr << "train: " + who + problem + "\n" << std::flush;
  communicator.end_job(exit_code);
  return exit_code;
}

// Says what is wrong as the one rank that says it.
template <typename Work>
int in_job(Communicator& communicator, const Work& work) {
  if (communicator.ranks() == 1) return work();
  try {
    return work();
  } catch (const Error& error) {
    return end_job(communicator, error.what(), exit_code(error.kind()));
  } catch (const std::exception& error) {
    return end_job(communicator, error.what(), kExitFailed);
  }
}

int look_back(const Options& options) {
  if (options.dry_run || options.fresh || options.ranks > 0) {
    throw input_error(
        "--verify and --replay go alone or with --json (they train nothing). Leave the others out");
  }
  const bool verifies = !options.verify.empty();
  // Where no configuration is named all words of the command line change the run's own.
  RunToReplay run{verifies ? options.verify : options.replay[1], options.overrides};
  if (!options.config.empty()) run.overrides.insert(run.overrides.begin(), options.config);
  const auto communicator = join_job(config_of(run));
  return in_job(*communicator, [&] {
    return verifies ? verify(run, options.json, *communicator)
                    : replay(run, options.replay[0], options.json, *communicator);
  });
}

int train(const Options& options) {
  catch_stop_signals();
  if (!options.verify.empty() || !options.replay.empty()) return look_back(options);
  if (options.config.empty()) {
    throw input_error("CONFIG.yaml is missing. See train --help");
  }
  Config config = load_config(options.config, options.overrides);
  if (options.dry_run) {
    const int ranks =
        options.ranks > 0 ? options.ranks : find_job_place(config.parallel.place).ranks;
    const RunPlan plan = plan_run(config, ranks);
    for (const std::string& warning : plan.warnings) std::cerr << "warning: " << warning << "\n";
    options.json ? print_plan_json(plan, config) : print_plan(plan, config);
    return kExitDone;
  }
  if (options.json)
    throw input_error(
        "--json (goes with --dry-run, --verify and --replay). Metrics are in metrics.jsonl");
  if (options.ranks > 0) {
    throw input_error("--ranks (goes with --dry-run). Start a job of several with mpirun -np N");
  }
  const auto communicator = join_job(config);
  return in_job(*communicator, [&] { return train_model(options, config, *communicator); });
}

}  // namespace
}  // namespace normlab

int main(int argc, char* argv[]) {
  normlab::Options options;
  CLI::App app(
      "Trains a model as CONFIG.yaml says. Goes on from the newest good checkpoint in "
      "run.directory if there is one.\nExample: train tools/recipes/quickstart.yaml "
      "run.directory=runs/mine optimizer.learning_rate=1e-3",
      "train");
  app.add_option("config", options.config, "the configuration, a YAML file");
  app.add_option("overrides", options.overrides, "section.key=value, in place of the file's");
  app.add_flag("--dry-run", options.dry_run,
               "print the resolved configuration, parameters, memory and FLOPs; allocate nothing");
  app.add_option("--ranks", options.ranks, "with --dry-run: of a job of so many ranks")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--verify", options.verify,
                 "hold a run's checkpoints against their checksums, and the last one against the "
                 "steps that led to it, taken again; changes nothing")
      ->type_name("RUN");
  app.add_option("--replay", options.replay,
                 "take one step of a run again, and say which number was first not finite")
      ->expected(2)
      ->type_name("STEP RUN");
  app.add_flag("--json", options.json, "with --dry-run, --verify, --replay: as JSON on stdout");
  app.add_flag("--fresh", options.fresh, "refuse to go on: stop if run.directory is not empty");
  return normlab::run_main(app, argc, argv, [&] { return normlab::train(options); });
}

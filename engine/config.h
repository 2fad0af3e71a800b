// Config: a whole run as plain data; and how it is read from YAML.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "data/document_source.h"
#include "engine/job_place.h"
#include "engine/norm_states.h"
#include "models/config.h"
#include "models/structure.h"

namespace normlab {

enum class DeviceChoice { automatic, cpu, cuda };
// pure_bf16_…: run.precision: pure_bf16 with a level as run.pure_bf16.
enum class PrecisionChoice {
  automatic,
  fp32,
  bf16,
  pure_bf16_weights,
  pure_bf16_gradients,
  pure_bf16_forward
};
enum class Corpus { shards, text, prompts, grammar };
enum class Packing { concatenated, padded };  // documents joined, or one document a row
enum class OptimizerKind { adamw, adam };
enum class LossAverage { token, micro_batch };
enum class StdSharing { shared, separate };  // one σ for queries, keys and values, or two
enum class RemovalMethod { step, taper };
enum class RemovalPolicy { schedule };
enum class ScheduleKind { constant, linear, cosine, wsd };

struct RunConfig {
  std::string directory;  // required
  int64_t seed = 1337;
  DeviceChoice device = DeviceChoice::automatic;
  PrecisionChoice precision = PrecisionChoice::automatic;
  int64_t threads = 0;  // of the CPU; 0 = all cores
};

struct DataConfig {
  Corpus corpus = Corpus::grammar;  // follows from which of the keys below is given
  std::vector<std::string> train;   // shards, globs allowed
  std::map<std::string, std::vector<std::string>>
      validation;                    // by set name; one list: "validation"
  std::vector<std::string> text;     // files, globs allowed
  std::vector<std::string> prompts;  // files, globs allowed; their completions are learnt
  ChatRoles roles;                   // of the turns of chats among them
  std::string tokenizer;             // as make_tokenizer takes it; "": of shards, what the set says
  int64_t grammar_documents = 2000;
  double validation_fraction = 0.1;  // of text and prompts: the tail of each file, 0 where
                                     // `validation` is given; of the grammar: its last documents
  std::optional<Packing> packing;    // none: of shards, what the set is
  int64_t sequence_length = 256;
  bool mask_eot_targets = false;
};

struct BatchConfig {
  int64_t tokens_per_step = 0;  // required; a multiple of sequence_length
  int64_t micro_batch = 0;      // sequences of a pass; required
  Recompute recompute = Recompute::none;
};

struct OptimizerConfig {
  OptimizerKind name = OptimizerKind::adamw;
  double learning_rate = 0;  // required
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;
  bool decay_embeddings = true;
  double gradient_clip = 0;  // bound of the global norm; 0 = none
  LossAverage loss_average = LossAverage::token;
};

struct ScheduleConfig {
  ScheduleKind kind = ScheduleKind::cosine;
  int64_t total_steps = 0;  // the schedule's horizon; required
  int64_t stop_step = 0;    // where training ends; total_steps by default
  int64_t warmup_steps = 0;
  double minimum_ratio = 0;     // of the learning rate, at total_steps
  double decay_fraction = 0.2;  // wsd only: the last part of total_steps, falling linearly
};

// When the norms of one place are removed, from the first layer to the last.
struct RemovalPhase {
  int64_t start = 0;    // updates before the first layer's removal; at least 1
  int64_t gap = 0;      // updates from one layer to the next; 0 = all layers at once
  double momentum = 0;  // of σ: the weight of its old value in a step
};

// Removal of norms ("Transformers Don't Need LayerNorm at Inference Time").
struct NormRemovalConfig {
  std::map<NormRole, RemovalPhase> phases;  // empty: no norm is removed
  StdSharing std = StdSharing::shared;
  RemovalMethod method = RemovalMethod::step;
  RemovalPolicy policy = RemovalPolicy::schedule;
  int64_t taper_steps = 1;  // updates over which a gate falls from 1 to 0
  // Whether first tokens, at every site, and ends of text, at attention_v, have a σ of their own;
  // and the updates after which they share that of the others (0: never).
  bool special_std = false;
  int64_t bos_start = 0;
  int64_t eot_start = 0;
  double auxiliary_loss_weight = 0;  // of (std − target)², the final norm's input; 0 = none
  int64_t auxiliary_group = 1;       // sequences that share a target; those of a pass by default
  double auxiliary_target = 0;       // 0: the mean over a group

  bool is_given() const { return !phases.empty() || auxiliary_loss_weight > 0; }
};

struct EvaluationConfig {
  int64_t every = 0;            // steps; 0 = only at the end
  int64_t tokens = 1'000'000;   // capped at what there is
  int64_t reference_batch = 0;  // sequences; see EvaluationOptions; 0 = none
};

struct CheckpointConfig {
  int64_t every = 0;  // steps; 0 = only at the end and on request
  int64_t keep = 3;
  // Under Slurm, so long before the job's time is up it saves and stops; 0: it does not.
  double seconds_before_end = 120;
};

struct ParallelConfig {
  // One gradient for each of `shards` parts of the batch, summed in a tree.
  bool reproducible = false;
  int64_t shards = 8;
  // 1: each rank keeps and updates its share of the optimizer's state (ZeRO); 0: all of it.
  int64_t zero_stage = 1;
  // What a rank waits for the others before it ends the job; longer than the longest checkpoint.
  double timeout_seconds = 600;
  // rank, ranks and local_rank: of this process, where no launcher says it. Not of the run: never
  // written.
  std::optional<JobPlace> place;
};

struct GuardConfig {
  int64_t nonfinite_steps = 10;  // stop after so many skipped steps in a row
};

struct DiagnosticsConfig {
  int64_t every = 0;  // steps whose layers are looked at (StepDiagnostics); 0 = none
};

struct Config {
  RunConfig run;
  ModelConfig model;
  std::string model_size;                 // the name that gave `model`, where one did
  std::optional<std::string> model_from;  // a checkpoint or Hugging Face directory to start from;
                                          // of `model`, only dropout is then the file's
  std::vector<NormRecord> model_from_norms;  // its norms that are not live
  std::optional<Family> model_from_family;   // what the file says it holds: to be compared
  DataConfig data;
  BatchConfig batch;
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  NormRemovalConfig norm_removal;
  EvaluationConfig evaluation;
  CheckpointConfig checkpoint;
  ParallelConfig parallel;
  GuardConfig guard;
  DiagnosticsConfig diagnostics;

  int64_t sequences_per_step() const { return batch.tokens_per_step / data.sequence_length; }
};

bool is_pure_bf16(PrecisionChoice precision);

// Reads and checks a file; `overrides` are "section.key=value" (YAML values). Throws an input Error
// "file:line: section.key = value (why). what to do". model.vocabulary may stay 0: then the data
// decide (resolve_vocabulary).
Config load_config(const std::string& path, const std::vector<std::string>& overrides);
// The same from text; `name` stands for the file in messages.
Config parse_config(const std::string& yaml, const std::string& name,
                    const std::vector<std::string>& overrides = {});
// YAML that load_config reads back to an equal Config, every key written but parallel.rank, ranks
// and local_rank.
std::string to_yaml(const Config& config);
// The lines "section.key: old → new" in which two resolved files differ, but for keys that may
// change between a run and its continuation (schedule.stop_step, evaluation.*, checkpoint.*,
// guard.*, diagnostics.*, run.directory, run.threads, run.device, batch.recompute,
// parallel.zero_stage and timeout_seconds; data.tokenizer of shards, which is a path).
std::vector<std::string> differences(const std::string& old_yaml, const std::string& new_yaml);

// The keys and values of a resolved file that must stay the same: what a run's identity is hashed
// from.
std::string identity(const std::string& yaml);

}  // namespace normlab

#include "engine/verification.h"

#include <algorithm>
#include <cstring>

namespace normlab {
namespace {

// The weights in full and the moments of a rank, on the host.
struct Numbers {
  std::vector<std::byte> weights, first_moment, second_moment;
};

std::vector<std::byte> bytes_of(Ops& ops, ConstTensor tensor) {
  std::vector<std::byte> bytes(static_cast<size_t>(tensor.elements() * size_of(tensor.dtype)));
  if (!bytes.empty()) ops.download(bytes.data(), tensor);
  return bytes;
}

Tensor weights_of(TrainingSteps& steps) {
  steps.optimizer().collect_masters();
  const Tensor masters = steps.optimizer().masters();
  return masters ? masters : steps.model().values();
}

Numbers numbers_of(TrainingSteps& steps) {
  Ops& ops = steps.model().ops();
  return {bytes_of(ops, weights_of(steps)), bytes_of(ops, steps.optimizer().first_moment()),
          bytes_of(ops, steps.optimizer().second_moment())};
}

bool same_part(const std::vector<std::byte>& one, const std::vector<std::byte>& other,
               int64_t first, int64_t count, int64_t size) {
  return std::memcmp(one.data() + first * size, other.data() + first * size,
                     static_cast<size_t>(count * size)) == 0;
}

std::string different_norm(const TrainingState& was, const TrainingState& is) {
  for (size_t i = 0; i < std::max(was.norms.size(), is.norms.size()); ++i) {
    if (i >= was.norms.size()) return "the std of " + place_of(is.norms[i]);
    if (i >= is.norms.size()) return "the std of " + place_of(was.norms[i]);
    const NormState &before = was.norms[i].state, &after = is.norms[i].state;
    if (before.gate == after.gate && before.sigma == after.sigma &&
        before.special_sigma == after.special_sigma) {
      continue;
    }
    return "the std of " + place_of(was.norms[i]);
  }
  return "";
}

// Loads `checkpoint` in the place of what was computed, and names the first tensor in which they
// differ; "" where none does.
std::string first_difference(TrainingSteps& steps, const CheckpointDirectory::Found& checkpoint) {
  const TrainingState now = steps.state();
  const Numbers computed = numbers_of(steps);
  steps.begin_from(checkpoint);
  const Numbers saved = numbers_of(steps);
  const Model& model = steps.model();
  const int64_t weight_size = size_of(weights_of(steps).dtype);
  for (const Parameter& parameter : model.parameters()) {
    if (!same_part(computed.weights, saved.weights, parameter.arena_offset,
                   parameter.value.elements(), weight_size)) {
      return parameter.name;
    }
  }
  const int64_t moment_size = size_of(steps.optimizer().first_moment().dtype);
  for (const Piece& piece : pieces_of(model.parameters(), steps.optimizer().share())) {
    const auto of = std::find_if(
        model.parameters().begin(), model.parameters().end(), [&](const Parameter& parameter) {
          return piece.logical < parameter.logical_offset + parameter.value.elements();
        });
    if (!same_part(computed.first_moment, saved.first_moment, piece.packed, piece.count,
                   moment_size)) {
      return "the first moment of " + of->name;
    }
    if (!same_part(computed.second_moment, saved.second_moment, piece.packed, piece.count,
                   moment_size)) {
      return "the second moment of " + of->name;
    }
  }
  if (now.data_position != checkpoint.state.data_position) return "the place in the data";
  return different_norm(checkpoint.state, now);
}

}  // namespace

bool Verification::agrees() const {
  return different_step.empty() && different_tensor.empty() &&
         std::all_of(checkpoints.begin(), checkpoints.end(),
                     [](const InspectedCheckpoint& one) { return one.damage.empty(); });
}

Verification verify_run(const RunToReplay& run, Log& log, Communicator& communicator) {
  Config config = config_of(run);
  const auto held = hold(run, communicator);
  Verification verification;
  verification.checkpoints = inspect_checkpoints(run, log);
  std::vector<CheckpointDirectory::Found> sound;
  for (const auto& [found, damage] : verification.checkpoints) {
    if (damage.empty()) sound.push_back(found);
  }
  if (sound.empty()) {
    throw input_error(run.directory + ": has no sound checkpoint. Let the run reach its first one");
  }
  const int ranks = ranks_of_checkpoint(sound[0].path);
  if (ranks != communicator.ranks() && !config.parallel.reproducible) {
    log.warn("the checkpoint is of " + std::to_string(ranks) + " ranks, this job of " +
             std::to_string(communicator.ranks()) +
             ": without parallel.reproducible other numbers of ranks have other bits");
  }
  std::optional<CheckpointDirectory::Found> from;
  if (sound.size() > 1) from = sound[1];
  Replay replay(std::move(config), from, log, communicator);
  replay.require_same_run(sound[0]);
  verification.from_step = replay.steps().step();
  verification.to_step = sound[0].state.step;
  verification.different_step = replay.take_until(verification.to_step);
  verification.different_tensor = first_difference(replay.steps(), sound[0]);
  const bool differs_here = !verification.different_tensor.empty();
  if (communicator.any(differs_here) && !differs_here) {
    verification.different_tensor = "a tensor of another rank's share";
  }
  return verification;
}

}  // namespace normlab

// What `train --verify` and `train --replay` say of a run.
#pragma once

#include <cmath>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "engine/replay.h"
#include "engine/verification.h"
#include "tools/main.h"

namespace normlab {

inline nlohmann::ordered_json or_null(const std::string& text) {
  return text.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(text);
}

inline void print_json(const Verification& found) {
  nlohmann::ordered_json out = {{"verified", found.agrees()},
                                {"from_step", found.from_step},
                                {"to_step", found.to_step},
                                {"different_step", or_null(found.different_step)},
                                {"different_tensor", or_null(found.different_tensor)}};
  for (const auto& [checkpoint, damage] : found.checkpoints) {
    out["checkpoints"].push_back({{"path", checkpoint.path}, {"damage", or_null(damage)}});
  }
  std::cout << out.dump(2) << "\n";
}

// A loss that is not finite is null.
inline void print_json(int64_t step, const ReplayedStep& found) {
  const nlohmann::ordered_json out = {{"step", step},
                                      {"loss", found.loss},
                                      {"grad_norm", found.gradient_norm},
                                      {"finite", found.finite},
                                      {"finding", or_null(found.finding)}};
  std::cout << out.dump(2) << "\n";
}

// In words, each a line of the log.
inline void say(const Verification& found, const std::string& run, Log& log) {
  if (!found.different_step.empty()) {
    log.say("DIFFERENT: " + found.different_step);
  } else if (found.to_step > found.from_step) {
    log.say("steps " + std::to_string(found.from_step + 1) + " to " +
            std::to_string(found.to_step) + ": the same losses and gradient norms");
  }
  const std::string checkpoint = checkpoint_name(found.to_step);
  log.say(found.different_tensor.empty()
              ? checkpoint + ": the same weights, moments, norms and place in the data"
              : "DIFFERENT: " + checkpoint + ", first in " + found.different_tensor);
  log.say(run + (found.agrees() ? ": verified" : ": does NOT verify"));
}

// Returns the exit code: 0 where the run is what its steps make it.
inline int verify(const RunToReplay& run, bool json, Communicator& communicator) {
  Log log(stderr_is_terminal());
  if (!communicator.is_first()) log.silence();
  const Verification found = verify_run(run, log, communicator);
  say(found, run.directory, log);
  if (json && communicator.is_first()) print_json(found);
  return found.agrees() ? kExitDone : kExitFailed;
}

inline int64_t number_of_step(const std::string& text) {
  constexpr size_t kMostDigits = 18;
  const bool digits = text.find_first_not_of("0123456789") == std::string::npos;
  if (digits && !text.empty() && text.size() <= kMostDigits) return std::stoll(text);
  throw input_error("--replay " + text + " (is no number of a step). First the step, then the run");
}

inline int replay(const RunToReplay& run, const std::string& step, bool json,
                  Communicator& communicator) {
  Log log(stderr_is_terminal());
  const ReplayedStep found = replay_step(run, number_of_step(step), log, communicator);
  if (json) print_json(number_of_step(step), found);
  const auto text = [](double value) {
    char digits[32];
    std::snprintf(digits, sizeof(digits), "%.9g", value);
    return std::string(std::isnan(value) ? "nan" : digits);
  };
  log.say("step " + step + ": loss " + text(found.loss) + ", gradient norm " +
          text(found.gradient_norm));
  log.say(found.finding.empty() ? "every number of the step is finite"
                                : "first not finite: " + found.finding);
  return kExitDone;
}

}  // namespace normlab

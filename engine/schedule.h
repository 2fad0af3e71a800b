// The learning rate of a step: a pure function.
#pragma once

#include "engine/config.h"

namespace normlab {

// Factor of the peak learning rate for the update after `step` completed ones, s = step:
//   s < warmup_steps: s / warmup_steps (the first update of a warm-up has rate 0);
//   constant: 1;  linear: from 1 at the end of warm-up to minimum_ratio at total_steps;
//   cosine: r + (1 − r)·½(1 + cos π·(s − W)/(S − W));
//   wsd: 1 until (1 − decay_fraction)·S, then linearly to minimum_ratio at S.
// From total_steps on it stays at its last value. Both papers' recipes use cosine
// (transformers' cosine_with_min_lr; GaLore's get_cosine_schedule_with_min_lr).
double learning_rate_factor(const ScheduleConfig& schedule, int64_t step);

}  // namespace normlab

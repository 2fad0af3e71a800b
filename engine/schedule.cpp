#include "engine/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace normlab {
double learning_rate_factor(const ScheduleConfig& schedule, int64_t step) {
  const auto warmup = static_cast<double>(schedule.warmup_steps);
  const auto total = static_cast<double>(schedule.total_steps);
  const double s = static_cast<double>(std::min(step, schedule.total_steps));
  if (s < warmup) return s / warmup;
  const double ratio = schedule.minimum_ratio;
  // 0 at the end of the warm-up, 1 at total_steps; 1 where there is nothing between the two.
  const double progress = total > warmup ? (s - warmup) / (total - warmup) : 1;
  switch (schedule.kind) {
    case ScheduleKind::constant:
      return 1;
    case ScheduleKind::linear:
      return std::lerp(1.0, ratio, progress);
    case ScheduleKind::cosine:
      return ratio + (1 - ratio) * 0.5 * (1 + std::cos(std::numbers::pi * progress));
    case ScheduleKind::wsd: {
      const double decay_begin = (1 - schedule.decay_fraction) * total;
      if (s <= decay_begin) return 1;
      return std::lerp(1.0, ratio, (s - decay_begin) / (total - decay_begin));
    }
  }
  return 1;
}

}  // namespace normlab

#include "engine/schedule.h"

#include <cmath>

#include "catch.h"

using namespace normlab;

namespace {

ScheduleConfig schedule(ScheduleKind kind, int64_t warmup, double ratio) {
  ScheduleConfig config;
  config.kind = kind;
  config.total_steps = 100;
  config.stop_step = 100;
  config.warmup_steps = warmup;
  config.minimum_ratio = ratio;
  return config;
}

constexpr ScheduleKind kinds[] = {ScheduleKind::constant, ScheduleKind::linear,
                                  ScheduleKind::cosine, ScheduleKind::wsd};

}  // namespace

TEST_CASE("schedule: the first update of a warm-up has rate 0 and the warm-up rises linearly") {
  for (ScheduleKind kind : kinds) {
    ScheduleConfig config = schedule(kind, 20, 0.1);
    CHECK(learning_rate_factor(config, 0) == 0);
    CHECK(learning_rate_factor(config, 1) == 0.05);
    CHECK(learning_rate_factor(config, 19) == 0.95);
    CHECK(learning_rate_factor(config, 20) == 1);
  }
}

TEST_CASE("schedule: without a warm-up the first update has the peak rate") {
  for (ScheduleKind kind : kinds) CHECK(learning_rate_factor(schedule(kind, 0, 0.1), 0) == 1);
}

TEST_CASE("schedule: cosine falls from 1 to the minimum ratio between warm-up and total") {
  ScheduleConfig config = schedule(ScheduleKind::cosine, 20, 0.1);
  CHECK(learning_rate_factor(config, 60) == Approx(0.55));  // half the way: the mean of 1 and 0.1
  // A quarter of the way: 0.1 + 0.9 · (1 + √½)/2.
  CHECK(learning_rate_factor(config, 40) == Approx(0.1 + 0.9 * 0.8535533905932737));
  CHECK(learning_rate_factor(config, 100) == 0.1);
}

TEST_CASE("schedule: linear falls evenly") {
  ScheduleConfig config = schedule(ScheduleKind::linear, 20, 0.2);
  CHECK(learning_rate_factor(config, 40) == Approx(0.8));
  CHECK(learning_rate_factor(config, 60) == Approx(0.6));
  CHECK(learning_rate_factor(config, 100) == 0.2);
}

TEST_CASE("schedule: wsd stays at the peak and falls linearly over the last part of the total") {
  ScheduleConfig config = schedule(ScheduleKind::wsd, 20, 0.1);
  config.decay_fraction = 0.25;
  CHECK(learning_rate_factor(config, 50) == 1);
  CHECK(learning_rate_factor(config, 75) == 1);
  CHECK(learning_rate_factor(config, 80) == Approx(0.82));  // 1 − 0.9 · 5/25
  CHECK(learning_rate_factor(config, 100) == 0.1);
  config.decay_fraction = 1;
  config.warmup_steps = 0;
  CHECK(learning_rate_factor(config, 50) == Approx(0.55));
}

TEST_CASE("schedule: constant stays at 1") {
  ScheduleConfig config = schedule(ScheduleKind::constant, 20, 0.1);
  CHECK(learning_rate_factor(config, 60) == 1);
  CHECK(learning_rate_factor(config, 100) == 1);
}

TEST_CASE("schedule: from total_steps on the rate stays, and stop_step does not shape it") {
  for (ScheduleKind kind : kinds) {
    ScheduleConfig config = schedule(kind, 20, 0.1);
    CHECK(learning_rate_factor(config, 1'000'000'000) == learning_rate_factor(config, 100));
    ScheduleConfig stopped = config;
    stopped.stop_step = 50;
    CHECK(learning_rate_factor(stopped, 45) == learning_rate_factor(config, 45));
  }
}

TEST_CASE("schedule: after the warm-up it never rises and never leaves [ratio, 1]") {
  for (ScheduleKind kind : kinds) {
    ScheduleConfig config = schedule(kind, 7, 0.1);
    double before = 1;
    for (int64_t step = 7; step <= 110; ++step) {
      double now = learning_rate_factor(config, step);
      CHECK(now <= before);
      CHECK(now >= 0.1);
      before = now;
    }
  }
}

// The std of rows: their sum, and the auxiliary loss.
#include <cmath>

#include "tests/op_cases.h"

namespace normlab {
namespace {

constexpr int64_t kWidth = 24;
constexpr int32_t kEndOfText = 5;
constexpr double kScale = 0.01;

struct Sizes {
  int64_t sequences = 0;
  int64_t tokens = 0;
};

// Ragged sequences; the last is empty where there are several.
void add_lengths(HostTensors& tensors, const Sizes& sizes) {
  HostMatrix& lengths = tensors.input("lengths", sizes.sequences, 1);
  lengths.element = Element::token;
  for (int64_t b = 0; b < sizes.sequences; ++b) {
    const bool last = b + 1 == sizes.sequences && b > 0;
    lengths(b, 0) = static_cast<double>(last ? 0 : std::max<int64_t>(sizes.tokens - b, 1));
  }
}

HostMatrix& add_statistics(HostTensors& tensors, int64_t rows) {
  HostMatrix& statistics = tensors.input("statistics", rows, 2, {0.1, 0.4});
  statistics.element = Element::statistics;
  return statistics;
}

enum class Special { absent, present };

OpCase add_stds_case(const std::string& name, const Sizes& sizes, Special which) {
  OpCase op_case{.name = name, .bound = 1e-6};
  add_lengths(op_case.tensors, sizes);
  add_statistics(op_case.tensors, sizes.sequences * sizes.tokens);
  op_case.tensors.tokens("tokens", sizes.sequences, sizes.tokens, 8);
  op_case.tensors.updated("sums", 1, 2).element = Element::result;
  op_case.forward = [=](Ops& ops, const DeviceTensors& t) {
    SpecialTokens special;
    if (which == Special::present) special = {t["tokens"], true, kEndOfText};
    ops.add_stds(t["sums"], t["statistics"], t["lengths"], special);
    ops.add_stds(t["sums"], t["statistics"], t["lengths"], special);
  };
  op_case.reference = [=](HostTensors& t) {
    for (int64_t row = 0; row < sizes.sequences * sizes.tokens; ++row) {
      if (row % sizes.tokens >= t["lengths"](row / sizes.tokens, 0)) continue;
      const int64_t token = row % sizes.tokens;
      const bool special = which == Special::present &&
                           (token == 0 || t["tokens"](row / sizes.tokens, token) == kEndOfText);
      t["sums"](0, special ? 1 : 0) += 2 / t["statistics"](row, 1);
    }
  };
  return op_case;
}

// Of one group, by the definition.
double target_of(const HostTensors& t, const Sizes& sizes, const StdLoss& settings, int64_t group) {
  if (settings.given_target > 0) return settings.given_target;
  double sum = 0, count = 0;
  for (int64_t b = group * settings.group; b < (group + 1) * settings.group; ++b) {
    if (b >= sizes.sequences) break;
    for (int64_t token = 1; token < sizes.tokens; ++token) {
      if (token >= t["lengths"](b, 0) || t["tokens"](b, token) == settings.end_of_text) continue;
      sum += 1 / t["statistics"](b * sizes.tokens + token, 1);
      ++count;
    }
  }
  return count > 0 ? sum / count : 1;
}

void std_loss_reference(HostTensors& t, const Sizes& sizes, const StdLoss& settings) {
  double loss = 0;
  for (int64_t row = 0; row < sizes.sequences * sizes.tokens; ++row) {
    const int64_t b = row / sizes.tokens;
    if (row % sizes.tokens >= t["lengths"](b, 0)) continue;
    const double std = 1 / t["statistics"](row, 1);
    const double distance = std - target_of(t, sizes, settings, b / settings.group);
    loss += kScale * distance * distance;
    for (int64_t c = 0; c < kWidth; ++c) {
      const double d_std = (t["x"](row, c) - t["statistics"](row, 0)) / (kWidth * std);
      t["d_x"](row, c) += kScale * 2 * distance * d_std;
    }
  }
  t["loss"](0, 0) = loss;
}

OpCase std_loss_case(const std::string& name, const Sizes& sizes, const StdLoss& settings) {
  OpCase op_case{.name = name, .bound = 2e-6, .state = {.std_loss_scale = kScale}};
  const int64_t rows = sizes.sequences * sizes.tokens;
  HostTensors& tensors = op_case.tensors;
  add_lengths(tensors, sizes);
  add_statistics(tensors, rows);
  tensors.tokens("tokens", sizes.sequences, sizes.tokens, 8);
  tensors.input("x", rows, kWidth, {2, 0.5}).padding = 8;
  tensors.updated("d_x", rows, kWidth, {0.01});
  tensors.written("loss", 1, 1).element = Element::result;
  op_case.forward = [=](Ops& ops, const DeviceTensors& t) {
    ops.zero_loss();
    ops.add_std_loss(t["d_x"], t["x"], t["statistics"], t["tokens"], t["lengths"], settings);
    const StepResult result = ops.download_step_result();
    ops.upload(t["loss"], &result.std_loss);
  };
  op_case.reference = [=](HostTensors& t) { std_loss_reference(t, sizes, settings); };
  return op_case;
}

}  // namespace

std::vector<OpCase> row_std_cases() {
  const StdLoss two{.group = 2, .end_of_text = kEndOfText};
  return {add_stds_case("add_stds", {5, 37}, Special::absent),
          add_stds_case("add_stds, one row", {1, 1}, Special::absent),
          add_stds_case("add_stds, many rows", {3, 700}, Special::absent),
          add_stds_case("add_stds, special tokens", {5, 37}, Special::present),
          std_loss_case("std_loss", {5, 37}, two),
          std_loss_case("std_loss, one group", {3, 33}, {.group = 4}),
          std_loss_case("std_loss, first tokens alone", {2, 1}, two),
          std_loss_case("std_loss, given target", {3, 9}, {.group = 1, .given_target = 2.5})};
}

}  // namespace normlab

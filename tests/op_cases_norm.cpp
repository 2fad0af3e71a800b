// residual_norm: what stands between two sublayers.
#include <cmath>

#include "tests/op_cases.h"

namespace normlab {
namespace {

enum class Part { absent, present };

struct NormSetting {
  NormKind kind = NormKind::layernorm;
  int64_t rows = 0;
  int64_t width = 0;
  double scale = 1;
  Part bias = Part::present;
  Part branch = Part::present;
  Part d_residual = Part::present;
  Part site = Part::absent;
  double gate = 1;   // with a site
  double given = 0;  // 1/σ, with a site
  double epsilon = 1e-5;
  int64_t tokens =
      0;  // of a sequence where there are special ones: the first, and those of kSpecial
  double given_special = 0;
};

constexpr int32_t kSpecial = 3;  // of a vocabulary of 8

double given_of(const HostTensors& t, const NormSetting& setting, int64_t row) {
  if (setting.tokens == 0) return setting.given;
  const int64_t token = row % setting.tokens;
  const bool special = token == 0 || t["tokens"](row / setting.tokens, token) == kSpecial;
  return special ? setting.given_special : setting.given;
}

double inverse_of(const HostTensors& t, const NormSetting& setting, int64_t row) {
  return setting.gate * t["statistics"](row, 1) + (1 - setting.gate) * given_of(t, setting, row);
}

// y = scale·((x − mean)·i·gain + bias), i = gate/√(var + epsilon) + (1 − gate)/σ, of the sum as
// the working type holds it.
void forward_row(HostTensors& t, const NormSetting& setting, int64_t row) {
  const int64_t width = setting.width;
  const auto count = static_cast<double>(width);
  HostMatrix& sum = t["sum"];
  double mean = 0;
  for (int64_t c = 0; c < width; ++c) {
    const double branch = setting.branch == Part::present ? t["branch"](row, c) : 0;
    sum(row, c) = t.rounded(t["residual"](row, c) + branch);
    mean += sum(row, c) / count;
  }
  if (setting.kind == NormKind::rmsnorm) mean = 0;
  double variance = 0;
  for (int64_t c = 0; c < width; ++c) variance += std::pow(sum(row, c) - mean, 2) / count;
  const double inverse_std = 1 / std::sqrt(variance + setting.epsilon);
  t["statistics"](row, 0) = mean;
  t["statistics"](row, 1) = inverse_std;
  const double inverse = inverse_of(t, setting, row);
  for (int64_t c = 0; c < width; ++c) {
    double y = (sum(row, c) - mean) * inverse * t["gain"](0, c);
    if (setting.bias == Part::present) y += t["bias"](0, c);
    t["normed"](row, c) = setting.scale * y;
  }
}

// By the chain rule through mean, variance and inverse, one factor at a time.
void backward_row(HostTensors& t, const NormSetting& setting, int64_t row) {
  const int64_t width = setting.width;
  const auto count = static_cast<double>(width);
  const HostMatrix& sum = t["sum"];
  const double mean = t["statistics"](row, 0);
  const double inverse_std = t["statistics"](row, 1);
  const double inverse = inverse_of(t, setting, row);
  double d_inverse = 0;
  double d_mean = 0;
  for (int64_t c = 0; c < width; ++c) {
    const double d_y = setting.scale * t["d_normed"](row, c);
    const double d_normalized = d_y * t["gain"](0, c);
    d_inverse += d_normalized * (sum(row, c) - mean);
    d_mean -= d_normalized * inverse;
    t["d_gain"](0, c) += d_y * (sum(row, c) - mean) * inverse;
    if (setting.bias == Part::present) t["d_bias"](0, c) += d_y;
  }
  if (setting.kind == NormKind::rmsnorm) d_mean = 0;
  const double d_variance = d_inverse * setting.gate * -0.5 * std::pow(inverse_std, 3);
  for (int64_t c = 0; c < width; ++c) {
    double d_x = setting.scale * t["d_normed"](row, c) * t["gain"](0, c) * inverse;
    d_x += d_variance * 2 * (sum(row, c) - mean) / count + d_mean / count;
    if (setting.d_residual == Part::present) d_x += t["d_residual"](row, c);
    t["d_sum"](row, c) = d_x;
  }
}

void norm_reference(HostTensors& t, const NormSetting& setting) {
  for (int64_t row = 0; row < setting.rows; ++row) forward_row(t, setting, row);
  for (int64_t row = 0; row < setting.rows; ++row) backward_row(t, setting, row);
}

void add_norm_tensors(HostTensors& tensors, const NormSetting& setting) {
  const int64_t rows = setting.rows;
  const int64_t width = setting.width;
  HostMatrix& residual = tensors.input("residual", rows, width, {1, 0.3, Rows::hard});
  residual.padding = 3;
  if (setting.branch == Part::present) tensors.input("branch", rows, width, {0.5}).padding = 5;
  tensors.input("gain", 1, width, {0.3, 1});
  if (setting.bias == Part::present) {
    tensors.input("bias", 1, width, {0.5});
    tensors.updated("d_bias", 1, width).element = Element::gradient;
  }
  tensors.updated("d_gain", 1, width).element = Element::gradient;
  tensors.written("sum", rows, width).padding = 2;
  HostMatrix& normed = tensors.written("normed", rows, width);
  normed.padding = 1;
  normed.relative_to = RelativeTo::row;
  tensors.written("statistics", rows, 2).element = Element::statistics;
  tensors.input("d_normed", rows, width).padding = 4;
  tensors.input("d_residual", rows, width).padding = 6;
  tensors.written("d_sum", rows, width);
  if (setting.site == Part::present) {
    HostMatrix& site = tensors.input("site", 1, setting.tokens > 0 ? 3 : 2);
    site.element = Element::statistics;
    site.values = {setting.gate, setting.given};
    if (setting.tokens > 0) site.values.push_back(setting.given_special);
  }
  if (setting.tokens > 0) tensors.tokens("tokens", rows / setting.tokens, setting.tokens, 8);
}

Norm norm_of(const DeviceTensors& t, const NormSetting& setting) {
  return {
      .kind = setting.kind,
      .gain = t["gain"],
      .bias = setting.bias == Part::present ? t["bias"] : Tensor(),
      .epsilon = setting.epsilon,
      .scale = setting.scale,
      .site = setting.site == Part::present ? t["site"] : Tensor(),
      .special = setting.tokens > 0 ? SpecialTokens{t["tokens"], true, kSpecial} : SpecialTokens{}};
}

OpCase norm_case(const std::string& name, double bound, const NormSetting& setting) {
  OpCase op_case{.name = name, .bound = bound};
  add_norm_tensors(op_case.tensors, setting);
  op_case.forward = [=](Ops& ops, const DeviceTensors& t) {
    const Tensor branch = setting.branch == Part::present ? t["branch"] : Tensor();
    ops.residual_norm_forward(t["sum"], t["normed"], t["statistics"], t["residual"], branch,
                              norm_of(t, setting));
  };
  op_case.backward = [=](Ops& ops, const DeviceTensors& t) {
    ops.residual_norm_backward(
        t["d_sum"], t["d_gain"], setting.bias == Part::present ? t["d_bias"] : Tensor(),
        t["d_normed"], setting.d_residual == Part::present ? t["d_residual"] : Tensor(), t["sum"],
        t["statistics"], norm_of(t, setting));
  };
  op_case.reference = [=](HostTensors& t) { norm_reference(t, setting); };
  op_case.outputs = {{"normed", "d_normed"}};
  if (setting.d_residual == Part::present) op_case.outputs.push_back({"sum", "d_residual"});
  op_case.inputs = {{"residual", "d_sum"}, {"gain", "d_gain"}};
  if (setting.branch == Part::present) op_case.inputs.push_back({"branch", "d_sum"});
  if (setting.bias == Part::present) op_case.inputs.push_back({"bias", "d_bias"});
  return op_case;
}

// The aliases that the contract allows: the sum takes the residual's place, d_sum that of
// d_normed or of d_residual.
OpCase aliased_case(const std::string& name, const std::string& replaced) {
  const NormSetting setting{.rows = 21, .width = 48, .scale = 0.7};
  OpCase op_case = norm_case(name, 1e-6, setting);
  op_case.tensors["residual"].role = Role::updated;
  op_case.tensors[replaced].role = Role::updated;
  op_case.forward = [=](Ops& ops, const DeviceTensors& t) {
    ops.residual_norm_forward(t["residual"], t["normed"], t["statistics"], t["residual"],
                              t["branch"], norm_of(t, setting));
  };
  op_case.backward = [=](Ops& ops, const DeviceTensors& t) {
    ops.residual_norm_backward(t[replaced], t["d_gain"], t["d_bias"], t["d_normed"],
                               t["d_residual"], t["residual"], t["statistics"],
                               norm_of(t, setting));
  };
  op_case.reference = [=](HostTensors& t) {
    norm_reference(t, setting);
    for (const auto& [target, source] :
         {std::pair{"residual", "sum"}, {replaced.c_str(), "d_sum"}}) {
      t[target].values = t[source].values;
      t[source].values.assign(t[source].values.size(), std::nan(""));
    }
  };
  op_case.outputs.clear();
  op_case.inputs.clear();
  return op_case;
}

// No branch and no sum: the norm reads the residual where it is.
OpCase in_place_case(const std::string& name, const NormSetting& setting) {
  OpCase op_case = norm_case(name, 1e-6, setting);
  op_case.forward = [=](Ops& ops, const DeviceTensors& t) {
    ops.residual_norm_forward(Tensor(), t["normed"], t["statistics"], t["residual"], ConstTensor(),
                              norm_of(t, setting));
  };
  op_case.backward = [=](Ops& ops, const DeviceTensors& t) {
    ops.residual_norm_backward(t["d_sum"], t["d_gain"], Tensor(), t["d_normed"], ConstTensor(),
                               t["residual"], t["statistics"], norm_of(t, setting));
  };
  op_case.reference = [=](HostTensors& t) {
    norm_reference(t, setting);
    t["sum"].values.assign(t["sum"].values.size(), std::nan(""));
  };
  return op_case;
}

}  // namespace

std::vector<OpCase> norm_cases() {
  constexpr NormKind kRms = NormKind::rmsnorm;
  constexpr Part kNone = Part::absent;
  constexpr Part kSite = Part::present;
  return {
      norm_case("layernorm, live", 1e-6, {.rows = 37, .width = 48}),
      norm_case("layernorm, live, scaled, without bias", 1e-6,
                {.rows = 19, .width = 52, .scale = 0.5, .bias = kNone}),
      // The last place of the mean, times 1/√epsilon.
      norm_case("layernorm, a constant row", 1e-4,
                {.rows = 5, .width = 48, .branch = kNone, .d_residual = kNone}),
      norm_case("layernorm, live by its site", 1e-6,
                {.rows = 9, .width = 48, .site = kSite, .gate = 1, .given = 0.25}),
      norm_case("layernorm, tapering", 1e-6,
                {.rows = 17, .width = 48, .scale = 0.7, .site = kSite, .gate = 0.3125, .given = 2}),
      norm_case("layernorm, frozen", 1e-6,
                {.rows = 17, .width = 48, .scale = 0.7, .site = kSite, .gate = 0, .given = 0.75}),
      norm_case("rmsnorm, live", 1e-6, {.kind = kRms, .rows = 37, .width = 48, .bias = kNone}),
      norm_case("rmsnorm, tapering, scaled, with bias", 1e-6,
                {.kind = kRms,
                 .rows = 17,
                 .width = 48,
                 .scale = 0.4,
                 .site = kSite,
                 .gate = 0.75,
                 .given = 0.5}),
      norm_case("rmsnorm, frozen", 1e-6,
                {.kind = kRms,
                 .rows = 11,
                 .width = 64,
                 .bias = kNone,
                 .site = kSite,
                 .gate = 0,
                 .given = 0.5}),
      norm_case("layernorm, frozen, special tokens", 1e-6,
                {.rows = 51,
                 .width = 48,
                 .site = kSite,
                 .gate = 0,
                 .given = 0.75,
                 .tokens = 17,
                 .given_special = 0.0625}),
      norm_case("rmsnorm, tapering, special tokens", 1e-6,
                {.kind = kRms,
                 .rows = 33,
                 .width = 24,
                 .bias = kNone,
                 .site = kSite,
                 .gate = 0.25,
                 .given = 0.5,
                 .tokens = 11,
                 .given_special = 2}),
      in_place_case("rmsnorm, without branch and sum", {.kind = kRms,
                                                        .rows = 67,
                                                        .width = 12,
                                                        .bias = kNone,
                                                        .branch = kNone,
                                                        .d_residual = kNone,
                                                        .epsilon = 1e-6}),
      norm_case("layernorm, one row of seven", 1e-6, {.rows = 1, .width = 7}),
      norm_case("layernorm, large", 1e-6, {.rows = 300, .width = 500}),
      // 768 squares, where the compiler adds them one after the other: 1.7e-6 measured.
      norm_case("rmsnorm, large", 3e-6, {.kind = kRms, .rows = 200, .width = 768, .bias = kNone}),
      aliased_case("layernorm, d_sum in d_normed's place", "d_normed"),
      aliased_case("layernorm, d_sum in d_residual's place", "d_residual")};
}

}  // namespace normlab

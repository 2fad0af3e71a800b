// The words of a configuration for each choice: what config.cpp reads and config_writer.cpp writes.
#pragma once

#include <array>
#include <string>

#include "engine/config.h"
#include "models/norm_site.h"

namespace normlab {

template <typename Choice>
struct ChoiceName {
  Choice choice;
  const char* name;
};

inline constexpr std::array<ChoiceName<DeviceChoice>, 3> device_names = {
    {{DeviceChoice::automatic, "auto"}, {DeviceChoice::cpu, "cpu"}, {DeviceChoice::cuda, "cuda"}}};
// The levels of run.pure_bf16.
inline constexpr std::array<ChoiceName<PrecisionChoice>, 3> pure_bf16_names = {
    {{PrecisionChoice::pure_bf16_weights, "weights"},
     {PrecisionChoice::pure_bf16_gradients, "gradients"},
     {PrecisionChoice::pure_bf16_forward, "forward"}}};
inline constexpr std::array<ChoiceName<PrecisionChoice>, 6> precision_names = {
    {{PrecisionChoice::automatic, "auto"},
     {PrecisionChoice::fp32, "fp32"},
     {PrecisionChoice::bf16, "bf16"},
     {PrecisionChoice::pure_bf16_weights, "pure_bf16_weights"},
     {PrecisionChoice::pure_bf16_gradients, "pure_bf16_gradients"},
     {PrecisionChoice::pure_bf16_forward, "pure_bf16_forward"}}};
inline constexpr std::array<ChoiceName<Family>, 2> family_names = {
    {{Family::gpt2, "gpt2"}, {Family::llama, "llama"}}};
inline constexpr std::array<ChoiceName<Biases>, 3> biases_names = {
    {{Biases::none, "none"}, {Biases::qkv, "qkv"}, {Biases::all, "all"}}};
inline constexpr std::array<ChoiceName<NormKind>, 4> norm_kind_names = {
    {{NormKind::layernorm, "layernorm"},
     {NormKind::rmsnorm, "rmsnorm"},
     {NormKind::dyt, "dyt"},
     {NormKind::derf, "derf"}}};
inline constexpr std::array<ChoiceName<NormPlacement>, 13> placement_names = {
    {{NormPlacement::pre, "pre"},
     {NormPlacement::post, "post"},
     {NormPlacement::deepnorm, "deepnorm"},
     {NormPlacement::deepnorm_reference, "deepnorm_reference"},
     {NormPlacement::mix, "mix"},
     {NormPlacement::sandwich, "sandwich"},
     {NormPlacement::peri, "peri"},
     {NormPlacement::lns, "lns"},
     {NormPlacement::pre_post, "pre_post"},
     {NormPlacement::pre_sandwich, "pre_sandwich"},
     {NormPlacement::post_pre_post_pre, "post_pre_post_pre"},
     {NormPlacement::pre_post_pre_post, "pre_post_pre_post"},
     {NormPlacement::none, "none"}}};
inline constexpr std::array<ChoiceName<LnsPosition>, 4> lns_position_names = {
    {{LnsPosition::after_norm, "after_norm"},
     {LnsPosition::before_norm, "before_norm"},
     {LnsPosition::after_sublayer, "after_sublayer"},
     {LnsPosition::after_residual, "after_residual"}}};
inline constexpr std::array<ChoiceName<LnsSublayers>, 3> lns_sublayers_names = {
    {{LnsSublayers::both, "both"},
     {LnsSublayers::attention, "attention"},
     {LnsSublayers::mlp, "mlp"}}};
inline constexpr std::array<ChoiceName<BranchScale>, 3> branch_scale_names = {
    {{BranchScale::none, "none"},
     {BranchScale::layerscale, "layerscale"},
     {BranchScale::skipinit, "skipinit"}}};
inline constexpr std::array<ChoiceName<NormRole>, 8> norm_role_names = {
    {{NormRole::embedding, "embedding"},
     {NormRole::attention, "attention"},
     {NormRole::attention_qk, "attention_qk"},
     {NormRole::attention_v, "attention_v"},
     {NormRole::attention_output, "attention_output"},
     {NormRole::mlp, "mlp"},
     {NormRole::mlp_output, "mlp_output"},
     {NormRole::final, "final"}}};
// Those that norm_removal has a phase for.
inline constexpr std::array<ChoiceName<NormRole>, 5> removable_role_names = {
    {{NormRole::attention, "attention"},
     {NormRole::attention_qk, "attention_qk"},
     {NormRole::attention_v, "attention_v"},
     {NormRole::mlp, "mlp"},
     {NormRole::final, "final"}}};
inline constexpr std::array<ChoiceName<InitKind>, 5> init_kind_names = {
    {{InitKind::normal, "normal"},
     {InitKind::scaled, "scaled"},
     {InitKind::depth_scaled, "depth_scaled"},
     {InitKind::deepnorm, "deepnorm"},
     {InitKind::deepnorm_reference, "deepnorm_reference"}}};
inline constexpr std::array<ChoiceName<Packing>, 2> packing_names = {
    {{Packing::concatenated, "concatenated"}, {Packing::padded, "padded"}}};
inline constexpr std::array<ChoiceName<Recompute>, 3> recompute_names = {
    {{Recompute::none, "none"}, {Recompute::mlp, "mlp"}, {Recompute::block, "block"}}};
inline constexpr std::array<ChoiceName<OptimizerKind>, 2> optimizer_names = {
    {{OptimizerKind::adamw, "adamw"}, {OptimizerKind::adam, "adam"}}};
inline constexpr std::array<ChoiceName<LossAverage>, 2> loss_average_names = {
    {{LossAverage::token, "token"}, {LossAverage::micro_batch, "micro_batch"}}};
inline constexpr std::array<ChoiceName<StdSharing>, 2> std_sharing_names = {
    {{StdSharing::shared, "shared"}, {StdSharing::separate, "separate"}}};
inline constexpr std::array<ChoiceName<RemovalMethod>, 2> removal_method_names = {
    {{RemovalMethod::step, "step"}, {RemovalMethod::taper, "taper"}}};
inline constexpr std::array<ChoiceName<RemovalPolicy>, 1> removal_policy_names = {
    {{RemovalPolicy::schedule, "schedule"}}};
inline constexpr std::array<ChoiceName<ScheduleKind>, 4> schedule_names = {
    {{ScheduleKind::constant, "constant"},
     {ScheduleKind::linear, "linear"},
     {ScheduleKind::cosine, "cosine"},
     {ScheduleKind::wsd, "wsd"}}};

template <typename Choice, size_t count>
const char* name_of(Choice choice, const std::array<ChoiceName<Choice>, count>& names) {
  for (const ChoiceName<Choice>& entry : names) {
    if (entry.choice == choice) return entry.name;
  }
  throw Error("a choice without a name in config_names.h");
}

// The choice of a word, or `otherwise` where it is no choice's.
template <typename Choice, size_t count>
Choice choice_of(const std::string& word, const std::array<ChoiceName<Choice>, count>& names,
                 Choice otherwise) {
  for (const ChoiceName<Choice>& entry : names) {
    if (entry.name == word) return entry.choice;
  }
  return otherwise;
}

}  // namespace normlab

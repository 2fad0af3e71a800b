#include "models/structure.h"

#include <algorithm>

namespace normlab {
namespace {

std::string norm_prefix(const NormSite& site) {
  switch (site.role) {
    case NormRole::attention:
    case NormRole::attention_qk:
    case NormRole::attention_v:
      return "layers." + std::to_string(site.layer) + ".attention.norm";
    case NormRole::attention_output:
      return "layers." + std::to_string(site.layer) + ".attention.output_norm";
    case NormRole::mlp:
      return "layers." + std::to_string(site.layer) + ".mlp.norm";
    case NormRole::mlp_output:
      return "layers." + std::to_string(site.layer) + ".mlp.output_norm";
    case NormRole::embedding:
      return "embedding.norm";
    case NormRole::final:
      return "final.norm";
  }
  return {};
}

size_t add_site(ModelStructure& structure, const PlannedNorm& planned) {
  NormSite site;
  site.role = planned.role;
  site.layer = planned.layer;
  site.scale = planned.scale;
  site.input_scale = planned.input_scale;
  const std::string prefix = norm_prefix(site);
  site.gain = find_parameter(structure.parameters, prefix + ".gain");
  site.bias = find_parameter_or_none(structure.parameters, prefix + ".bias");
  site.slope = find_parameter_or_none(structure.parameters, prefix + ".slope");
  site.shift = find_parameter_or_none(structure.parameters, prefix + ".shift");
  structure.sites.push_back(site);
  return structure.sites.size() - 1;
}

// The same norm for values, where the planned one is for queries and keys.
std::optional<size_t> add_values_site(ModelStructure& structure, size_t queries) {
  NormSite site = structure.sites[queries];
  if (site.role != NormRole::attention_qk) return {};
  site.role = NormRole::attention_v;
  structure.sites.push_back(site);
  return structure.sites.size() - 1;
}

// The constants of joint `number`, and what is learnt of the sublayer that it follows.
JointFactors factors_of(const ModelStructure& structure, const PlannedJoint& planned,
                        size_t number) {
  JointFactors factors{planned.skip_scale, planned.branch_scale};
  if (number == 0) return factors;
  const std::string layer = "layers." + std::to_string((number - 1) / 2);
  const std::string sublayer = number % 2 == 1 ? ".attention" : ".mlp";
  factors.learnt = find_parameter_or_none(structure.parameters, layer + sublayer + ".branch_scale");
  factors.gate = find_parameter_or_none(structure.parameters, layer + ".gpas");
  return factors;
}

JointNorms add_sites(ModelStructure& structure, const PlannedJoint& planned) {
  JointNorms norms;
  if (planned.inside) norms.inside = add_site(structure, *planned.inside);
  if (planned.after) norms.after = add_site(structure, *planned.after);
  if (planned.before) {
    norms.before = add_site(structure, *planned.before);
    norms.values = add_values_site(structure, *norms.before);
  }
  return norms;
}

// Rows of logits that exist at a time: the whole (N,V) would dwarf every other activation. A
// function of the shapes alone; threads do not move the bits.
int64_t logits_chunk_rows(int64_t vocabulary, int64_t rows) {
  constexpr int64_t kElements = int64_t{1} << 24;
  const int64_t chunk = std::max<int64_t>(kElements / vocabulary / 64 * 64, 64);
  return std::min(chunk, rows);
}

// All of them over the same memory.
template <typename LayOut>
void lay_out_shared(Arena& arena, size_t first, size_t end, size_t step,
                    const LayOut& lay_out_one) {
  const Arena::Mark base = arena.mark();
  Arena::Mark last = base;
  for (size_t i = first; i < end; i += step) {
    arena.release(base);
    lay_out_one(i);
    last = std::max(last, arena.mark());
  }
  arena.release(base);
  arena.take(DType::f32, {(last - base) / size_of(DType::f32)});
}

void lay_out_joints(ModelStructure& structure, Arena& arena, const ModelConfig& config,
                    const Workload& workload, DType working_type, DType statistics_type) {
  std::vector<Joint>& joints = structure.joints;
  const auto lay_out = [&](size_t joint) {
    joints[joint].lay_out(arena, workload.rows(), config, working_type);
  };
  const auto lay_out_statistics = [&](size_t joint) {
    joints[joint].lay_out_statistics(arena, workload.rows(), config, statistics_type);
  };
  const auto lay_out_both = [&](size_t joint) {
    lay_out(joint);
    lay_out_statistics(joint);
  };
  if (workload.purpose == Purpose::inference) {
    // Without a backward pass only two neighbouring joints are alive.
    for (const size_t parity : {size_t{0}, size_t{1}}) {
      lay_out_shared(arena, parity, joints.size(), 2, lay_out_both);
    }
    return;
  }
  const bool keeps_all = workload.recompute != Recompute::block;
  for (size_t joint = 0; joint < joints.size(); joint += keeps_all ? 1 : 2) lay_out_both(joint);
  if (keeps_all) return;
  // Those within a layer.
  for (size_t joint = 1; joint < joints.size(); joint += 2) lay_out_statistics(joint);
  lay_out_shared(arena, 1, joints.size(), 2, lay_out);
}

void lay_out_layers(ModelStructure& structure, Arena& arena, const ModelConfig& config,
                    const Workload& workload, DType working_type, DType statistics_type) {
  const auto layers = static_cast<size_t>(config.layers);
  const auto lay_out_attention = [&](size_t layer) {
    lay_out(structure.attention[layer], arena, config, workload.micro_batch, workload.tokens,
            working_type, statistics_type);
  };
  const auto lay_out_mlp = [&](size_t layer) {
    lay_out(structure.mlp[layer], arena, config, workload.rows(), working_type);
  };
  const auto lay_out_both = [&](size_t layer) {
    lay_out_attention(layer);
    lay_out_mlp(layer);
  };
  const bool shares_all =
      workload.purpose == Purpose::inference || workload.recompute == Recompute::block;
  if (shares_all) {
    lay_out_shared(arena, 0, layers, 1, lay_out_both);
  } else if (workload.recompute == Recompute::mlp) {
    for (size_t layer = 0; layer < layers; ++layer) lay_out_attention(layer);
    lay_out_shared(arena, 0, layers, 1, lay_out_mlp);
  } else {
    for (size_t layer = 0; layer < layers; ++layer) lay_out_both(layer);
  }
}

void lay_out_temporaries(ModelStructure& structure, Arena& arena, const ModelConfig& config,
                         const Workload& workload, DType working_type, DType statistics_type) {
  ModelStructure::Temporaries& room = structure.temporaries;
  const int64_t rows = workload.rows();
  room.losses = arena.take(statistics_type, {rows, 1});
  room.branch = arena.take(working_type, {rows, config.width});
  const bool training = workload.purpose == Purpose::training;
  const bool apart = workload.attention_norms == AttentionNorms::apart;
  if (apart) room.normed_values = arena.take(working_type, {rows, config.width});
  if (training) {
    room.d_stream = arena.take(working_type, {rows, config.width});
    room.d_normed = arena.take(working_type, {rows, config.width});
    if (apart) room.d_normed_values = arena.take(working_type, {rows, config.width});
    const bool branch_apart =
        config.dropout > 0 || std::any_of(structure.joints.begin(), structure.joints.end(),
                                          [](const Joint& joint) { return joint.branch_apart(); });
    if (branch_apart) room.d_branch = arena.take(working_type, {rows, config.width});
  }
  // Of these, one group at a time is in use.
  const Arena::Mark base = arena.mark();
  room.logits =
      arena.take(working_type, {logits_chunk_rows(config.vocabulary, rows), config.vocabulary});
  if (!training) return;
  arena.release(base);
  room.attention.d_z = arena.take(working_type, {rows, config.query_columns()});
  room.attention.d_qkv = arena.take(working_type, {rows, config.packed_columns()});
  arena.release(base);
  room.mlp.d_activated = arena.take(working_type, {rows, config.feed_forward});
  room.mlp.d_hidden = config.activation == Activation::gelu
                          ? room.mlp.d_activated
                          : arena.take(working_type, {rows, config.hidden_columns()});
}

}  // namespace

ModelStructure make_structure(const ModelConfig& config) {
  ModelStructure structure;
  structure.parameters = parameter_list(config);
  structure.buckets = assign_buckets(structure.parameters, config.layers);
  for (const PlannedJoint& planned : norm_plan(config.norm, config.layers)) {
    const JointNorms norms = add_sites(structure, planned);
    structure.joints.emplace_back(norms, factors_of(structure, planned, structure.joints.size()));
  }
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    structure.attention.push_back(make_attention_layer(structure.parameters, layer));
    structure.mlp.push_back(make_mlp_layer(structure.parameters, layer));
  }
  structure.token_embedding = find_parameter(structure.parameters, "embedding.token");
  structure.position_embedding = find_parameter_or_none(structure.parameters, "embedding.position");
  structure.head = config.tie_embeddings ? structure.token_embedding
                                         : find_parameter(structure.parameters, "head.weight");
  structure.head_bias = find_parameter_or_none(structure.parameters, "head.bias");
  return structure;
}

void lay_out_activations(ModelStructure& structure, Arena& arena, const ModelConfig& config,
                         const Workload& workload, DType working_type, DType statistics_type) {
  for (NormSite& site : structure.sites) site.on_device = arena.take(statistics_type, {1, 3});
  structure.std_sums = arena.take(DType::f64, {static_cast<int64_t>(structure.sites.size()), 2});
  lay_out_joints(structure, arena, config, workload, working_type, statistics_type);
  lay_out_layers(structure, arena, config, workload, working_type, statistics_type);
  lay_out_temporaries(structure, arena, config, workload, working_type, statistics_type);
}

void place_parameters(ModelStructure& structure, Tensor values, Tensor gradients) {
  for (Parameter& parameter : structure.parameters) {
    parameter.value = parameter.part_of(values);
    parameter.gradient = gradients ? parameter.part_of(gradients) : Tensor{};
  }
}

NumberTypes number_types(const Ops& ops) {
  return {ops.working_type(), ops.gradient_type(), ops.statistics_type(), ops.has_masters()};
}

NumberTypes number_types(Precision precision) {
  switch (precision) {
    case Precision::fp32:
      return {DType::f32, DType::f32, DType::f32, false};
    case Precision::bf16:
      return {DType::bf16, DType::f32, DType::f32, true};
    case Precision::pure_bf16_weights:
    case Precision::pure_bf16_gradients:
    case Precision::pure_bf16_forward:
      return {DType::bf16, DType::f32, DType::f32, false};
    case Precision::fp64:
      return {DType::f64, DType::f64, DType::f64, false};
  }
  throw Error("unknown precision");
}

ModelMemory measure_model(const ModelConfig& config, const Workload& workload,
                          const NumberTypes& types) {
  ModelStructure structure = make_structure(config);
  Arena arena;
  lay_out_activations(structure, arena, config, workload, types.working, types.statistics);
  ModelMemory memory;
  memory.weights_bytes = structure.arena_elements() * size_of(types.working);
  if (workload.purpose == Purpose::training) {
    memory.gradients_bytes = structure.arena_elements() * size_of(types.gradient);
  }
  memory.activations_bytes = arena.peak_bytes();
  return memory;
}

}  // namespace normlab

#include "models/model.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/numbers.h"
#include "kernels/random.h"

namespace normlab {
namespace {

Memory allocate_zeroed(Ops& ops, Tensor& tensor, DType dtype, int64_t elements) {
  Memory memory = ops.allocate(elements * size_of(dtype));
  tensor = Tensor(memory.data(), dtype, {1, elements});
  ops.zero(tensor);
  return memory;
}

// Element i of parameter number p: standard normal (Box & Muller 1958).
double standard_normal(uint64_t seed, size_t parameter, int64_t element) {
  const RandomBlock words = element_block(mix(mix(seed) ^ 0x1217), static_cast<uint32_t>(parameter),
                                          static_cast<uint64_t>(element / 2));
  const auto uniform = [](uint32_t high, uint32_t low) {
    // In (0, 1], 53 bits.
    return (static_cast<double>((uint64_t{high} << 21) ^ (low >> 11)) + 1) / 9007199254740992.0;
  };
  const double radius = std::sqrt(-2 * std::log(uniform(words[0], words[1])));
  const double angle = 2 * std::numbers::pi * uniform(words[2], words[3]);
  return element % 2 == 0 ? radius * std::cos(angle) : radius * std::sin(angle);
}

// Of rows [first, first + count).
std::vector<double> first_numbers(const Parameter& parameter, uint64_t seed, size_t number,
                                  int64_t first, int64_t count) {
  const int64_t columns = parameter.value.columns();
  std::vector<double> values(static_cast<size_t>(count * columns), parameter.start);
  if (parameter.rule == InitRule::constant) return values;
  for (int64_t i = 0; i < count * columns; ++i) {
    const bool last = first + i / columns >= parameter.last_rows;
    values[static_cast<size_t>(i)] = (last ? parameter.last_std : parameter.std) *
                                     standard_normal(seed, number, first * columns + i);
  }
  return values;
}

}  // namespace

Model::Model(Ops& ops, const ModelConfig& config, const Workload& workload)
    : ops_(ops), config_(config), workload_(workload) {
  validate(config);
  check(workload.micro_batch > 0 && workload.tokens > 0 && workload.tokens <= config.context,
        "a workload of at least one token and at most the context");
  structure_ = make_structure(config);
  const DType working = ops.working_type();
  values_memory_ = allocate_zeroed(ops, values_, working, structure_.arena_elements());
  if (workload.purpose == Purpose::training) {
    gradients_memory_ =
        allocate_zeroed(ops, gradients_, ops.gradient_type(), structure_.arena_elements());
  }
  place_parameters(structure_, values_, gradients_);
  Arena measuring;
  lay_out_activations(structure_, measuring, config, workload, working, ops.statistics_type());
  activations_memory_ = ops.allocate(measuring.peak_bytes());
  Arena arena(activations_memory_.data(), measuring.peak_bytes());
  lay_out_activations(structure_, arena, config, workload, working, ops.statistics_type());
  for (const NormSite& site : structure_.sites)
    upload_numbers(ops, site.on_device, {1, 0, 0});  // live
  ops.zero(structure_.std_sums);
}

void Model::set_gradients(Tensor gradients) {
  check(gradients.elements() == values_.elements(), "gradients as large as the values");
  gradients_ = gradients;
  place_parameters(structure_, values_, gradients_);
}

void Model::initialize(uint64_t seed, Tensor masters) {
  constexpr int64_t kElements = 1 << 20;  // at a time: a table of embeddings is large in double
  for (size_t i = 0; i < structure_.parameters.size(); ++i) {
    const Parameter& parameter = structure_.parameters[i];
    const Tensor target = masters ? parameter.part_of(masters) : parameter.value;
    const int64_t rows = std::max<int64_t>(kElements / target.columns(), 1);
    for (int64_t first = 0; first < target.rows(); first += rows) {
      const int64_t count = std::min(rows, target.rows() - first);
      upload_numbers(ops_, target.row_slice(first, count),
                     first_numbers(parameter, seed, i, first, count));
    }
  }
  if (masters) ops_.round_weights(values_, masters);
}

PassContext Model::context(const Batch& batch, Pass pass, Probe* probe) {
  const int64_t sequences = batch.tokens.rows();
  const int64_t tokens = batch.tokens.columns();
  check(sequences <= workload_.micro_batch && tokens <= workload_.tokens && sequences > 0,
        "a batch within the workload");
  rows_ = sequences * tokens;
  pass_ = pass;
  return {ops_, config_, structure_.parameters, sequences, tokens, 0, pass, probe, batch.tokens};
}

// Joint j ends the layer before it and begins the next one.
JointSites Model::sites_shown(size_t joint) const {
  const auto layer = static_cast<int64_t>(joint / 2);
  if (joint % 2 == 1) return {{ProbeSite::residual_mid}, {layer}};
  JointSites shown;
  if (layer > 0) {
    shown.residual.push_back(ProbeSite::residual_post);
    shown.layers.push_back(layer - 1);
  }
  const bool last = layer == config_.layers;
  shown.residual.push_back(last ? ProbeSite::final_pre : ProbeSite::residual_pre);
  shown.layers.push_back(last ? -1 : layer);
  return shown;
}

void Model::forward(const Batch& batch, Pass pass_kind, Probe* probe) {
  const PassContext pass = context(batch, pass_kind, probe);
  const Joint& first = structure_.joints.front();
  const Tensor x = first.sum(rows_);
  ops_.embedding_forward(x, batch.tokens, pass.value(structure_.token_embedding),
                         pass.value(structure_.position_embedding), 0);
  pass.show(ProbeSite::embedding, -1, x);
  if (pass.dropout(kEmbeddingDropout).probability > 0) {
    ops_.dropout(x, x, pass.batch, pass.dropout(kEmbeddingDropout));
  }
  first.forward(pass, structure_.sites, {}, {}, sites_shown(0));
  run_layers(pass, 0, config_.layers);
}

void Model::forward_from(int64_t layer, ConstTensor x, const Batch& batch, Pass pass_kind,
                         Probe* probe) {
  forward_layers(layer, config_.layers, x, batch, pass_kind, probe);
}

Tensor Model::forward_layers(int64_t first, int64_t end, ConstTensor x, const Batch& batch,
                             Pass pass_kind, Probe* probe) {
  check(first >= 0 && first <= end && end <= config_.layers, "layers of the model");
  const PassContext pass = context(batch, pass_kind, probe);
  const Joint& joint = structure_.joints[static_cast<size_t>(2 * first)];
  ops_.copy(joint.residual(rows_), x);
  joint.forward_before(pass, structure_.sites);
  run_layers(pass, first, end);
  return structure_.joints[static_cast<size_t>(2 * end)].residual(rows_);
}

// The transformer: x ← x + Attention(N(x)), x ← x + MLP(N(x)), wherever the joints put N.
void Model::run_layers(const PassContext& pass, int64_t first, int64_t end) {
  const Tensor room = first_rows(structure_.temporaries.branch, rows_);
  for (auto layer = static_cast<size_t>(first); layer < static_cast<size_t>(end); ++layer) {
    const auto number = static_cast<int64_t>(layer);
    AttentionLayer& attention = structure_.attention[layer];
    const Tensor branch = structure_.joints[2 * layer + 1].branch(room);
    if (pass.pass == Pass::decoding) {
      attention_decode(pass, attention, branch, attention_input(pass, layer));
    } else {
      attention_forward(pass, attention, branch, attention_input(pass, layer));
    }
    finish_sublayer(pass, 2 * layer + 1, attention_branch_dropout(number),
                    ProbeSite::attention_out);

    mlp_forward(pass, structure_.mlp[layer], structure_.joints[2 * layer + 2].branch(room),
                structure_.joints[2 * layer + 1].normed(rows_));
    finish_sublayer(pass, 2 * layer + 2, mlp_branch_dropout(number), ProbeSite::mlp_out);
  }
  last_layer_kept_ = end == config_.layers;
  if (end == config_.layers) pass.show(ProbeSite::final, -1, final_activation());
}

// After the joint's forward, and again in backward: values' own input is not kept.
AttentionInput<ConstTensor> Model::attention_input(const PassContext& pass, size_t layer) {
  const Joint& joint = structure_.joints[2 * layer];
  if (!joint.values_apart(structure_.sites)) return {joint.normed(rows_), {}};
  check(workload_.attention_norms == AttentionNorms::apart,
        "a workload with room for values apart from queries and keys");
  const Tensor values = first_rows(structure_.temporaries.normed_values, rows_);
  joint.forward_values(pass, structure_.sites, values);
  return {joint.normed(rows_), values};
}

// What follows every sublayer: dropout of the branch, then the joint.
void Model::finish_sublayer(const PassContext& pass, size_t joint, int64_t dropout,
                            ProbeSite site) {
  const Tensor room = first_rows(structure_.temporaries.branch, rows_);
  const Tensor branch = structure_.joints[joint].branch(room);
  pass.show(site, static_cast<int64_t>((joint - 1) / 2), branch);
  if (pass.dropout(dropout).probability > 0) {
    ops_.dropout(branch, branch, pass.batch, pass.dropout(dropout));
  }
  structure_.joints[joint].forward(pass, structure_.sites,
                                   structure_.joints[joint - 1].residual(rows_), room,
                                   sites_shown(joint));
}

void Model::head(Tensor logits, ConstTensor x) {
  const auto value = [&](int parameter) {
    return parameter < 0 ? ConstTensor{}
                         : structure_.parameters[static_cast<size_t>(parameter)].value;
  };
  ops_.linear_forward(logits, x, value(structure_.head), value(structure_.head_bias));
}

Tensor Model::losses(const Batch& batch, Probe* probe) {
  const Tensor losses = first_rows(structure_.temporaries.losses, rows_);
  const Tensor room = structure_.temporaries.logits;
  const ConstTensor targets = batch.targets.reshaped({rows_, 1});
  for (int64_t first = 0; first < rows_; first += room.rows()) {
    const int64_t count = std::min(room.rows(), rows_ - first);
    const Tensor logits = room.row_slice(0, count);
    head(logits, final_activation().row_slice(first, count));
    if (probe != nullptr) probe->activation(ProbeSite::logits, -1, logits, first);
    ops_.cross_entropy_forward(losses.row_slice(first, count), logits,
                               targets.row_slice(first, count));
  }
  return losses;
}

// Loss and the gradient of the head's input (into d_normed), chunk by chunk.
void Model::head_backward(const PassContext& pass, const Batch& batch) {
  const ModelStructure::Temporaries& room = structure_.temporaries;
  const Tensor losses = first_rows(room.losses, rows_);
  const ConstTensor targets = batch.targets.reshaped({rows_, 1});
  for (int64_t first = 0; first < rows_; first += room.logits.rows()) {
    const int64_t count = std::min(room.logits.rows(), rows_ - first);
    const Tensor logits = room.logits.row_slice(0, count);
    const Tensor x = final_activation().row_slice(first, count);
    head(logits, x);
    pass.show(ProbeSite::logits, -1, logits, first);
    ops_.cross_entropy_backward(losses.row_slice(first, count), logits,
                                targets.row_slice(first, count));
    pass.show_gradient(ProbeSite::logits, -1, logits, first);
    ops_.linear_backward_weight(pass.gradient(structure_.head), pass.gradient(structure_.head_bias),
                                logits, x);
    ops_.linear_backward_input(room.d_normed.row_slice(first, count), logits,
                               pass.value(structure_.head));
  }
  ops_.add_loss(losses);
}

// What a layer's backward needs and its forward has left to later layers; the last layer's is
// there.
void Model::compute_again(const PassContext& shown, size_t layer) {
  if (workload_.recompute == Recompute::none || layer + 1 == structure_.mlp.size()) return;
  PassContext pass = shown;
  pass.probe = nullptr;
  const size_t middle = 2 * layer + 1;
  const Joint& joint = structure_.joints[middle];
  if (workload_.recompute == Recompute::block) {
    const Tensor room = first_rows(structure_.temporaries.branch, rows_);
    attention_forward(pass, structure_.attention[layer], joint.branch(room),
                      attention_input(pass, layer));
    finish_sublayer(pass, middle, attention_branch_dropout(static_cast<int64_t>(layer)),
                    ProbeSite::attention_out);
  }
  mlp_activate(pass, structure_.mlp[layer], joint.normed(rows_));
}

void Model::backward(const Batch& batch, const BucketDone& bucket_done, Probe* probe) {
  check(workload_.purpose == Purpose::training, "backward of a model for training");
  check(last_layer_kept_, "a forward of all layers before backward");
  last_layer_kept_ = workload_.recompute == Recompute::none;
  const PassContext pass = context(batch, pass_, probe);
  const ModelStructure::Temporaries& room = structure_.temporaries;
  const Tensor d_stream = first_rows(room.d_stream, rows_);
  const Tensor d_normed = first_rows(room.d_normed, rows_);
  const Tensor d_normed_values = first_rows(room.d_normed_values, rows_);
  const auto done = [&](int64_t bucket) {
    if (bucket_done) bucket_done(static_cast<int>(bucket));
  };
  Joint::Gradients gradients;
  const auto pass_joint = [&](size_t joint, Joint::Position position) {
    const Joint& here = structure_.joints[joint];
    const Tensor d_values = here.values_apart(structure_.sites) ? d_normed_values : Tensor{};
    gradients = here.backward(pass, structure_.sites,
                              {d_stream, d_normed, d_values, first_rows(room.d_branch, rows_)},
                              position, sites_shown(joint));
  };
  // Of the branch before its dropout.
  const auto d_branch = [&](int64_t dropout, ProbeSite site, int64_t layer) {
    Tensor gradient = gradients.branch;
    if (pass.dropout(dropout).probability > 0) {
      gradient = first_rows(room.d_branch, rows_);
      ops_.dropout(gradient, gradients.branch, pass.batch, pass.dropout(dropout));
    }
    pass.show_gradient(site, layer, gradient);
    return gradient;
  };

  head_backward(pass, batch);
  pass.show_gradient(ProbeSite::final, -1, d_normed);
  pass_joint(structure_.joints.size() - 1, Joint::Position::last);
  if (std_loss_) {
    const Joint& last = structure_.joints.back();
    ops_.add_std_loss(d_stream, last.residual(rows_), last.before_statistics(rows_), batch.tokens,
                      batch.lengths, *std_loss_);
  }
  done(0);
  for (int64_t layer = config_.layers - 1; layer >= 0; --layer) {
    const auto at = static_cast<size_t>(layer);
    compute_again(pass, at);
    mlp_backward(pass, structure_.mlp[at], room.mlp, d_normed,
                 d_branch(mlp_branch_dropout(layer), ProbeSite::mlp_out, layer),
                 structure_.joints[2 * at + 1].normed(rows_));
    pass_joint(2 * at + 1, Joint::Position::inner);
    attention_backward(pass, structure_.attention[at], room.attention, {d_normed, d_normed_values},
                       d_branch(attention_branch_dropout(layer), ProbeSite::attention_out, layer),
                       attention_input(pass, at));
    pass_joint(2 * at, Joint::Position::inner);
    done(config_.layers - layer);
  }
  const Tensor d_embedding = gradients.x;
  if (pass.dropout(kEmbeddingDropout).probability > 0) {
    ops_.dropout(d_embedding, d_embedding, pass.batch, pass.dropout(kEmbeddingDropout));
  }
  pass.show_gradient(ProbeSite::embedding, -1, d_embedding);
  ops_.embedding_backward(pass.gradient(structure_.token_embedding),
                          pass.gradient(structure_.position_embedding), d_embedding, batch.tokens);
  done(config_.layers + 1);
}

void Model::set_norm_state(size_t index, const NormState& state) {
  NormSite& site = structure_.sites.at(index);
  const bool special = state.has_special() && !state.live();
  check(state.gate >= 0 && state.gate <= 1 && (state.live() || state.sigma > 0) &&
            (!special || state.special_sigma > 0),
        "a norm's gate within [0, 1], and a σ above 0 where it is below 1");
  site.state = state;
  upload_numbers(
      ops_, site.on_device,
      {state.gate, state.live() ? 0 : 1 / state.sigma, special ? 1 / state.special_sigma : 0});
}

void Model::zero_norm_stds() { ops_.zero(structure_.std_sums); }

void Model::add_norm_stds(const Batch& batch) {
  const PassContext pass = context(batch, pass_, nullptr);
  const auto add = [&](std::optional<size_t> site, Tensor statistics) {
    if (!site) return;
    ops_.add_stds(structure_.std_sums.row_slice(static_cast<int64_t>(*site), 1), statistics,
                  batch.lengths, structure_.sites[*site].special(pass));
  };
  for (const Joint& joint : structure_.joints) {
    add(joint.norms().inside, joint.inside_statistics(rows_));
    add(joint.norms().after, joint.after_statistics(rows_));
    add(joint.norms().before, joint.before_statistics(rows_));
    // Queries, keys and values read one stream, and may have other special tokens.
    add(joint.norms().values, joint.before_statistics(rows_));
  }
}

std::vector<NormStdSums> Model::download_norm_stds() {
  std::vector<NormStdSums> sums(structure_.sites.size());
  static_assert(sizeof(NormStdSums) == 2 * sizeof(double));
  ops_.download(sums.data(), structure_.std_sums);
  return sums;
}

void Model::set_std_loss(const std::optional<StdLoss>& settings) {
  const JointNorms& last = structure_.joints.back().norms();
  check(!settings || (last.before && !last.after), "an auxiliary loss where the last norm stands");
  std_loss_ = settings;
}

void Model::start_decoding() {
  decoded_tokens_ = 0;
  if (cache_memory_.data() != nullptr) return;
  const Shape shape{config_.context, 2 * config_.kv_columns()};
  const auto lay_out_caches = [&](Arena& arena) {
    for (AttentionLayer& attention : structure_.attention) {
      attention.cache = arena.take(ops_.working_type(), shape);
    }
  };
  Arena measuring;
  lay_out_caches(measuring);
  cache_memory_ = ops_.allocate(measuring.peak_bytes());
  Arena arena(cache_memory_.data(), measuring.peak_bytes());
  lay_out_caches(arena);
}

Tensor Model::decode(ConstTensor tokens) {
  check(cache_memory_.data() != nullptr, "start_decoding before decode");
  check(decoded_tokens_ + tokens.columns() <= config_.context, "tokens within the context");
  PassContext pass = context({tokens, {}}, Pass::decoding, nullptr);
  pass.first_position = decoded_tokens_;
  const Joint& first = structure_.joints.front();
  ops_.embedding_forward(first.sum(rows_), tokens, pass.value(structure_.token_embedding),
                         pass.value(structure_.position_embedding), decoded_tokens_);
  first.forward(pass, structure_.sites, {}, {}, {});
  run_layers(pass, 0, config_.layers);
  decoded_tokens_ += tokens.columns();
  const Tensor logits = structure_.temporaries.logits.row_slice(0, 1);
  head(logits, final_activation().row_slice(rows_ - 1, 1));
  return logits;
}

}  // namespace normlab

#include "models/attention.h"

namespace normlab {
namespace {

// The three parts of packed projections, as column slices.
template <typename View>
struct Packed {
  View q, k, v;

  Packed(View packed, const ModelConfig& config)
      : q(packed.column_slice(0, config.query_columns())),
        k(packed.column_slice(config.query_columns(), config.kv_columns())),
        v(packed.column_slice(config.query_columns() + config.kv_columns(), config.kv_columns())) {}
};

// Of a bias that may be absent.
template <typename View>
View columns_or_none(View tensor, int64_t first, int64_t count) {
  return tensor ? tensor.column_slice(first, count) : tensor;
}

AttentionShape shape_of(const PassContext& pass, int64_t key_tokens) {
  return {pass.batch,        pass.tokens,          key_tokens,
          pass.config.heads, pass.config.kv_heads, pass.config.head_size};
}

void rotate(const PassContext& pass, Tensor x, RopeDirection direction) {
  if (pass.config.positions != Positions::rope) return;
  pass.ops.rope(x, pass.tokens, pass.config.head_size, pass.config.rope_base, pass.first_position,
                direction);
}

// One of the products that make up the packed projections: outputs [first, first + count), from one
// input.
struct Projection {
  int64_t first;
  int64_t count;
  ConstTensor input;
  Tensor d_input;  // in backward
};

// One for all, or one for queries and keys and one for values.
std::vector<Projection> projections(const ModelConfig& config,
                                    const AttentionInput<ConstTensor>& input,
                                    const AttentionInput<Tensor>& d_input) {
  const int64_t all = config.packed_columns();
  if (!input.values) return {{0, all, input.normed, d_input.normed}};
  const int64_t values = config.kv_columns();
  return {{0, all - values, input.normed, d_input.normed},
          {all - values, values, input.values, d_input.values}};
}

// qkv = input · Wᵀ + b, with rotated queries and keys.
Packed<Tensor> project(const PassContext& pass, AttentionLayer& attention,
                       const AttentionInput<ConstTensor>& input) {
  const Tensor qkv = first_rows(attention.qkv, pass.rows());
  const ConstTensor weight = pass.value(attention.qkv_weight);
  const ConstTensor bias = pass.value(attention.qkv_bias);
  for (const Projection& part : projections(pass.config, input, {})) {
    pass.ops.linear_forward(qkv.column_slice(part.first, part.count), part.input,
                            weight.row_slice(part.first, part.count),
                            columns_or_none(bias, part.first, part.count));
  }
  const Packed<Tensor> parts(qkv, pass.config);
  rotate(pass, parts.q, RopeDirection::forward);
  rotate(pass, parts.k, RopeDirection::forward);
  pass.show(ProbeSite::q, attention.layer, parts.q);
  pass.show(ProbeSite::k, attention.layer, parts.k);
  return parts;
}

Tensor lse_of(const PassContext& pass, const AttentionLayer& attention) {
  // Rows are laid out anew where the pass is shorter than the longest.
  return {attention.lse.data, attention.lse.dtype,
          Shape{pass.batch * pass.config.heads, pass.tokens}};
}

}  // namespace

AttentionLayer make_attention_layer(const std::vector<Parameter>& parameters, int64_t layer) {
  const std::string prefix = "layers." + std::to_string(layer) + ".attention.";
  AttentionLayer attention;
  attention.layer = layer;
  attention.qkv_weight = find_parameter(parameters, prefix + "qkv.weight");
  attention.out_weight = find_parameter(parameters, prefix + "out.weight");
  attention.qkv_bias = find_parameter_or_none(parameters, prefix + "qkv.bias");
  attention.out_bias = find_parameter_or_none(parameters, prefix + "out.bias");
  return attention;
}

void lay_out(AttentionLayer& attention, Arena& arena, const ModelConfig& config, int64_t batch,
             int64_t tokens, DType working_type, DType statistics_type) {
  attention.qkv = arena.take(working_type, {batch * tokens, config.packed_columns()});
  attention.z = arena.take(working_type, {batch * tokens, config.query_columns()});
  attention.lse = arena.take(statistics_type, {batch * config.heads, tokens});
}

void attention_forward(const PassContext& pass, AttentionLayer& attention, Tensor branch,
                       const AttentionInput<ConstTensor>& input) {
  const Packed<Tensor> parts = project(pass, attention, input);
  const Tensor z = first_rows(attention.z, pass.rows());
  const Tensor lse = lse_of(pass, attention);
  pass.ops.attention_forward(z, lse, parts.q, parts.k, parts.v, shape_of(pass, pass.tokens),
                             pass.dropout(attention_probability_dropout(attention.layer)));
  pass.show(ProbeSite::attention_lse, attention.layer, lse);
  pass.show(ProbeSite::attention_z, attention.layer, z);
  pass.ops.linear_forward(branch, z, pass.value(attention.out_weight),
                          pass.value(attention.out_bias));
}

void attention_decode(const PassContext& pass, AttentionLayer& attention, Tensor branch,
                      const AttentionInput<ConstTensor>& input) {
  check(pass.batch == 1, "attention_decode: one sequence");
  const Packed<Tensor> parts = project(pass, attention, input);
  const int64_t columns = pass.config.kv_columns();
  const Tensor added = attention.cache.row_slice(pass.first_position, pass.tokens);
  pass.ops.copy(added.column_slice(0, columns), parts.k);
  pass.ops.copy(added.column_slice(columns, columns), parts.v);
  const int64_t key_tokens = pass.first_position + pass.tokens;
  const ConstTensor seen = attention.cache.row_slice(0, key_tokens);
  const Tensor z = first_rows(attention.z, pass.rows());
  pass.ops.attention_forward(z, lse_of(pass, attention), parts.q, seen.column_slice(0, columns),
                             seen.column_slice(columns, columns), shape_of(pass, key_tokens), {});
  pass.ops.linear_forward(branch, z, pass.value(attention.out_weight),
                          pass.value(attention.out_bias));
}

void attention_backward(const PassContext& pass, const AttentionLayer& attention,
                        const AttentionGradients& room, const AttentionInput<Tensor>& d_input,
                        ConstTensor d_branch, const AttentionInput<ConstTensor>& input) {
  const Tensor z = first_rows(attention.z, pass.rows());
  const Tensor d_z = first_rows(room.d_z, pass.rows());
  const Tensor d_qkv = first_rows(room.d_qkv, pass.rows());
  pass.ops.linear_backward_weight(pass.gradient(attention.out_weight),
                                  pass.gradient(attention.out_bias), d_branch, z);
  pass.ops.linear_backward_input(d_z, d_branch, pass.value(attention.out_weight));
  pass.show_gradient(ProbeSite::attention_z, attention.layer, d_z);
  const Packed<Tensor> parts(first_rows(attention.qkv, pass.rows()), pass.config);
  const Packed<Tensor> d_parts(d_qkv, pass.config);
  pass.ops.attention_backward(d_parts.q, d_parts.k, d_parts.v, d_z, z, lse_of(pass, attention),
                              parts.q, parts.k, parts.v, shape_of(pass, pass.tokens),
                              pass.dropout(attention_probability_dropout(attention.layer)));
  pass.show_gradient(ProbeSite::q, attention.layer, d_parts.q);
  pass.show_gradient(ProbeSite::k, attention.layer, d_parts.k);
  rotate(pass, d_parts.q, RopeDirection::backward);
  rotate(pass, d_parts.k, RopeDirection::backward);
  const Tensor d_weight = pass.gradient(attention.qkv_weight);
  const Tensor d_bias = pass.gradient(attention.qkv_bias);
  const ConstTensor weight = pass.value(attention.qkv_weight);
  for (const Projection& part : projections(pass.config, input, d_input)) {
    const Tensor d_part = d_qkv.column_slice(part.first, part.count);
    pass.ops.linear_backward_weight(d_weight.row_slice(part.first, part.count),
                                    columns_or_none(d_bias, part.first, part.count), d_part,
                                    part.input);
    pass.ops.linear_backward_input(part.d_input, d_part, weight.row_slice(part.first, part.count));
  }
}

}  // namespace normlab

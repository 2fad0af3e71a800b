#include "models/mlp.h"

namespace normlab {

MlpLayer make_mlp_layer(const std::vector<Parameter>& parameters, int64_t layer) {
  const std::string prefix = "layers." + std::to_string(layer) + ".mlp.";
  MlpLayer mlp;
  mlp.layer = layer;
  mlp.in_weight = find_parameter(parameters, prefix + "in.weight");
  mlp.in_bias = find_parameter_or_none(parameters, prefix + "in.bias");
  mlp.out_weight = find_parameter(parameters, prefix + "out.weight");
  mlp.out_bias = find_parameter_or_none(parameters, prefix + "out.bias");
  return mlp;
}

void lay_out(MlpLayer& mlp, Arena& arena, const ModelConfig& config, int64_t rows,
             DType working_type) {
  mlp.hidden = arena.take(working_type, {rows, config.hidden_columns()});
  mlp.activated = arena.take(working_type, {rows, config.feed_forward});
}

void mlp_activate(const PassContext& pass, MlpLayer& mlp, ConstTensor normed) {
  const Tensor hidden = first_rows(mlp.hidden, pass.rows());
  const Tensor activated = first_rows(mlp.activated, pass.rows());
  pass.ops.linear_forward(hidden, normed, pass.value(mlp.in_weight), pass.value(mlp.in_bias));
  pass.show(ProbeSite::mlp_pre, mlp.layer, hidden);
  switch (pass.config.activation) {
    case Activation::gelu:
      pass.ops.gelu_forward(activated, hidden);
      break;
    case Activation::swiglu:
      pass.ops.swiglu_forward(activated, hidden);
      break;
  }
  pass.show(ProbeSite::mlp_post, mlp.layer, activated);
}

void mlp_forward(const PassContext& pass, MlpLayer& mlp, Tensor branch, ConstTensor normed) {
  mlp_activate(pass, mlp, normed);
  pass.ops.linear_forward(branch, first_rows(mlp.activated, pass.rows()),
                          pass.value(mlp.out_weight), pass.value(mlp.out_bias));
}

void mlp_backward(const PassContext& pass, const MlpLayer& mlp, const MlpGradients& room,
                  Tensor d_normed, ConstTensor d_branch, ConstTensor normed) {
  const Tensor hidden = first_rows(mlp.hidden, pass.rows());
  const Tensor d_activated = first_rows(room.d_activated, pass.rows());
  const Tensor d_hidden = first_rows(room.d_hidden, pass.rows());
  pass.ops.linear_backward_weight(pass.gradient(mlp.out_weight), pass.gradient(mlp.out_bias),
                                  d_branch, first_rows(mlp.activated, pass.rows()));
  pass.ops.linear_backward_input(d_activated, d_branch, pass.value(mlp.out_weight));
  pass.show_gradient(ProbeSite::mlp_post, mlp.layer, d_activated);
  switch (pass.config.activation) {
    case Activation::gelu:
      pass.ops.gelu_backward(d_hidden, d_activated, hidden);
      break;
    case Activation::swiglu:
      pass.ops.swiglu_backward(d_hidden, d_activated, hidden);
      break;
  }
  pass.show_gradient(ProbeSite::mlp_pre, mlp.layer, d_hidden);
  pass.ops.linear_backward_weight(pass.gradient(mlp.in_weight), pass.gradient(mlp.in_bias),
                                  d_hidden, normed);
  pass.ops.linear_backward_input(d_normed, d_hidden, pass.value(mlp.in_weight));
}

}  // namespace normlab

// copy, add, zero; embeddings.
#include "tests/op_cases.h"

namespace normlab {
namespace {

OpCase moves_case(const std::string& name, int64_t rows, int64_t columns, int64_t padding,
                  Element element = Element::working) {
  OpCase op_case{.name = name};
  HostTensors& tensors = op_case.tensors;
  tensors.input("a", rows, columns, {.rows = Rows::hard}).padding = padding;
  tensors.input("b", rows, columns).padding = 2 * padding;
  tensors.written("copied", rows, columns).padding = 3 * padding;
  tensors.written("sum", rows, columns);
  tensors.updated("left", rows, columns).padding = padding;
  tensors.updated("right", rows, columns).padding = padding;
  tensors.written("zeroed", rows, columns).padding = padding;
  for (HostMatrix& matrix : tensors.all()) matrix.element = element;
  op_case.forward = [](Ops& ops, const DeviceTensors& t) {
    ops.copy(t["copied"], t["a"]);
    ops.add(t["sum"], t["a"], t["b"]);
    ops.add(t["left"], t["left"], t["b"]);
    ops.add(t["right"], t["a"], t["right"]);
    ops.zero(t["zeroed"]);
  };
  op_case.reference = [](HostTensors& t) {
    const std::vector<double>& a = t["a"].values;
    const std::vector<double>& b = t["b"].values;
    t["copied"].values = a;
    t["zeroed"].values.assign(a.size(), 0);
    for (size_t i = 0; i < a.size(); ++i) {
      t["sum"].values[i] = a[i] + b[i];
      t["left"].values[i] += b[i];
      t["right"].values[i] += a[i];
    }
  };
  return op_case;
}

struct EmbeddingSize {
  int64_t batch, tokens, width, vocabulary;
  int64_t context;  // 0: no position table
  int64_t first_position;
};

void embedding_reference(HostTensors& t, const EmbeddingSize& size) {
  const HostMatrix& tokens = t["tokens"];
  HostMatrix& x = t["x"];
  for (int64_t row = 0; row < x.rows; ++row) {
    const auto token = static_cast<int64_t>(tokens.values[static_cast<size_t>(row)]);
    const int64_t position = size.first_position + row % size.tokens;
    for (int64_t c = 0; c < size.width; ++c) {
      x(row, c) = t["token_table"](token, c);
      if (size.context > 0) x(row, c) += t["position_table"](position, c);
      if (size.first_position > 0) continue;
      t["d_token_table"](token, c) += t["d_x"](row, c);
      if (size.context > 0) t["d_position_table"](position, c) += t["d_x"](row, c);
    }
  }
}

OpCase embedding_case(const std::string& name, const EmbeddingSize& size) {
  OpCase op_case{.name = name};
  const int64_t rows = size.batch * size.tokens;
  HostTensors& tensors = op_case.tensors;
  tensors.tokens("tokens", size.batch, size.tokens, size.vocabulary);
  tensors.input("token_table", size.vocabulary, size.width).padding = 4;
  tensors.written("x", rows, size.width).padding = 3;
  tensors.input("d_x", rows, size.width).padding = 2;
  HostMatrix& d_tokens = tensors.updated("d_token_table", size.vocabulary, size.width);
  d_tokens.padding = 1;
  d_tokens.element = Element::gradient;
  const bool positions = size.context > 0;
  if (positions) {
    tensors.input("position_table", size.context, size.width).padding = 5;
    HostMatrix& d_positions = tensors.updated("d_position_table", size.context, size.width);
    d_positions.padding = 5;
    d_positions.element = Element::gradient;
  }
  op_case.forward = [=](Ops& ops, const DeviceTensors& t) {
    ops.embedding_forward(t["x"], t["tokens"], t["token_table"],
                          positions ? t["position_table"] : Tensor(), size.first_position);
  };
  op_case.reference = [=](HostTensors& t) { embedding_reference(t, size); };
  if (size.first_position > 0) return op_case;
  op_case.backward = [=](Ops& ops, const DeviceTensors& t) {
    ops.embedding_backward(t["d_token_table"], positions ? t["d_position_table"] : Tensor(),
                           t["d_x"], t["tokens"]);
  };
  op_case.outputs = {{"x", "d_x"}};
  op_case.inputs = {{"token_table", "d_token_table"}};
  if (positions) op_case.inputs.push_back({"position_table", "d_position_table"});
  return op_case;
}

}  // namespace

std::vector<OpCase> move_cases() {
  return {moves_case("moves, contiguous", 37, 48, 0),
          moves_case("moves, strided", 37, 48, 5),
          moves_case("moves, one row", 1, 7, 3),
          moves_case("moves, large", 700, 500, 0),
          moves_case("moves, gradients", 1, 5000, 0, Element::gradient),
          moves_case("moves, gradients, strided", 37, 48, 5, Element::gradient)};
}

std::vector<OpCase> embedding_cases() {
  return {embedding_case("embedding, with positions", {3, 13, 48, 29, 16, 0}),
          embedding_case("embedding, without positions", {2, 5, 48, 7, 0, 0}),
          embedding_case("embedding, one token", {1, 1, 7, 3, 4, 0}),
          embedding_case("embedding, from position 6", {2, 5, 48, 7, 11, 6}),
          embedding_case("embedding, large", {4, 130, 72, 50257, 256, 0})};
}

}  // namespace normlab

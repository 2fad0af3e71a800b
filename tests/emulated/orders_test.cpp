// Every kernel gives the same bits in whatever order the threads of a block run.
#include "catch.h"
#include "tests/emulator/emulator.h"
#include "tests/op_cases_attention.h"

namespace normlab {
namespace {

using emulator::Order;

// Restores the emulator's settings.
class InOrder {
 public:
  explicit InOrder(Order order) : before_(emulator::settings()) {
    emulator::Settings settings = before_;
    settings.order = order;
    settings.seed = 11;
    emulator::configure(settings);
  }
  ~InOrder() { emulator::configure(before_); }
  InOrder(const InOrder&) = delete;
  InOrder& operator=(const InOrder&) = delete;

 private:
  emulator::Settings before_;
};

// What all tensors of a row hold after it has run in an order.
std::vector<std::vector<std::byte>> outcome(const OpCase& op_case, Ops& ops, Order order) {
  const InOrder in_order(order);
  const DeviceTensors tensors(ops, op_case.tensors);
  ops.set_step_state(op_case.state);
  ops.zero_loss();
  op_case.forward(ops, tensors);
  if (op_case.backward) op_case.backward(ops, tensors);
  ops.synchronize();
  std::vector<std::vector<std::byte>> bytes;
  for (const HostMatrix& matrix : op_case.tensors.all())
    bytes.push_back(tensors.bytes(matrix.name));
  return bytes;
}

void check_orders(const std::vector<OpCase>& cases, Precision precision) {
  const auto ops = make_ops(Device::cuda, precision);
  for (const OpCase& op_case : cases) {
    INFO(op_case.name);
    const auto forward = outcome(op_case, *ops, Order::forward);
    for (const Order order : {Order::backward, Order::shuffled, Order::run_ahead}) {
      const bool same = outcome(op_case, *ops, order) == forward;
      CHECK(same);
    }
  }
}

void check_orders(const std::vector<OpCase>& cases) {
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    check_orders(cases, precision);
  }
}

// Long rows take minutes in four orders; op_table_test.cpp runs them in one.
void check_orders_of_short(std::vector<OpCase> cases) {
  constexpr int64_t kMostElements = 20000;
  std::erase_if(cases, [](const OpCase& op_case) {
    int64_t elements = 0;
    for (const HostMatrix& matrix : op_case.tensors.all()) elements += matrix.rows * matrix.columns;
    return elements > kMostElements;
  });
  REQUIRE(cases.size() > 3);
  check_orders(cases);
}

}  // namespace

TEST_CASE("orders: moves and embedding give the same bits in four orders of threads") {
  check_orders(move_cases());
  check_orders(embedding_cases());
}
TEST_CASE("orders: norms give the same bits in four orders of threads") {
  check_orders(norm_cases());
  check_orders(row_std_cases());
}
TEST_CASE("orders: linear gives the same bits in four orders of threads") {
  check_orders(linear_cases());
}
TEST_CASE("orders: activations and dropout give the same bits in four orders of threads") {
  check_orders(activation_cases());
  check_orders(dropout_cases());
}
TEST_CASE("orders: attention gives the same bits in four orders of threads") {
  check_orders_of_short(attention_cases());
}
// A warp that runs ahead, or lags behind, does so by a whole buffer.
TEST_CASE("orders: attention over many tiles gives the same bits in four orders of threads") {
  for (const double dropout : {0.0, 0.5}) {
    for (const int64_t padding : {0, 1}) {
      OpCase op_case =
          attention_case("attention", 0, {.shape = {1, 390, 390, 1, 1, 16}, .dropout = dropout});
      for (HostMatrix& matrix : op_case.tensors.all()) matrix.padding = padding;
      check_orders({op_case}, Precision::bf16);
    }
  }
}
TEST_CASE("orders: loss and updates give the same bits in four orders of threads") {
  check_orders(loss_cases());
  check_orders(update_cases());
}

}  // namespace normlab

// Memory and transfers of the CUDA backend.
#include <numeric>
#include <vector>

#include "catch.h"
#include "kernels/ops.h"

namespace normlab {
namespace {

// A flat tensor of floats on a device.
struct Floats {
  Floats(Ops& ops, int64_t count)
      : ops(ops), memory(ops.allocate(count * 4)), view(memory.data(), DType::f32, {1, count}) {}
  void upload(std::vector<float> values) const { ops.upload(view, values.data()); }
  std::vector<float> download() const {
    std::vector<float> values(static_cast<size_t>(view.elements()));
    ops.download(values.data(), view);
    return values;
  }
  Ops& ops;
  Memory memory;
  Tensor view;
};

std::vector<float> counting(int64_t count, float first = 0) {
  std::vector<float> values(static_cast<size_t>(count));
  std::iota(values.begin(), values.end(), first);
  return values;
}

// Not CHECK(a == b): a report of millions of numbers takes longer than anyone waits.
void check_holds(const Floats& tensor, const std::vector<float>& wanted) {
  const bool same = tensor.download() == wanted;
  CHECK(same);
}

std::string error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

void check_contains(const std::string& text, const std::string& part) {
  INFO(text);
  CHECK(text.find(part) != std::string::npos);
}

}  // namespace

TEST_CASE("CUDA memory: an upload has read its source when it returns") {
  const auto ops = make_ops(Device::cuda, Precision::fp32);
  const Floats tensor(*ops, 1000);
  std::vector<float> source = counting(1000);
  ops->upload(tensor.view, source.data());
  source.assign(1000, -1);
  check_holds(tensor, counting(1000));
}

TEST_CASE("CUDA memory: uploads of any size, and more than are on their way at once, arrive") {
  const auto ops = make_ops(Device::cuda, Precision::fp32);
  // Three times what is staged.
  const int64_t many = 3 << 20;
  const Floats large(*ops, many);
  large.upload(counting(many));
  std::vector<Floats> small;
  constexpr int kSmall = 40;
  constexpr int64_t kCount = 50'001;
  for (int i = 0; i < kSmall; ++i) {
    small.emplace_back(*ops, kCount);
    small.back().upload(counting(kCount, static_cast<float>(i)));
  }
  for (int i = 0; i < kSmall; ++i) {
    check_holds(small[static_cast<size_t>(i)], counting(kCount, static_cast<float>(i)));
  }
  check_holds(large, counting(many));
}

TEST_CASE("CUDA memory: transfers are of contiguous tensors, or of nothing") {
  const auto ops = make_ops(Device::cuda, Precision::fp32);
  const Floats tensor(*ops, 12);
  const Tensor part = Tensor(tensor.view.data, DType::f32, {3, 4}).column_slice(1, 2);
  std::vector<float> host(12);
  CHECK_THROWS_AS(ops->upload(part, host.data()), Error);
  CHECK_THROWS_AS(ops->upload_async(part, host.data(), {}), Error);
  CHECK_THROWS_AS(ops->download(host.data(), part), Error);
  const Tensor nothing = tensor.view.column_slice(3, 0);
  ops->upload(nothing, nullptr);
  ops->upload_async(nothing, nullptr, {});
  ops->download(nullptr, nothing);
}

TEST_CASE("CUDA memory: an allocation beyond the device says what is free and what to do") {
  const auto ops = make_ops(Device::cuda, Precision::fp32);
  const std::string text = error_of([&] { ops->allocate(int64_t{1} << 60); });
  check_contains(text, "cannot allocate 1152921504606846976 bytes of GPU memory (");
  check_contains(text, "bytes are free). Make batch.micro_batch or the model smaller");
  check_contains(error_of([&] { ops->allocate_pinned(int64_t{1} << 60); }),
                 "cannot allocate 1152921504606846976 bytes of pinned memory");
  // And the next verb is not blamed for it.
  const Floats tensor(*ops, 4);
  ops->zero(tensor.view);
  check_holds(tensor, std::vector<float>(4));
  const Memory nothing = ops->allocate(0);
  CHECK(nothing.bytes() == 0);
  CHECK(nothing.data() != nullptr);
}

TEST_CASE("CUDA memory: memory may go while work on it is queued") {
  const auto ops = make_ops(Device::cuda, Precision::fp32);
  const Floats result(*ops, 100);
  {
    const Floats source(*ops, 100);
    source.upload(counting(100));
    ops->copy(result.view, source.view);
  }
  check_holds(result, counting(100));
}

TEST_CASE("CUDA memory: the step's state is copied when it is set") {
  const auto ops = make_ops(Device::cuda, Precision::fp32);
  StepResult result = ops->download_step_result();
  CHECK(result.loss == 0);
  CHECK(result.finite);
  {
    StepState state;
    state.gradient_norm = 2.5;
    state.finite = false;
    ops->set_step_state(state);
    state = {};
  }
  result = ops->download_step_result();
  CHECK(result.gradient_norm == 2.5);
  CHECK_FALSE(result.finite);
}

TEST_CASE("CUDA: a precision has its types, and fp64 is the CPU's") {
  const auto fp32 = make_ops(Device::cuda, Precision::fp32);
  CHECK(fp32->working_type() == DType::f32);
  CHECK_FALSE(fp32->has_masters());
  const auto bf16 = make_ops(Device::cuda, Precision::bf16);
  CHECK(bf16->working_type() == DType::bf16);
  CHECK(bf16->gradient_type() == DType::f32);
  CHECK(bf16->statistics_type() == DType::f32);
  CHECK(bf16->has_masters());
  for (const Precision alone : {Precision::pure_bf16_weights, Precision::pure_bf16_gradients,
                                Precision::pure_bf16_forward}) {
    const auto pure = make_ops(Device::cuda, alone);
    CHECK(pure->working_type() == DType::bf16);
    CHECK_FALSE(pure->has_masters());
    CHECK(pure->device_name() == bf16->device_name() + ", bf16 alone");
  }
  check_contains(error_of([] { make_ops(Device::cuda, Precision::fp64); }), "or run.device: cpu");
}

TEST_CASE("CUDA: the status is the device in one line") {
  CHECK(cuda_available());
  const auto ops = make_ops(Device::cuda, Precision::fp32);
  check_contains(cuda_status(), ops->device_name());
  check_contains(cuda_status(), ", compute capability ");
  check_contains(cuda_status(), " GiB");
  CHECK(cuda_status().find('\n') == std::string::npos);
}

}  // namespace normlab

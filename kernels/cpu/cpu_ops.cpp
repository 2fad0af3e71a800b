#include "kernels/cpu/cpu_ops.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

namespace normlab {
namespace {

constexpr int64_t kCopyGrainRows = 64;

void free_aligned(Ops*, std::byte* data) { std::free(data); }

}  // namespace

template <typename Scalar>
CpuOps<Scalar>::CpuOps(int threads)
    : threads_(threads > 0 ? threads : default_threads()),
      scratch_(static_cast<size_t>(threads_)) {}

template <typename Scalar>
std::string CpuOps<Scalar>::device_name() const {
  return "CPU, " + std::to_string(threads_) + (threads_ == 1 ? " thread" : " threads");
}

template <typename Scalar>
Memory CpuOps<Scalar>::allocate(int64_t bytes) {
  constexpr int64_t kAlignment = 4096;
  const int64_t rounded = std::max<int64_t>((bytes + kAlignment - 1) / kAlignment, 1) * kAlignment;
  void* data = std::aligned_alloc(kAlignment, static_cast<size_t>(rounded));
  if (data == nullptr) {
    throw Error("cannot allocate " + std::to_string(bytes) +
                " bytes of memory. Make batch.micro_batch or the model smaller");
  }
  return {this, static_cast<std::byte*>(data), bytes, free_aligned};
}

template <typename Scalar>
void CpuOps<Scalar>::upload(Tensor target, const void* source) {
  check(target.contiguous(), "upload to a contiguous tensor");
  std::memcpy(target.data, source, static_cast<size_t>(target.elements() * size_of(target.dtype)));
}

template <typename Scalar>
void CpuOps<Scalar>::download(void* target, ConstTensor source) {
  check(source.contiguous(), "download from a contiguous tensor");
  std::memcpy(target, source.data, static_cast<size_t>(source.elements() * size_of(source.dtype)));
}

template <typename Scalar>
StepResult CpuOps<Scalar>::download_step_result() {
  return {losses_.loss, losses_.std_loss, state_.gradient_norm, state_.clip_scale, state_.finite};
}

template <typename Scalar>
void CpuOps<Scalar>::zero(Tensor y) {
  const auto row_bytes = static_cast<size_t>(y.columns() * size_of(y.dtype));
  if (y.contiguous()) {
    constexpr int64_t kGrainBytes = 1 << 20;
    parallel_ranges(threads_, y.elements() * size_of(y.dtype), kGrainBytes,
                    [&](int64_t first, int64_t last, int) {
                      std::memset(y.data + first, 0, static_cast<size_t>(last - first));
                    });
    return;
  }
  parallel_for(threads_, y.rows(), [&](int64_t row, int) {
    std::memset(y.data + row * y.row_stride * size_of(y.dtype), 0, row_bytes);
  });
}

template <typename Scalar>
void CpuOps<Scalar>::copy(Tensor y, ConstTensor x) {
  check(y.rows() == x.rows() && y.columns() == x.columns() && y.dtype == x.dtype,
        "copy between tensors of one shape and type");
  const int64_t size = size_of(y.dtype);
  parallel_ranges(threads_, y.rows(), kCopyGrainRows, [&](int64_t first, int64_t last, int) {
    for (int64_t row = first; row < last; ++row) {
      std::memcpy(y.data + row * y.row_stride * size, x.data + row * x.row_stride * size,
                  static_cast<size_t>(y.columns() * size));
    }
  });
}

template <typename Scalar>
void CpuOps<Scalar>::add(Tensor y, ConstTensor a, ConstTensor b) {
  check(y.rows() == a.rows() && y.rows() == b.rows() && y.columns() == a.columns() &&
            y.columns() == b.columns(),
        "sum of tensors of one shape");
  const auto add_row = [](Scalar* out, const Scalar* left, const Scalar* right, int64_t count) {
    for (int64_t i = 0; i < count; ++i) out[i] = left[i] + right[i];
  };
  Scalar* out = y.as<Scalar>();
  const Scalar* left = a.as<Scalar>();
  const Scalar* right = b.as<Scalar>();
  if (y.contiguous() && a.contiguous() && b.contiguous()) {
    constexpr int64_t kGrain = 1 << 16;
    parallel_ranges(threads_, y.elements(), kGrain, [&](int64_t first, int64_t last, int) {
      add_row(out + first, left + first, right + first, last - first);
    });
    return;
  }
  parallel_for(threads_, y.rows(), [&](int64_t row, int) {
    add_row(out + row * y.row_stride, left + row * a.row_stride, right + row * b.row_stride,
            y.columns());
  });
}

template <typename Scalar>
void CpuOps<Scalar>::reserve_scratch(int64_t elements) {
  for (std::vector<Scalar>& own : scratch_) {
    if (static_cast<int64_t>(own.size()) < elements) own.resize(static_cast<size_t>(elements));
  }
}

template class CpuOps<float>;
template class CpuOps<double>;

}  // namespace normlab

// The second half of every sum over rows: blocks' partials, added up in order.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/partials.h"

namespace normlab {
namespace {

constexpr int kColumns = kWarpSize;  // of a block
constexpr int kShares = 8;           // that divide the partials of a column, one after the other

// A warp adds up its share of the partials of kColumns columns; then the shares are added.
__global__ void __launch_bounds__(kColumns* kShares)
    add_partials_kernel(float* target, Scratch<float> partials, int64_t blocks, int64_t stride,
                        int64_t first, int64_t columns) {
  SharedMemory shared;
  const auto shares = shared.take<float>(kColumns * kShares);
  const int64_t column = int64_t{blockIdx.x} * kColumns + lane_index();
  const int64_t share = (blocks + kShares - 1) / kShares;
  const int64_t begin = warp_index() * share;
  const int64_t end = begin + share < blocks ? begin + share : blocks;
  float sum = 0;
  if (column < columns) {
    for (int64_t block = begin; block < end; ++block) {
      sum += static_cast<float>(partials[block * stride + first + column]);
    }
  }
  shares[warp_index() * kColumns + lane_index()] = sum;
  __syncthreads();
  if (warp_index() > 0 || column >= columns) return;
  sum = 0;
  for (int i = 0; i < kShares; ++i) {
    sum += static_cast<float>(shares[i * kColumns + lane_index()]);
  }
  target[column] += sum;
}

__global__ void __launch_bounds__(kTotalThreads)
    add_total_kernel(float* target, Scratch<float> partials, PartialColumns columns) {
  const float sum = total_of(partials, columns);
  if (threadIdx.x == 0) target[0] += sum;
}

}  // namespace

template <typename Working>
void CudaOps<Working>::add_total(Tensor target, const Scratch<float>& partials, int64_t blocks,
                                 int64_t stride, int64_t first, int64_t columns) {
  launch("add_total", add_total_kernel, {dim3(1), dim3(kTotalThreads), kTotalBytes, stream_},
         target.as<float>(), partials, PartialColumns{blocks, stride, first, columns});
}

template <typename Working>
void CudaOps<Working>::add_partials(Tensor target, const Scratch<float>& partials, int64_t blocks,
                                    int64_t stride, int64_t first) {
  check(target.contiguous(), "add_partials: a contiguous target");
  const int64_t columns = target.elements();
  const LaunchShape shape{dim3(static_cast<unsigned>((columns + kColumns - 1) / kColumns)),
                          dim3(kColumns * kShares),
                          SharedMemory::shared_array_bytes<float>(kColumns * kShares), stream_};
  launch("add_partials", add_partials_kernel, shape, target.as<float>(), partials, blocks, stride,
         first, columns);
}

template void CudaOps<float>::add_total(Tensor, const Scratch<float>&, int64_t, int64_t, int64_t,
                                        int64_t);
template void CudaOps<BFloat16>::add_total(Tensor, const Scratch<float>&, int64_t, int64_t, int64_t,
                                           int64_t);
template void CudaOps<float>::add_partials(Tensor, const Scratch<float>&, int64_t, int64_t,
                                           int64_t);
template void CudaOps<BFloat16>::add_partials(Tensor, const Scratch<float>&, int64_t, int64_t,
                                              int64_t);

}  // namespace normlab

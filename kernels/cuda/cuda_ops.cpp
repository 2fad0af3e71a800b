// The host side of CudaOps: device, memory, streams, transfers.
#include "kernels/cuda/cuda_ops.h"

#include <algorithm>
#include <cstring>

namespace normlab {
namespace {

cudaDeviceProp current_device() {
  int device = 0;
  check_cuda(cudaGetDevice(&device), "asking for the CUDA device");
  cudaDeviceProp properties;
  check_cuda(cudaGetDeviceProperties(&properties, device), "asking the CUDA device what it has");
  return properties;
}

// The name of the current device. The first member to be initialised: no work is begun on a device
// that the kernels were not compiled for.
std::string name_of_supported_device() {
  const cudaDeviceProp properties = current_device();
  constexpr int kFirstMajor = 8;
  if (properties.major < kFirstMajor) {
    throw input_error(std::string(properties.name) + " has compute capability " +
                      std::to_string(properties.major) + "." + std::to_string(properties.minor) +
                      " (the kernels need 8.0, for bf16 on tensor cores and asynchronous copies). "
                      "Use device: cpu, or a GPU of 2020 or later");
  }
  return properties.name;
}

cudaStream_t create_cuda_stream() {
  cudaStream_t stream = nullptr;
  // Without the implicit order between other streams and CUDA's default one.
  check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
  return stream;
}

size_t bytes_of(ConstTensor tensor) {
  return static_cast<size_t>(tensor.elements() * size_of(tensor.dtype));
}

[[noreturn]] void throw_out_of_memory(int64_t bytes) {
  size_t free_bytes = 0, total_bytes = 0;
  check_cuda(cudaMemGetInfo(&free_bytes, &total_bytes), "asking for the free memory of the GPU");
  throw Error("cannot allocate " + std::to_string(bytes) + " bytes of GPU memory (" +
              std::to_string(free_bytes) + " of " + std::to_string(total_bytes) +
              " bytes are free). Make batch.micro_batch or the model smaller, or end what else "
              "runs on the GPU");
}

std::byte* device_memory(int64_t bytes) {
  void* data = nullptr;
  // CUDA gives no pointer for no bytes.
  const cudaError_t status = cudaMalloc(&data, static_cast<size_t>(std::max<int64_t>(bytes, 1)));
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // or the next kernel's launch would be taken for the culprit
    throw_out_of_memory(bytes);
  }
  check_cuda(status, "allocating GPU memory");
  return static_cast<std::byte*>(data);
}

// Owners go when work that uses their memory may still be queued.
void free_device_memory(Ops*, std::byte* data) {
  cudaDeviceSynchronize();
  cudaFree(data);
}
void free_pinned_memory(Ops*, std::byte* data) {
  cudaDeviceSynchronize();
  cudaFreeHost(data);
}

}  // namespace

void check_cuda(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw Error(std::string(what) + " failed (CUDA: " + cudaGetErrorString(status) + ")");
}

template <typename Working>
CudaOps<Working>::CudaOps(Masters masters) : name_(name_of_supported_device()), masters_(masters) {
  multiprocessors_ = current_device().multiProcessorCount;
  stream_ = create_cuda_stream();
  streams_.push_back(stream_);
  state_ = reinterpret_cast<DeviceState*>(device_memory(sizeof(DeviceState)));
  void* downloaded = nullptr;
  check_cuda(cudaMallocHost(&downloaded, sizeof(DeviceState)), "allocating pinned memory");
  downloaded_ = static_cast<DeviceState*>(downloaded);
  const DeviceState initial;
  staging_.upload(state_, &initial, sizeof(initial), stream_);
}

template <typename Working>
CudaOps<Working>::~CudaOps() {
  cudaDeviceSynchronize();
  cudaFree(scratch_);
  cudaFree(state_);
  cudaFreeHost(downloaded_);
  for (const cudaEvent_t event : events_) cudaEventDestroy(event);
  for (const cudaStream_t stream : streams_) cudaStreamDestroy(stream);
}

template <typename Working>
std::string CudaOps<Working>::device_name() const {
  return masters_ == Masters::kept ? name_ : name_ + ", bf16 alone";
}

template <typename Working>
Memory CudaOps<Working>::allocate(int64_t bytes) {
  return {this, device_memory(bytes), bytes, free_device_memory};
}

template <typename Working>
Memory CudaOps<Working>::allocate_pinned(int64_t bytes) {
  void* data = nullptr;
  const cudaError_t status =
      cudaMallocHost(&data, static_cast<size_t>(std::max<int64_t>(bytes, 1)));
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw Error("cannot allocate " + std::to_string(bytes) +
                " bytes of pinned memory (the host has not so much that can be locked). Make "
                "batch.micro_batch smaller, or raise the limit of locked memory (ulimit -l)");
  }
  check_cuda(status, "allocating pinned memory");
  return {this, static_cast<std::byte*>(data), bytes, free_pinned_memory};
}

template <typename Working>
Stream CudaOps<Working>::create_stream() {
  streams_.push_back(create_cuda_stream());
  return {static_cast<int>(streams_.size()) - 1};
}

template <typename Working>
Event CudaOps<Working>::create_event() {
  cudaEvent_t event = nullptr;
  // An event that takes the time costs more, and nobody asks for it.
  check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "creating an event");
  events_.push_back(event);
  return {static_cast<int>(events_.size()) - 1};
}

template <typename Working>
void CudaOps<Working>::record(Event event, Stream stream) {
  check_cuda(cudaEventRecord(events_.at(static_cast<size_t>(event.id)),
                             streams_.at(static_cast<size_t>(stream.id))),
             "recording an event");
}

template <typename Working>
void CudaOps<Working>::wait(Stream stream, Event event) {
  check_cuda(cudaStreamWaitEvent(streams_.at(static_cast<size_t>(stream.id)),
                                 events_.at(static_cast<size_t>(event.id)), 0),
             "waiting for an event");
}

template <typename Working>
bool CudaOps<Working>::event_reached(Event event) {
  const cudaError_t status = cudaEventQuery(events_.at(static_cast<size_t>(event.id)));
  if (status == cudaErrorNotReady) {
    cudaGetLastError();  // or the next kernel's launch would be taken for the culprit
    return false;
  }
  check_cuda(status, "asking for an event");
  return true;
}

template <typename Working>
void* CudaOps<Working>::native_stream(Stream stream) {
  return streams_.at(static_cast<size_t>(stream.id));
}

template <typename Working>
void CudaOps<Working>::synchronize() {
  check_cuda(cudaDeviceSynchronize(), "waiting for the GPU");
}

template <typename Working>
void CudaOps<Working>::upload(Tensor target, const void* source) {
  check(target.contiguous(), "upload to a contiguous tensor");
  staging_.upload(target.data, source, bytes_of(target), stream_);
}

template <typename Working>
void CudaOps<Working>::upload_async(Tensor target, const void* source, Stream stream) {
  check(target.contiguous(), "upload to a contiguous tensor");
  if (target.elements() == 0) return;
  check_cuda(cudaMemcpyAsync(target.data, source, bytes_of(target), cudaMemcpyHostToDevice,
                             streams_.at(static_cast<size_t>(stream.id))),
             "upload");
}

template <typename Working>
void CudaOps<Working>::download(void* target, ConstTensor source) {
  check(source.contiguous(), "download from a contiguous tensor");
  if (source.elements() == 0) return;
  check_cuda(
      cudaMemcpyAsync(target, source.data, bytes_of(source), cudaMemcpyDeviceToHost, stream_),
      "download");
  check_cuda(cudaStreamSynchronize(stream_), "download");
}

template <typename Working>
StepResult CudaOps<Working>::download_step_result() {
  check_cuda(
      cudaMemcpyAsync(downloaded_, state_, sizeof(DeviceState), cudaMemcpyDeviceToHost, stream_),
      "downloading the step's result");
  check_cuda(cudaStreamSynchronize(stream_), "downloading the step's result");
  const StepState& step = downloaded_->step;
  return {downloaded_->loss, downloaded_->std_loss, step.gradient_norm, step.clip_scale,
          step.finite};
}

template <typename Working>
std::byte* CudaOps<Working>::scratch_bytes(int64_t bytes) {
  if (bytes <= scratch_capacity_) return scratch_;
  // Doubling, so that a run grows it a few times in its first step and never again.
  constexpr int64_t kLeast = int64_t{1} << 20;
  const int64_t capacity = std::max({kLeast, bytes, 2 * scratch_capacity_});
  check_cuda(cudaStreamSynchronize(stream_), "waiting for the users of scratch memory");
  check_cuda(cudaFree(scratch_), "freeing scratch memory");
  scratch_ = nullptr;
  scratch_capacity_ = 0;
  scratch_ = device_memory(capacity);
  scratch_capacity_ = capacity;
  return scratch_;
}

template class CudaOps<float>;
template class CudaOps<BFloat16>;

}  // namespace normlab

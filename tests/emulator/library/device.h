// The emulated device behind the runtime: streams that take work and do it late, in any order that
// streams and events allow. Work is done only when the host waits or asks how far it is, so that an
// order that was forgotten shows in the numbers.
//
// What a kernel does wrong comes as emulator::Failure from the call that waits for it. What is
// asked wrongly of the runtime comes as CUDA's status.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/emulator/library/memory.h"

// The number of the last record; 0: none yet.
struct CUevent_st {
  uint64_t record = 0;
};

namespace normlab::emulator {

// Whose work comes first among streams that can go on.
enum class StreamOrder {
  shuffled,      // each time another's
  oldest_first,  // the stream that was created first goes as far as it can
  newest_first,
};

struct StreamSettings {
  StreamOrder order = StreamOrder::shuffled;
  uint64_t seed = 0;  // of StreamOrder::shuffled
};

void configure_streams(const StreamSettings& settings);

class Device {
 public:
  Device();
  ~Device();

  DeviceMemory& memory() { return memory_; }
  void configure(const StreamSettings& settings);

  std::byte* allocate_pinned(size_t bytes);
  bool release_pinned(const void* data);
  bool is_pinned(const void* data, size_t bytes) const;

  cudaStream_t create_stream();
  // Its work is still done. False where there is no such stream.
  bool destroy_stream(cudaStream_t handle);
  bool knows_stream(cudaStream_t handle) const;
  cudaEvent_t create_event();
  bool destroy_event(cudaEvent_t handle);
  bool knows_event(cudaEvent_t handle) const;

  // Work of a stream that knows_stream().
  void enqueue(cudaStream_t stream, const std::string& name, std::function<void()> work);
  // Work that waits for other processes: `ready` is asked again and again, while other streams go
  // on. It may not look at the device's memory.
  void enqueue_when(const std::function<bool()>& ready, cudaStream_t stream,
                    const std::string& name, std::function<void()> work);
  void record(cudaEvent_t event, cudaStream_t stream);
  // Waits for what the event's last record, if any, stands for at this moment.
  void wait(cudaStream_t stream, cudaEvent_t event);

  // Whether an event's last record is reached; where it is not, one piece of work is done.
  bool query(cudaEvent_t event);
  // Do work until an event's last record is reached, or one stream, or all, have none left. Throws
  // Failure, also where other processes let it wait for ever; then all work is forgotten. While an
  // exception is on its way nothing is thrown.
  void synchronize(cudaEvent_t event);
  void synchronize(cudaStream_t stream);
  void synchronize();

 private:
  class Stream;
  Stream& known(cudaStream_t handle);
  void run_until(const std::function<bool()>& done);
  // Forgets all work where it fails.
  void run(const std::function<void()>& work);
  // One piece of work; at most a look, where all that is left waits for other processes.
  void work_once();
  bool can_go_on(const Stream& stream) const;
  Stream* choose();
  void run_next(Stream& stream);
  void wait_for_others();
  void forget_work();

  StreamSettings settings_;
  uint64_t draws_ = 0;
  int64_t idle_looks_ = 0;  // in a row, at work that waits for other processes
  DeviceMemory memory_;
  std::optional<DeviceMemory::Access> access_;  // from the first work to the end of run()
  std::map<const std::byte*, std::vector<std::byte>> pinned_;
  std::vector<std::unique_ptr<Stream>> streams_;  // in the order of creation
  std::vector<std::unique_ptr<CUevent_st>> events_;
  uint64_t records_ = 0;
  std::set<uint64_t> pending_records_;
};

// The device of this process.
Device& device();

}  // namespace normlab::emulator

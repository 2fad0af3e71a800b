#include "tests/emulator/library/device.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <iterator>
#include <thread>
#include <utility>

#include "kernels/random.h"
#include "tests/emulator/emulator.h"

namespace normlab::emulator {
namespace {

constexpr size_t kMemoryBytes = size_t{16} << 30;

// Between looks at work that waits for other processes; and how many looks are for ever.
constexpr std::chrono::microseconds kLook{50};
constexpr int64_t kForever = std::chrono::minutes(2) / kLook;

// Does nothing until `record` is reached, 0: waits for nothing, and `ready`, if any, says so.
struct Task {
  std::string name;
  uint64_t waits_for = 0;
  std::function<bool()> ready;
  std::function<void()> work;
};

}  // namespace

class Device::Stream final : public CUstream_st {
 public:
  explicit Stream(Device& device) : device_(device) {}

  void enqueue(const std::string& name, const std::vector<const void*>& pointers,
               std::function<void()> work) override {
    for (const void* pointer : pointers) {
      if (pointer == nullptr || device_.memory_.contains(pointer, 0)) continue;
      throw Failure("kernel " + name + ": is given " +
                    (device_.is_pinned(pointer, 0) ? "pinned host memory" : "host memory") +
                    " or memory that was freed, where it needs the device's");
    }
    device_.enqueue(this, "kernel " + name, std::move(work));
  }

  std::deque<Task> tasks;
  bool destroyed = false;
  bool held_up = false;  // by another process, when it was last looked at

 private:
  Device& device_;
};

Device& device() {
  static Device only;
  return only;
}

void configure_streams(const StreamSettings& settings) { device().configure(settings); }

Device::Device() : memory_(kMemoryBytes) {}
Device::~Device() = default;

void Device::configure(const StreamSettings& settings) {
  settings_ = settings;
  draws_ = 0;
}

std::byte* Device::allocate_pinned(size_t bytes) {
  std::vector<std::byte> own(bytes, std::byte{0xFF});
  std::byte* data = own.data();
  pinned_.emplace(data, std::move(own));
  return data;
}

bool Device::release_pinned(const void* data) {
  return pinned_.erase(static_cast<const std::byte*>(data)) > 0;
}

bool Device::is_pinned(const void* data, size_t bytes) const {
  const auto* first = static_cast<const std::byte*>(data);
  const auto after = pinned_.upper_bound(first);
  if (after == pinned_.begin()) return false;
  const auto& [begin, own] = *std::prev(after);
  const auto offset = static_cast<size_t>(first - begin);
  return offset < own.size() && bytes <= own.size() - offset;
}

cudaStream_t Device::create_stream() {
  streams_.push_back(std::make_unique<Stream>(*this));
  return streams_.back().get();
}

bool Device::knows_stream(cudaStream_t handle) const {
  return std::ranges::any_of(
      streams_, [&](const auto& own) { return own.get() == handle && !own->destroyed; });
}

Device::Stream& Device::known(cudaStream_t handle) { return static_cast<Stream&>(*handle); }

bool Device::destroy_stream(cudaStream_t handle) {
  if (!knows_stream(handle)) return false;
  known(handle).destroyed = true;
  std::erase_if(streams_, [](const auto& own) { return own->destroyed && own->tasks.empty(); });
  return true;
}

cudaEvent_t Device::create_event() {
  events_.push_back(std::make_unique<CUevent_st>());
  return events_.back().get();
}

bool Device::knows_event(cudaEvent_t handle) const {
  return std::ranges::any_of(events_, [&](const auto& own) { return own.get() == handle; });
}

bool Device::destroy_event(cudaEvent_t handle) {
  return std::erase_if(events_, [&](const auto& own) { return own.get() == handle; }) > 0;
}

void Device::enqueue(cudaStream_t stream, const std::string& name, std::function<void()> work) {
  known(stream).tasks.push_back({name, 0, nullptr, std::move(work)});
}

void Device::enqueue_when(const std::function<bool()>& ready, cudaStream_t stream,
                          const std::string& name, std::function<void()> work) {
  known(stream).tasks.push_back({name, 0, ready, std::move(work)});
}

void Device::record(cudaEvent_t event, cudaStream_t stream) {
  const uint64_t record = ++records_;
  event->record = record;
  pending_records_.insert(record);
  enqueue(stream, "record", [this, record] { pending_records_.erase(record); });
}

void Device::wait(cudaStream_t stream, cudaEvent_t event) {
  known(stream).tasks.push_back({"wait", event->record, nullptr, [] {}});
}

bool Device::query(cudaEvent_t event) {
  const auto reached = [&] { return !pending_records_.contains(event->record); };
  if (!reached()) run([&] { work_once(); });
  return reached();
}

void Device::synchronize(cudaEvent_t event) {
  const uint64_t record = event->record;
  run_until([&] { return !pending_records_.contains(record); });
}

void Device::synchronize(cudaStream_t stream) {
  run_until([&] { return known(stream).tasks.empty(); });
}

void Device::synchronize() {
  run_until([&] {
    return std::ranges::all_of(streams_, [](const auto& own) { return own->tasks.empty(); });
  });
  std::erase_if(streams_, [](const auto& own) { return own->destroyed; });
}

void Device::run_until(const std::function<bool()>& done) {
  if (done()) return;
  idle_looks_ = 0;
  run([&] {
    while (!done()) work_once();
  });
}

void Device::run(const std::function<void()>& work) {
  const bool unwinding = std::uncaught_exceptions() > 0;
  const struct Close {
    std::optional<DeviceMemory::Access>& access;
    ~Close() { access.reset(); }
  } close{access_};
  try {
    work();
  } catch (const Failure&) {
    forget_work();
    if (!unwinding) throw;
  }
}

// What a stream waits for was enqueued before the wait: there is always one that can go on, if
// other processes do.
void Device::work_once() {
  if (Stream* stream = choose()) {
    run_next(*stream);
  } else {
    wait_for_others();
  }
}

bool Device::can_go_on(const Stream& stream) const {
  return !stream.tasks.empty() && !stream.held_up &&
         !pending_records_.contains(stream.tasks.front().waits_for);
}

Device::Stream* Device::choose() {
  std::vector<Stream*> able;
  for (const auto& own : streams_) {
    if (can_go_on(*own)) able.push_back(own.get());
  }
  if (able.empty()) return nullptr;
  switch (settings_.order) {
    case StreamOrder::shuffled:
      return able[mix(mix(settings_.seed) ^ draws_++) % able.size()];
    case StreamOrder::oldest_first:
      return able.front();
    case StreamOrder::newest_first:
      return able.back();
  }
  throw Failure("unknown order of streams");
}

void Device::run_next(Stream& stream) {
  stream.held_up = stream.tasks.front().ready && !stream.tasks.front().ready();
  if (stream.held_up) return;
  const Task task = std::move(stream.tasks.front());
  stream.tasks.pop_front();
  idle_looks_ = 0;
  if (!access_) access_.emplace(memory_);
  task.work();
  const std::string overrun = memory_.overrun();
  if (!overrun.empty()) throw Failure(task.name + ": " + overrun);
}

void Device::wait_for_others() {
  std::string name;
  for (const auto& own : streams_) {
    if (std::exchange(own->held_up, false)) name = own->tasks.front().name;
  }
  if (++idle_looks_ > kForever) {
    idle_looks_ = 0;
    throw Failure(name + ": waits for ever");
  }
  std::this_thread::sleep_for(kLook);
}

void Device::forget_work() {
  for (const auto& own : streams_) {
    own->tasks.clear();
    own->held_up = false;
  }
  pending_records_.clear();
}

}  // namespace normlab::emulator

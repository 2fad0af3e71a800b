#include "engine/communicator.h"

#include <algorithm>
#include <thread>

#include "engine/log.h"
#include "engine/stop_request.h"

namespace normlab {

OwnPart own_part(int64_t n, int rank, int ranks) {
  constexpr int64_t kMultiple = 64;
  const int64_t each = n / ranks / kMultiple * kMultiple;
  return {rank * each, rank == ranks - 1 ? n : (rank + 1) * each};
}

Communicator::Communicator(JobPlace place, double timeout_seconds)
    : place_(std::move(place)),
      timeout_seconds_(timeout_seconds),
      ledger_(place_.rank, place_.ranks) {}

bool Communicator::any(bool value) {
  const std::vector<uint64_t> all = gather(value ? 1 : 0);
  return std::any_of(all.begin(), all.end(), [](uint64_t one) { return one != 0; });
}

bool Communicator::all_equal(uint64_t value) {
  const std::vector<uint64_t> all = gather(value);
  return std::all_of(all.begin(), all.end(), [value](uint64_t one) { return one == value; });
}

void Communicator::fail(const std::string& why) const {
  throw Error(ErrorKind::communication,
              "communication between the " + std::to_string(ranks()) + " ranks failed (" + why +
                  "). The same command goes on from the last checkpoint. What each rank was "
                  "doing: " +
                  ledger_.report());
}

Communicator::Wait::Wait(Communicator& communicator)
    : communicator_(communicator), began_(Clock::now()), looked_(began_) {}

// Yields at first, then sleeps: the threads of another rank may want this core.
std::string Communicator::Wait::pause() {
  constexpr int64_t kEager = 2000;
  constexpr std::chrono::milliseconds kLook{500};
  if (++pauses_ < kEager) {
    std::this_thread::yield();
  } else {
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  const auto now = Clock::now();
  // A launcher that sees a rank die tells the others to stop, and does not wait for long.
  if (now - looked_ <= kLook && (!stop_requested() || stop_seen_)) return "";
  looked_ = now;
  stop_seen_ = stop_requested();
  if (const std::vector<int> gone = communicator_.ledger().gone(); !gone.empty()) {
    return "rank " + std::to_string(gone.front()) + " has ended";
  }
  const double limit = communicator_.timeout_seconds();
  if (now - began_ <= std::chrono::duration<double>(limit)) return "";
  return "a rank did not answer for " + duration_text(limit) + ", parallel.timeout_seconds";
}

namespace {

class LocalCommunicator final : public Communicator {
 public:
  LocalCommunicator() : Communicator(JobPlace{}, 0) {}
  std::string description() const override { return "none (a job of one rank)"; }
  void sum(Tensor) override {}
  void sum_parts(Tensor) override {}
  void gather_parts(Tensor) override {}
  void send(ConstTensor, int) override {}
  void receive(Tensor, int) override {}
  void broadcast(Tensor, int) override {}
  void join() override {}
  void sum(std::span<double>) override {}
  std::vector<uint64_t> gather(uint64_t value) override { return {value}; }
  void end_job(int exit_code) override { std::exit(exit_code); }
  void attach(Ops&) override {}
  void detach() override {}
};

}  // namespace

std::unique_ptr<Communicator> make_local_communicator() {
  return std::make_unique<LocalCommunicator>();
}

}  // namespace normlab

// TimedOps: another Ops, and the seconds of each verb. Of a device whose verbs are done when they
// return, the CPU.
#pragma once

#include <chrono>
#include <map>
#include <string>

#include "kernels/observed_ops.h"

namespace normlab {

class TimedOps final : public ObservedOps {
 public:
  struct Total {
    int64_t calls = 0;
    double seconds = 0;
    double flops = 0;  // of products; 0 of all else
  };

  using ObservedOps::ObservedOps;
  const std::map<std::string, Total>& totals() const { return totals_; }
  void forget() { totals_.clear(); }

 private:
  void observe(const ObservedVerb& verb, const std::function<void()>& run) override {
    const auto begin = std::chrono::steady_clock::now();
    run();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
    Total& total = totals_[verb.name];
    ++total.calls;
    total.seconds += elapsed.count();
    total.flops += verb.flops;
  }

  std::map<std::string, Total> totals_;
};

}  // namespace normlab

// A measurement of depth as JSON, as a table and as a page.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <ostream>
#include <string>
#include <vector>

#include "engine/analysis/depth.h"
#include "engine/analysis/recursions.h"

namespace normlab {

// The paper's recursion and product beside the measured variances (L + 1). The recursion begins
// with the output of the paper's layer 1: the embedding before it has whatever variance it was
// initialised with, and layer 1 adds many times as much.
struct FittedRecursion {
  double c = 0;                   // fitted_constant() of the variances from then on
  std::vector<double> variances;  // by the recursion with this c, from the measured first; L
  std::vector<double> bounds;     // gradient_bounds() of what goes into the layers, A = B = 1; L
};
FittedRecursion fit(Recursion recursion, const std::vector<double>& variances);

struct DepthReport {
  std::string model;  // as it was named
  ModelConfig config;
  std::string device;
  std::string precision;
  int64_t tokens_per_sequence = 0;
  JacobianOptions jacobian;
  DepthResult result;
};

// Numbers that are not finite are null.
nlohmann::ordered_json to_json(const DepthReport& report);
void print(std::ostream& out, const DepthReport& report);

}  // namespace normlab

// A measurement of depth as a page to look at.
#pragma once

#include <string>

#include "engine/analysis/depth_report.h"

namespace normlab {

// HTML. Heat maps leave out cells with l + n ≥ L, as the paper's figures do; all numbers are in
// to_json().
std::string html(const DepthReport& report);

}  // namespace normlab

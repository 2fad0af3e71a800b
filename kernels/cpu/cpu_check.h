// Whether the processor has what the kernels were compiled for.
#pragma once

#include <string>

namespace normlab {

// The first feature that the CPU kernels were compiled for and this processor lacks, or "".
std::string missing_cpu_feature();

}  // namespace normlab

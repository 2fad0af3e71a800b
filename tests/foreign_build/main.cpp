// A program that was "compiled for another processor": cpu_check.cpp ends it before main() runs.
#include <cstdio>

#include "kernels/cpu/cpu_check.h"

int main() {
  std::printf("started although %s is missing\n", normlab::missing_cpu_feature().c_str());
  return 0;
}

// The files that this process has mapped into memory: which one was lost, and which were changed
// underneath.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace normlab {

// From where it is mapped until it is unmapped. `descriptor` is the open file's.
void remember_mapping(std::span<const std::byte> bytes, const std::string& path, int descriptor);
void forget_mapping(const std::byte* begin);

// A mapped file that becomes shorter, or whose disk fails, ends the process (SIGBUS) where it is
// read. From now on the process says which file that was, as `program`, and ends with exit code 1.
void explain_lost_files(const std::string& program);

// Those that were written to or cut since they were mapped, so that what is read of them is not
// what was there. (A file that is removed or replaced by another stays as it was for this process.)
std::vector<std::string> files_changed_underneath();

}  // namespace normlab

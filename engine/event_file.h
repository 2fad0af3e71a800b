// TensorBoard's event files: a run's numbers by step, as `tensorboard --logdir` reads them.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace normlab {

struct Scalar {
  std::string tag;  // "train/loss"
  double value = 0;
};

// Castagnoli's CRC: polynomial 0x82F63B78, reflected, begun and ended with all ones.
uint32_t crc32c(std::string_view bytes);

// Records of an event file: a length and a message (TensorFlow's Event), each followed by its
// masked CRC. Times are seconds since 1970.
std::string version_record(double wall_seconds);  // the first of a file
// Readers drop what they have of this step and later ones.
std::string session_start_record(double wall_seconds, int64_t step);
std::string scalars_record(double wall_seconds, int64_t step, const std::vector<Scalar>& scalars);

// One process's part of a run's events, in a file of its own: readers stop at a record that a
// killed process left half written, so nothing is ever appended to an earlier file.
class EventFile {
 public:
  // Of a process that goes on after `step`: readers drop the later steps of earlier files. Nothing
  // is written before the first scalars.
  EventFile(std::string directory, int64_t step);
  // Appends a record and flushes it. A value may be NaN or infinite; it is stored as a float.
  void write(int64_t step, const std::vector<Scalar>& scalars);
  // All records are on the disk when this returns.
  void sync() const;

 private:
  void open();
  void append(const std::string& record);

  std::string directory_;
  int64_t step_;
  std::string path_;  // "": nothing is written yet
  std::ofstream file_;
};

}  // namespace normlab

// JobLedger: what every rank of a job is doing, for the day when one does not answer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace normlab {

// Each rank writes one line of its own file, DIRECTORY/rank-0000, whenever it begins something with
// the others, and reads the others' only to say which one is missing. The directory is one that all
// machines see.
class JobLedger {
 public:
  JobLedger(int rank, int ranks);
  ~JobLedger();
  JobLedger(const JobLedger&) = delete;
  JobLedger& operator=(const JobLedger&) = delete;

  // Until then the ledger is this process's alone. Throws Error where it cannot be written.
  void keep_in(const std::string& directory);

  // Takes this rank's file away: the job has ended well.
  void close();

  // "the gradients of step 12". For what comes next, whatever it is.
  void set_work(const std::string& work);
  // This rank begins an operation with others: "sum of 1,024 numbers".
  void enter(const std::string& operation);
  // It has ended.
  void leave();

  // One line, of each rank: its number, host, process, the last operation that it entered and
  // whether it is in it, what it was doing, since when; and whether its process is known to be
  // gone.
  std::string report() const;
  // This rank is about to say why the job ends; whether another one was.
  void announce_end();
  bool end_announced() const;
  // Ranks of this machine whose process is gone.
  std::vector<int> gone() const;

 private:
  struct Entry {
    std::string host;
    int64_t process = 0;
    int64_t operations = 0;
    bool inside = false;
    double since = 0;  // seconds, of the clock on the wall
    std::string operation, work;
  };
  std::string path_of(int rank) const;
  bool read(int rank, Entry& entry) const;
  void write();
  bool is_gone(const Entry& entry) const;

  int rank_;
  int ranks_;
  std::string directory_;
  int file_ = -1;
  Entry own_;
};

}  // namespace normlab
